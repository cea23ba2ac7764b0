"""Functions that write and read the results of runs, and that make tables of many runs.

The folder of a run holds two files. `result.json` is the record: settings, versions, fingerprint of the data, metrics
for each ridge. `arrays.h5` contains arrays. `result.json` is written last and atomically, so a folder with this file
belongs to a finished run.
"""

import contextlib
import datetime
import math
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from linearized.base.errors import Interrupted, UserError
from linearized.base.keywords import suggests_keywords
from linearized.base.platforms import peak_bytes
from linearized.base.reading import Absent, Unreadable, read_json
from linearized.base.seals import write_json
from linearized.storage.array_files import open_hdf5
from linearized.storage.files import claimed, whole_file, whole_hdf5
from linearized.storage.result_schema import ALONE, BadRecord, check_record, convergence, flaw

if TYPE_CHECKING:
    import h5py
    import pandas as pd

FORMATS = (
    1,
    2,
    3,
)  # formats of `result.json`, see `linearized.storage.result_schema`; other kinds of files have their own formats
FORMAT = FORMATS[-1]
UNFINISHED = "unfinished"  # folder of a run's checkpoints and finished ridges, removed after its result is written
COMPARISON = "comparison.json"  # result of `linearized compare`, instead of result.json
THEORY = "theory.json"  # result of `linearized theory`, instead of result.json
FINISHED = ("result.json", COMPARISON, THEORY)  # a folder that contains one of them belongs to a finished run
AGAIN = "Remove its folder and run again."
# Columns of `summary` after the metrics, by their names in `collect`.
_SUMMARY = ("model", "dataset", "noise_ind", "data_n_train", "ridge", "chosen_by", "converged", "seconds", "path")
_PACKAGES = ("linearized", "numpy", "scipy", "h5py", "keras", "tensorflow", "jax", "jaxlib", "numba", "neural-tangents",
             "scikit-learn")  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that affect the results, by package name."""
    import importlib.metadata  # slow to import

    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_gib() -> float:
    """Return the peak resident memory in GiB: the largest of this process and of its child processes that have ended.

    The peaks of different processes are not added.
    """
    return round(peak_bytes() / 2**30, 3)


def _plain(value: Any) -> Any:
    """Convert a value that may contain NumPy scalars, arrays and paths to a value that JSON can represent.

    Raises ValueError for NaN and infinity; use None for missing values.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("A result holds a number that is not finite.")
    return str(value) if isinstance(value, Path) else value


def save(folder: Path | str, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Write the result of a run: `arrays.h5`, then `result.json`. Return the path of `result.json`.

    Args:
        folder: Folder of the run.
        record: Content of `result.json`; the versions of packages, the time and the peak memory are added.
        arrays: Arrays by name; "group/name" puts them into a group.

    Raises ValueError if a number in `record` is not finite, and OSError if the disk is full or read-only.
    """
    folder = Path(folder)
    stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    full = {"format": FORMAT, **record, "versions": versions(), "finished": stamp, "peak_memory_gib": peak_memory_gib()}
    full = _plain(full)
    with whole_hdf5(folder / "arrays.h5") as file:
        for name, array in arrays.items():
            file[name] = array
    with whole_file(folder / "result.json") as path:
        write_json(path, full)
    return folder / "result.json"


def finished(folder: Path | str) -> bool:
    """Return whether `folder` contains the `result.json` of a finished run."""
    return (Path(folder) / "result.json").is_file()


@contextlib.contextmanager
def making(folder: Path | str) -> Iterator[Path]:
    """Lock the folder of a run for this process inside a `with` block, and yield the subfolder for its unfinished work.

    The subfolder holds checkpoints and the results for finished ridges, from which an interrupted run continues. If the
    block raises `UserError`, a new run's subfolder without finished ridges is removed; after `Interrupted` the
    subfolder is always kept.

    Raises `Busy` if another process has locked the folder.
    """
    folder = Path(folder)
    fresh = not folder.exists()
    with claimed(folder):
        work = folder / UNFINISHED
        try:
            yield work
        except Interrupted:
            raise
        except UserError:
            if fresh and not any(work.glob("ridge_*.h5")):
                shutil.rmtree(work, ignore_errors=True)
            raise


def read_back(folder: Path | str) -> dict[str, Any] | None:
    """Return the record of a finished run, or None if the run is not finished.

    For a finished run, a line is logged, and leftovers of a process that was killed after it wrote `result.json` are
    removed: `unfinished/` and partial files.

    Raises `UserError` for a damaged record.
    """
    if not finished(folder):
        return None
    logging.info("done before; remove %s to run it again", folder)
    record = load(folder)
    with contextlib.suppress(UserError), claimed(folder):  # if it is locked, the process that finished it cleans up
        shutil.rmtree(Path(folder) / UNFINISHED, ignore_errors=True)
    return record


def load(folder: Path | str) -> dict[str, Any]:
    """Return the record of one finished run, the content of `result.json`.

    A record that version 0.1 wrote has no digest and is read without a check of its bytes.

    Raises `UserError` if the record is missing, damaged or of another format.
    """
    path, advice = Path(folder) / "result.json", AGAIN
    try:
        record = read_json(path, advice)
    except Absent as error:
        raise UserError(f"{folder} holds no result.json: the run is not finished. Run its command again.") from error
    if record.get("format") not in FORMATS:
        raise UserError(f"{path} is not a result of format {', '.join(map(str, FORMATS))}. {advice}")
    try:
        check_record(record)
    except BadRecord as error:
        raise Unreadable(path, f"is damaged or no result of this suite ({error})", advice, reason=str(error)) from error
    settings = record.get("settings", {})
    if "kernel" in settings and "dense_layers" not in settings and type(settings.get("num_layers")) is int:
        settings["num_layers"] -= 1  # version 0.1 also counted the readout layer for kernels
    return record


def load_arrays(folder: Path | str, group: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of one run, from its file `arrays.h5`, by name.

    Args:
        folder: Folder of the run.
        group: Group of the file whose arrays are returned; "" returns all. The names contain the group, "group/name".

    Raises `Unreadable` for a file that is missing or damaged.
    """
    import h5py  # slow to import

    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, entry: "h5py.Group | h5py.Dataset") -> None:
        if isinstance(entry, h5py.Dataset) and name.startswith(f"{group}/" if group else ""):
            arrays[name] = entry[()]

    with open_hdf5(Path(folder) / "arrays.h5", AGAIN) as file:
        file.visititems(keep)
    return arrays


