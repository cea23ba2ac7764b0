"""One run's folder: `result.json` (settings, versions, fingerprint, metrics a ridge) and `arrays.h5`; tables of many.

`result.json` is written last and at once: a folder that has it is a finished run.
"""

import datetime
import importlib.metadata
import json
import math
import platform
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from absl import logging

from data.array_files import open_hdf5
from data.errors import UserError
from data.files import whole_file, whole_hdf5
from data.reading import Absent, read_json

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
_PACKAGES = ("linearized", "numpy", "scipy", "h5py", "keras", "tensorflow", "jax", "numba", "neural-tangents")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on, of those that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_gib() -> float:
    """The largest resident memory of this process so far, in GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as JSON values. Raises ValueError for NaN and infinity: None says "not there"."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("A result holds a number that is not finite.")
    return str(value) if isinstance(value, Path) else value


def save(folder: Path | str, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Writes `arrays.h5`, then `result.json` with the versions, the time and the peak memory added.

    Raises ValueError if a number of `record` is not finite, OSError if the disk is full or read-only.
    """
    folder = Path(folder)
    stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    full = {"format": FORMAT, **record, "versions": versions(), "finished": stamp, "peak_memory_gib": peak_memory_gib()}
    text = json.dumps(_plain(full), indent=1, ensure_ascii=False, allow_nan=False)
    with whole_hdf5(folder / "arrays.h5") as file:
        for name, array in arrays.items():
            file[name] = array
    with whole_file(folder / "result.json") as path:
        path.write_text(text, encoding="utf-8")
    return folder / "result.json"


def finished(folder: Path | str) -> bool:
    """Whether `folder` holds a finished run."""
    return (Path(folder) / "result.json").is_file()


def load(folder: Path | str) -> dict[str, Any]:
    """The record of one run. Raises `UserError` if it is missing, damaged or of another format."""
    path = Path(folder) / "result.json"
    try:
        record = read_json(path, "Remove its folder and run again.")
    except Absent as error:
        raise UserError(f"{folder} holds no result.json: the run is not finished. Run its command again.") from error
    if record.get("format") != FORMAT:
        raise UserError(f"{path} is not a result of format {FORMAT}. Remove its folder and run again.")
    return record


def load_arrays(folder: Path | str, group: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of one run by name ("group/name" for groups): all of them, or those of one `group`.

    Raises `Unreadable` for a file that is missing or damaged.
    """
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, entry: h5py.Group | h5py.Dataset) -> None:
        if isinstance(entry, h5py.Dataset) and name.startswith(f"{group}/" if group else ""):
            arrays[name] = entry[()]

    with open_hdf5(Path(folder) / "arrays.h5", "Remove its folder and run again.") as file:
        file.visititems(keep)
    return arrays


def collect(directory: Path | str, *, every_ridge: bool = False) -> "pd.DataFrame":
    """A table of all finished runs below `directory`: settings, data, metrics of the chosen ridge, times, path.

    The column `model` names a model (RF) or a kernel (RF kernel), so that both can be drawn side by side.

    Args:
        every_ridge: One row a ridge of each run instead of one row a run.

    Results that cannot be read are logged and listed in the table's `.attrs["unreadable"]`.
    """
    import pandas as pd  # half a second that `--help` and a finished run do without

    rows, unreadable = [], []
    for path in sorted(Path(directory).rglob("result.json")):
        try:
            record = load(path.parent)
            common = {**record["settings"], **{f"data_{key}": value for key, value in record["data"].items()}}
            about = record.get("model", {})
            common |= {"model": about["name"]} if "name" in about else {}
            common |= {"hidden_layers": about["hidden_layers"]} if "hidden_layers" in about else {}
            common |= {"chosen_by": record["chosen"]["by"], "seconds": record["seconds"], "path": str(path.parent)}
            entries = record["ridges"] if every_ridge else [record["ridges"][record["chosen"]["position"]]]
            rows += [{**common, **entry} for entry in entries]
        except (UserError, KeyError, IndexError, TypeError) as error:
            logging.warning("skipped %s: %s", path, error)
            unreadable.append(str(path))
    table = pd.DataFrame(rows)
    table.attrs["unreadable"] = unreadable
    return table
