"""Search of folders for results: finished runs, unreadable results and unfinished runs."""

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from linearized.base.errors import UserError
from linearized.report.noise_plots import labelled
from linearized.report.recipes.theory_figure import collected
from linearized.settings.model_files import MODEL_FILE
from linearized.storage import results
from linearized.storage.array_files import open_hdf5
from linearized.storage.result_schema import fell_short


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A folder that holds work but no result: a run that was stopped, failed, or is still running.

    Attributes:
        folder: Folder of the run.
        changed: Time in UTC when the newest of its files was written.
        files: Paths of its files relative to the folder.
    """

    folder: Path
    changed: str
    files: list[str]


@dataclasses.dataclass(frozen=True)
class Runs:
    """All runs that were found in some folders.

    Attributes:
        table: Table with one row per finished run (`linearized.storage.results.collect`) and its `label` in legends.
        records: Content of the `result.json` of each row of `table`.
        unreadable: Results that could not be read: path -> reason.
        unfinished: Folders of unfinished runs.
        bad_arrays: Runs whose `arrays.h5` is missing or damaged: row of the table -> reason; the column `arrays` of the
            table marks them.
        theories: Table with one row per finished result of `linearized theory`: settings, path, `record` and `seconds`.
    """

    table: pd.DataFrame
    records: list[dict[str, Any]]
    unreadable: dict[str, str]
    unfinished: list[Unfinished]
    bad_arrays: dict[int, str] = dataclasses.field(default_factory=dict)
    theories: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)

    def missed(self) -> list[tuple[int, dict[str, Any]]]:
        """Return all ridges that diverged or did not converge: pairs (row of the table, entry of the ridge)."""
        return [(row, entry) for row, record in enumerate(self.records) for entry in record["ridges"]
                if fell_short(entry)]  # fmt: skip

    def versions(self) -> pd.DataFrame:
        """Return a table with one row per combination of package versions: the number of its runs, and the versions."""
        sets = Counter(json.dumps(record["versions"], sort_keys=True) for record in self.records)
        return pd.DataFrame([{"runs": count, **json.loads(names)} for names, count in sets.most_common()])

    def fingerprints(self) -> pd.DataFrame:
        """Return a table with one row per dataset: name, noise, sizes, fingerprint and the number of runs.

        The fingerprint is a digest of the dataset's content. Datasets that differ in it have separate rows.
        """
        rows = [
            {"data": data["name"], "noise": data.get("noise", ""), "dimension": data["dim"], **_sizes(data),
             "fingerprint": data["fingerprint"]}
            for data in (record["data"] for record in self.records)
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        columns = list(table.columns)
        return table.groupby(columns, dropna=False, sort=True).size().reset_index(name="runs")


def _sizes(data: dict[str, Any]) -> dict[str, int]:
    return {name.removeprefix("n_"): data[name] for name in ("n_train", "n_validation", "n_test") if name in data}


def find(folders: Sequence[Path]) -> Runs:
    """Read all results in the given folders and in folders inside them.

    Args:
        folders: Folders to search.

    Raises:
        UserError: If they contain no finished, unfinished or damaged run.
    """
    missing = [folder for folder in folders if not folder.is_dir()]
    if len(missing) == len(folders):
        raise UserError(f"{' and '.join(map(str, folders))} hold no finished run: there is no such folder. {_HOW}")
    tables = [results.collect(folder) for folder in folders]
    bad = [path for table in tables for path in table.attrs["unreadable"]]
    table = pd.concat([table for table in tables if not table.empty] or [pd.DataFrame()], ignore_index=True)
    unfinished = [run for folder in folders for run in _unfinished(folder)]
    theories = pd.concat([collected(folder) for folder in folders], ignore_index=True)
    if len(theories):
        theories = theories.drop_duplicates("path", ignore_index=True)
    if table.empty and theories.empty and not bad and not unfinished:
        raise UserError(f"{' and '.join(map(str, folders))} hold no finished run. {_HOW}")
    if len(table):
        table = table.drop_duplicates("path")  # one of the folders may be inside another
        table = table.sort_values(["dataset", "model", "noise_ind"], kind="stable", ignore_index=True)
        table["label"] = labelled(table)
    records = [results.load(path) for path in table.get("path", ())]
    bad_arrays = {row: reason for row, path in enumerate(table.get("path", ())) if (reason := _bad_arrays(path))}
    if bad_arrays:
        table["arrays"] = [_LOST if row in bad_arrays else "" for row in range(len(table))]
    unread = {path: _reason(path) for path in dict.fromkeys(bad)}
    return Runs(table, records, unread, unfinished, bad_arrays, theories)


_LOST = "cannot be read"
_HOW = "Make one with: linearized train --model=RF"


def _reason(path: str) -> str:
    try:
        results.load(Path(path).parent)
    except UserError as error:
        return str(error)
    return "It can be read again: it was being changed. Make the page again."


def _bad_arrays(path: str) -> str | None:
    """Return the reason why the arrays of a finished run cannot be read, or None if their digest is correct.

    Args:
        path: Folder of the run.
    """
    try:
        with open_hdf5(Path(path) / "arrays.h5", results.AGAIN):
            return None
    except UserError as error:
        return str(error)


def _unfinished(folder: Path) -> list[Unfinished]:
    """Return the folders inside `folder` with checkpoints, arrays or a model, but without a result."""
    marks = (results.UNFINISHED, "arrays.h5", MODEL_FILE)
    found = {path.parent for mark in marks for path in folder.rglob(mark)}
    runs = []
    for run in sorted(found):
        if results.finished(run):
            continue
        files = [path for path in run.rglob("*") if path.is_file()]
        newest = max((path.stat().st_mtime for path in files), default=run.stat().st_mtime)
        changed = datetime.datetime.fromtimestamp(newest, datetime.UTC).isoformat(sep=" ", timespec="minutes")
        runs.append(Unfinished(run, changed[:16], sorted(str(path.relative_to(run)) for path in files)))
    return runs