@suggests_keywords
def collect(directory: Path | str, *, every_ridge: bool = False) -> "pd.DataFrame":
    """Return a table of all finished runs below a folder: settings, data, metrics at the chosen ridge, times, path.

    The column `model` contains the name of a model (such as "RF") or of a kernel (such as "RF kernel"). The column
    `flaw` is "diverged" or "not converged" if this is known of the solution at the row's ridge, otherwise "".

    If a setting has the same name as a value that is measured at each ridge, the column of the setting has the prefix
    `setting_`: `iterations` is the solver's number of iterations, `setting_iterations` the setting of a recursive
    feature machine.

    Results that cannot be read are left out. They are logged and listed in the table's `.attrs["unreadable"]`.

    Args:
        directory: Folder of results, which is searched recursively.
        every_ridge: Return one row per ridge of each run instead of one row per run.
    """
    import pandas as pd  # takes half a second, which `--help` and a finished run do not need

    rows, unreadable = [], []
    for path in sorted(Path(directory).rglob("result.json")):
        try:
            record = load(path.parent)
        except UserError as error:
            logging.warning("left out: %s", error)
            unreadable.append(str(path))
            continue
        settings, data, about = record["settings"], record["data"], record["model"]
        common = {"noise_ind": 0, **settings, **{f"data_{key}": value for key, value in data.items()}}
        published = settings.get("dataset") if not settings.get("data") else ""
        common["dataset"] = published or data["name"]
        common["model"] = about.get("name") or settings.get("model") or "unknown"
        common |= {"hidden_layers": about["hidden_layers"]} if "hidden_layers" in about else {}
        by = record["chosen"]["by"] if len(record["ridges"]) > 1 else ALONE  # earlier formats named a criterion
        common |= {"chosen_by": by, "seconds": record["seconds"], "path": str(path.parent)}
        entries = record["ridges"] if every_ridge else [record["ridges"][record["chosen"]["position"]]]
        common |= {f"setting_{name}": settings[name] for name in entries[0] if name in settings}
        rows += [{**common, **entry, "converged": convergence(entry), "flaw": flaw(entry)} for entry in entries]
    table = pd.DataFrame(rows)
    table.attrs["unreadable"] = unreadable
    return table


@suggests_keywords
def summary(directory: Path | str) -> "pd.DataFrame":
    """Return a short table of all finished runs below `directory`, beginning with the metrics at the chosen ridge.

    Metrics of the test rows come before those of validation and train rows, and accuracies before losses. Then follow
    the columns for model, dataset, noise level, number of train rows, ridge, the rule that chose the ridge, whether the
    solution at the ridge converged, seconds and folder. Metrics that no run has are left out. `collect` also returns
    the settings.
    """
    table = collect(directory)
    metrics = [f"{split}_{metric}" for split in ("test", "validation", "leave_one_out", "train")
               for metric in ("accuracy", "loss")]  # fmt: skip
    metrics += sorted(name for name in table if name.startswith("test_") and name not in metrics)
    columns = [name for name in metrics if name in table and table[name].notna().any()]
    short = table[[*columns, *(name for name in _SUMMARY if name in table)]].rename(columns={"data_n_train": "n"})
    short.attrs["unreadable"] = table.attrs["unreadable"]
    return short
