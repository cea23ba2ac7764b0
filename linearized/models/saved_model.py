"""Reader of the configuration of a saved `.keras` model, such as its input shape, without importing Keras."""

import io
import zipfile
from pathlib import Path
from typing import Any

from linearized.base import seals
from linearized.base.reading import parse_json, parsing, read_bytes
from linearized.models.row_shapes import is_one_shape
from linearized.settings.model_files import ADVICE, advice

MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
CONFIG_LIMIT = 2**28  # largest size of a configuration in bytes; a network of thousands of layers needs a few megabytes


def input_shape(path: Path | str) -> tuple[int | None, ...] | None:
    """Return the shape of a saved model's single input, or None if the file does not state it.

    The first size, the number of rows, is None. The function does not check whether Keras can load the file.

    Raises:
        Absent: If the file does not exist.
        Unreadable: If the file is damaged or not a saved model.
    """
    return _stated_shape(_config(path))


def custom_classes(path: Path | str) -> list[str]:
    """Return the names of the classes in a saved model that do not come with Keras, sorted, each once.

    The names are those under which the classes are registered with Keras.

    Raises:
        Absent: If the file does not exist.
        Unreadable: If the file is damaged or not a saved model.
    """
    found, left = [], [_config(path)]
    while left:
        one = left.pop()
        left += list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        name = one.get("registered_name") if isinstance(one, dict) else None
        if isinstance(name, str) and not str(one.get("module")).startswith("keras"):
            found.append(name)
    return sorted(set(found))


def _config(path: Path | str) -> Any:
    """Return the content of config.json of a saved model, after a check that the file is complete.

    Raises:
        Absent: If the file does not exist.
        Unreadable: If the file is damaged or not a saved model.
    """
    content = read_bytes(path, "a saved model", advice(path), limit=None)
    with parsing(path, "a model that Keras can load", ADVICE):
        seals.is_sealed(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            missing = sorted(set(MEMBERS) - set(archive.namelist()))
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            if archive.getinfo("config.json").file_size > CONFIG_LIMIT:
                raise ValueError("its config.json is too large")
            return parse_json(archive.read("config.json").decode("utf-8"))


def _stated_shape(config: Any) -> tuple[int | None, ...] | None:
    """Return the shape of the single input that a model's configuration states, or None if there is none or several.

    This is the shape of the input layer, or the shape with which a subclassed model was built.

    Args:
        config: Content of config.json of a saved model.
    """
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    inputs = [one for one in layers or () if isinstance(one, dict) and one.get("class_name") == "InputLayer"]
    shape = inputs[0].get("config", {}).get("batch_shape") if len(inputs) == 1 else None
    if isinstance(config, dict) and not layers and isinstance(built := config.get("build_config"), dict):
        shape = built.get("input_shape")
    return tuple(shape) if is_one_shape(shape) else None
