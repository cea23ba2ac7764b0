"""Every value that commands leave in a folder, without times of day and seconds, and which of them differ."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from linearized.base import seals
from linearized.base.reading import read_json
from linearized.data.transforms import cache
from linearized.storage.array_files import read_npy, read_npz
from linearized.storage.embeddings import open_embedding
from linearized.storage.gram import open_gram
from linearized.storage.results import load, load_arrays

# Entries that are times, or folders of this one trial
_VARYING = ("fit_seconds", "examples_per_second", "seconds", "memory_gib", "folder", "path")


def values(folder: Path) -> dict[str, Any]:
    """Return every value below a folder's storage by its file and name.

    Raises ValueError or OSError for a file that cannot be read.
    """
    found: dict[str, Any] = {}
    for path in sorted((folder / "storage").rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            kept = {key: value for key, value in _values(path).items() if key.rpartition("/")[2] not in _VARYING}
            found |= {f"{name}:{key}": value for key, value in kept.items()}
    return found


def _values(path: Path) -> dict[str, Any]:
    if path.name == "result.json":
        record = load(path.parent)
        kept = {key: record[key] for key in ("ridges", "chosen", "settings")}
        return {"record": _settled(kept), **load_arrays(path.parent)}
    if path.name == "comparison.json":
        record = read_json(path)
        return {key: _settled(record[key]) for key in ("title", "columns", "rows")}
    if path.name == "gram.json":
        gram = open_gram(path.parent, check=True)
        return {"train": gram.to_memory(), "test": gram.test.to_memory()}
    if path.name == "embedding.json":
        return {key: rows[:] for key, rows in open_embedding(path.parent).splits.items()}
    if path.name == "meta.json":
        if (kept := cache.read(path.parent)) is None:
            raise ValueError(f"{path.parent} is no cache that can be read")
        return {"about": kept[1], **kept[0]}
    reader = _READERS.get(path.suffix)
    return reader(path) if reader else {}


def _html(path: Path) -> dict[str, Any]:
    return {"pictures": len(re.findall("<svg", path.read_text(encoding="utf-8")))}


def _csv(path: Path) -> dict[str, Any]:
    with path.open(newline="") as file:
        return {"rows": [_settled({key: _number(cell) for key, cell in row.items()}) for row in csv.DictReader(file)]}


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _keras(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    if not seals.is_sealed(content):
        raise ValueError(f"{path} has no seal")
    weights: dict[str, Any] = {}

    def keep(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            weights[name] = entry[()]

    stored = zipfile.ZipFile(io.BytesIO(content)).read("model.weights.h5")
    with h5py.File(io.BytesIO(stored)) as file:
        file.visititems(keep)
    return weights


def _png(path: Path) -> dict[str, Any]:
    with Image.open(path) as picture:
        picture.load()  # raises OSError for one that is cut off
        return {"mode": picture.mode}


def _pdf(path: Path) -> dict[str, Any]:
    return {"whole": path.read_bytes().rstrip().endswith(b"%%EOF")}


_READERS = {
    ".html": _html,
    ".csv": _csv,
    ".keras": _keras,
    ".png": _png,
    ".pdf": _pdf,
    ".npy": lambda path: {"array": read_npy(path)},
    ".npz": read_npz,
}


def _settled(value: Any) -> Any:
    """Return a value of JSON without the entries in `_VARYING`, at any depth."""
    if isinstance(value, Mapping):
        return {key: _settled(entry) for key, entry in value.items() if key not in _VARYING}
    if isinstance(value, list | tuple):
        return [_settled(entry) for entry in value]
    return value


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the names of values that are missing, are there in addition, or differ."""
    wrong = sorted(set(expected) ^ set(found))
    return wrong + [name for name in expected if name in found and not _close(expected[name], found[name])]


def _close(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray):
        if not isinstance(theirs, np.ndarray) or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return False
        if ours.dtype.kind not in "fc":
            return np.array_equal(ours, theirs)
        return bool(np.allclose(ours, theirs, rtol=1e-5, atol=1e-7, equal_nan=True))
    if isinstance(ours, Mapping):
        return (isinstance(theirs, Mapping) and ours.keys() == theirs.keys()
                and all(_close(value, theirs[key]) for key, value in ours.items()))  # fmt: skip
    if isinstance(ours, list | tuple):
        return (isinstance(theirs, list | tuple) and len(ours) == len(theirs)
                and all(map(_close, ours, theirs)))  # fmt: skip
    if isinstance(ours, float) and isinstance(theirs, float):
        return bool(np.isclose(ours, theirs, rtol=1e-5, atol=1e-9, equal_nan=True))
    return ours == theirs


def as_words(value: Any) -> str:
    """Return a value shortened for a line of a report."""
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {np.asarray(value).reshape(-1)[:3]}"
    return json.dumps(value, default=str)[:300]
