"""Sections of the HTML report as text, tables and drawings, which the templates only arrange."""

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import logging

from linearized.base.child_processes import spawned_pool
from linearized.base.errors import UserError
from linearized.base.platforms import usable_cores
from linearized.report import feature_machine_plots, noise_plots, ridge_plots, style, tangent_plots
from linearized.report.runs import Runs
from linearized.storage import results
from linearized.storage.result_schema import choice, fell_short

NO_COMMAND = "not recorded"  # shown for results of version 0.1, which have no command
_NOT_COMPARED = ("num_units", "seed", "weight_seed", "exp_name", "job_id", "memory", "checkpoint_seconds")
MOST_WORKERS, RUNS_A_WORKER = 8, 25  # most drawing processes, and fewest runs for each; one takes two seconds to start
# Columns of the table of runs: name in `linearized.storage.results.collect` -> header. Empty columns are left out.
_COLUMNS = {
    "label": "model", "dataset": "data", "data_noise": "noise", "data_n_train": "n", "test_accuracy": "test accuracy",
    "test_loss": "test loss", "train_loss": "train loss", "validation_accuracy": "validation accuracy",
    "validation_loss": "validation loss", "leave_one_out_accuracy": "leave-one-out accuracy",
    "leave_one_out_loss": "leave-one-out loss", "test_relative_risk": "risk relative to linear", "ridge": "ridge",
    "chosen_by": "ridge chosen by", "flaw": "convergence", "arrays": "arrays",
    "iterations": "steps", "seconds": "seconds",
}  # fmt: skip
_RIDGE_COLUMNS = {
    "index": "index", "ridge": "ridge", "train_loss": "train loss", "validation_loss": "validation loss",
    "leave_one_out_loss": "leave-one-out loss", "gcv": "GCV", "predicted_loss": "predicted test loss",
    "test_loss": "test loss", "validation_accuracy": "validation accuracy",
    "leave_one_out_accuracy": "leave-one-out accuracy", "test_accuracy": "test accuracy",
    "degrees_of_freedom": "degrees of freedom", "iterations": "steps", "residual": "residual",
    "converged": "converged", "message": "the solver says",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PageTable:
    """A table of the HTML report.

    Attributes:
        caption: Text of the caption.
        columns: Pairs (header, whether the column contains numbers).
        rows: Cells of each row.
        links: For each row, the id of the part of the report to which its first cell links; empty without links.
        marked: Index of the row to highlight, or None.
    """

    caption: str
    columns: list[tuple[str, bool]]
    rows: list[list[Any]]
    links: list[str] = dataclasses.field(default_factory=list)
    marked: int | None = None


def _as_table(caption: str, frame: pd.DataFrame, **more: Any) -> PageTable:
    numbers = [bool(pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != bool) for name in frame]
    plain = frame.astype(object).where(frame.notna(), None)
    return PageTable(caption, list(zip(frame.columns, numbers, strict=True)), plain.to_numpy().tolist(), **more)


def _chosen_columns(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return the given columns of a table, without columns that have no values, under the headers of the report.

    Args:
        frame: The table.
        names: Header of each column by its name, in the order of the result.
    """
    filled = [name for name in names if name in frame and (frame[name].notna() & (frame[name] != "")).any()]
    return frame[filled].rename(columns=names)


def facts(runs: Runs) -> list[tuple[str, str]]:
    """Return the facts at the top of the report, such as the number of finished runs, as pairs of name and text.

    Args:
        runs: All runs that the report shows.
    """
    table = runs.table
    missed = len({row for row, _ in runs.missed()})
    found = [("finished runs", str(len(table)))]
    for column, name in (("dataset", "data"), ("model", "models and kernels")):
        values = sorted(map(str, table[column].unique())) if len(table) else []
        found.append((name, ", ".join(values) or "none"))
    told = {"unreadable": len(runs.unreadable), "with unreadable arrays": len(runs.bad_arrays),
            "unfinished": len(runs.unfinished), "not converged": missed}  # fmt: skip
    problems = ", ".join(f"{count} {name}" for name, count in told.items() if count)
    seconds = float(table["seconds"].sum()) if len(table) else 0.0
    if len(runs.theories):
        found.append(("results of theory", str(len(runs.theories))))
    return [*found, ("time to fit", duration(seconds)), ("problems", problems or "none")]


def duration(seconds: float) -> str:
    """Return a time as text in seconds, minutes or hours, such as "12 min".

    Args:
        seconds: The time in seconds.
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def figures(runs: Runs, metrics: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield one picture per dataset and metric, as a mapping with the drawing ("svg") and its "caption".

    Each shows the metric of all runs on the dataset against the noise level. The pictures are narrow enough to be shown
    side by side or on a small screen.

    Args:
        runs: All runs that the report shows.
        metrics: Columns of the table of runs; those without values are left out.
    """
    drawn = runs.table
    diverged = drawn["diverged"].eq(True) if "diverged" in drawn else pd.Series(False, drawn.index)
    for place, dataset in enumerate(sorted(drawn["dataset"].unique()) if len(drawn) else ()):
        rows = drawn[(drawn["dataset"] == dataset) & ~diverged]
        count = int((diverged & (drawn["dataset"] == dataset)).sum())
        left_out = f" Without {count} run{'s' * (count > 1)} that diverged." if count else ""
        for metric in metrics:
            if metric not in rows or not rows[metric].notna().any():
                continue
            name = style.metric_name(metric)
            lines = sorted(rows.loc[rows[metric].notna(), "label"].unique(), key=style.by_numbers)
            picture = noise_plots.noise_curves(rows, metric=metric, narrow=True)
            levels = sorted(rows.loc[rows[metric].notna(), "noise_ind"].unique())
            where = "against the noise level" if len(levels) > 1 else f"at noise level {levels[0]}"
            label = f"{name} on {dataset} {where}: {', '.join(lines)}"
            yield {
                "svg": style.inline_svg(picture, f"noise-{place}-{metric}", label),
                "caption": f"{dataset}: {name} of the chosen ridge {where}; mean over seeds, with the standard "
                f"deviation as an error bar.{left_out}",
            }


def width_figures(runs: Runs) -> Iterator[dict[str, str]]:
    """Yield pictures of test scores and tangent kernels against the width of networks.

    Each is a mapping with the drawing ("svg") and its "caption". There is one picture for each group of runs on the
    same data with equal settings, except for the width, the seeds and settings that do not change results, such as the
    folder. Groups with a single width are left out.

    Args:
        runs: All runs that the report shows.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in runs.records:
        if record.get("tangents", {}).get("epochs"):
            alike = {name: value for name, value in record["settings"].items() if name not in _NOT_COMPARED}
            groups.setdefault(json.dumps([record["data"]["name"], alike], sort_keys=True), []).append(record)
    grids = [records for records in groups.values() if len({one["settings"]["num_units"] for one in records}) > 1]
    for place, records in enumerate(grids):
        what = re.sub(r", N = [\d]+", "", records[0]["title"])
        picture = tangent_plots.width_curves(tangent_plots.measured(records), narrow=True)
        yield {
            "svg": style.inline_svg(picture, f"width-{place}", f"Scores and tangent kernel against the width: {what}"),
            "caption": f"{what}: test scores of networks and of their kernels, and how far the tangent kernel moved, "
            "against the width.",
        }


def table(runs: Runs) -> PageTable | None:
    """Return the table of finished runs, one row per run at its chosen ridge, or None if there are none.

    Args:
        runs: All runs that the report shows.
    """
    if runs.table.empty:
        return None
    frame = _chosen_columns(runs.table, _COLUMNS)
    return _as_table("Every finished run at its chosen ridge.", frame, links=_anchors(len(frame)))


def _anchors(count: int) -> list[str]:
    return [f"run-{row}" for row in range(count)]


def problems(runs: Runs) -> Iterator[PageTable]:
    """Yield one table for each kind of problem that occurred.

    The kinds are results that cannot be read, arrays that cannot be read, runs without a result, and runs with ridges
    that did not converge.

    Args:
        runs: All runs that the report shows.
    """
    if runs.unreadable:
        rows = [[path, reason] for path, reason in runs.unreadable.items()]
        yield PageTable("Results that cannot be read.", [("file", False), ("why", False)], rows)
    if runs.bad_arrays:
        rows = [[runs.records[row]["title"], reason] for row, reason in runs.bad_arrays.items()]
        caption = "Runs whose arrays cannot be read: their scores stand, predictions and the solver's history are lost."
        yield PageTable(caption, [("run", False), ("why", False)], rows, [f"run-{row}" for row in runs.bad_arrays])
    if runs.unfinished:
        rows = [[str(run.folder), run.changed, ", ".join(run.files[:5])] for run in runs.unfinished]
        caption = "Runs without a result: stopped, failed, or still at work. The same command goes on with them."
        yield PageTable(caption, [("folder", False), ("last change, UTC", False), ("files", False)], rows)
    missed = list(dict.fromkeys(row for row, _ in runs.missed()))
    if missed:
        columns = [("run", False), ("ridges", False), ("from", True), ("to", True), ("most steps", True),
                   ("largest residual", True), ("the solver says", False)]  # fmt: skip
        rows = [_missed_row(runs.records[row]) for row in missed]
        caption = (
            "Runs with ridges that did not converge: a residual above its tolerance, or a train loss still changing."
        )
        yield PageTable(caption, columns, rows, [f"run-{row}" for row in missed])


def _missed_row(record: dict[str, Any]) -> list[Any]:
    entries = [entry for entry in record["ridges"] if fell_short(entry)]
    ridges = [entry["ridge"] for entry in entries]
    residuals = [entry["residual"] for entry in entries if entry.get("residual") is not None]
    messages = list(dict.fromkeys(entry["message"] for entry in entries if entry.get("message")))
    return [record["title"], ridge_plots.converged_sentence(record["ridges"]), min(ridges), max(ridges),
            max(entry["iterations"] for entry in entries), max(residuals, default=None),
            "; ".join(messages[:3])]  # fmt: skip


def details(runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the section of the report on each run: curves, ridges and their choice, data, solver, settings, versions.

    Each section is a mapping whose values the template arranges. Drawing takes a third of a second per run, so many
    runs are drawn in parallel.

    Args:
        runs: All runs that the report shows.
    """
    jobs = list(zip(range(len(runs.records)), runs.records, runs.table.get("path", ()), strict=True))
    workers = min(usable_cores(), MOST_WORKERS, len(jobs) // RUNS_A_WORKER)
    if workers < 2:
        yield from map(_detail, jobs)
        return
    with spawned_pool(workers) as pool:
        for done, detail in enumerate(pool.map(_detail, jobs, chunksize=4)):
            if done and done % 50 == 0:
                logging.info("%d of %d runs drawn", done, len(jobs))
            yield detail


def _detail(job: tuple[int, dict[str, Any], str]) -> dict[str, Any]:
    row, record, path = job
    position = record["chosen"]["position"]
    metric = "test_loss" if record["ridges"][position].get("test_accuracy") is None else "test_accuracy"
    frame = _chosen_columns(pd.DataFrame(record["ridges"]), _RIDGE_COLUMNS)
    return {
        "title": record["title"],
        "seeds": _seeds(record.get("made_by") or {}),
        "metric": style.metric_name(metric),
        "value": record["ridges"][position].get(metric),
        "convergence": ridge_plots.converged_sentence(record["ridges"]),
        "missed": any(fell_short(entry) for entry in record["ridges"]),
        "figures": list(_run_figures(row, record, Path(path))),
        "ridges": _as_table("Its ridges; the chosen one is marked.", frame, marked=position),
        "facts": _run_facts(record, path),
        "settings": record["settings"],
        "versions": record["versions"],
    }


def _run_facts(record: dict[str, Any], path: str) -> dict[str, Any]:
    solver, data = record["solver"], record["data"]
    reason = f" ({solver['reason']})" if solver.get("reason") else ""
    found = {"ridge chosen by": choice(record, "chosen")}
    if "chosen_published" in record:
        published = record["ridges"][record["chosen_published"]["position"]]["ridge"]
        found["published choice"] = f"{published:.3g}, by {choice(record, 'chosen_published')}"
    if "ridge_unit" in record:
        found["unit of the ridge"] = record["ridge_unit"]
    found |= {"solver": f"{solver['name']}{reason}"}
    sizes = ", ".join(f"{data[f'n_{split}']} {split}" for split in ("train", "validation", "test")
                      if f"n_{split}" in data)  # fmt: skip
    noise = f"{data['noise']}, " if data.get("noise") else ""
    found |= {"data": f"{data['name']}, {noise}d = {data['dim']}, {sizes}"}
    found["command"] = record.get("command", NO_COMMAND)
    found |= _made_by(record.get("made_by"))
    found |= {"fingerprint of the data": data["fingerprint"], "took": f"{record['seconds']:.1f} s, "
              f"{record['peak_memory_gib']:.2f} GiB", "finished": record["finished"], "folder": path}  # fmt: skip
    return found


def _made_by(made: dict[str, Any] | None) -> dict[str, str]:
    """Return the version, commit, machine and seeds of a run in words, by the name that the report shows for each.

    Args:
        made: Entry "made_by" of the run's `result.json`; None for results before format 3, for which {} is returned.
    """
    if made is None:
        return {}
    commit = f", commit {made['commit']}" if "commit" in made else ""
    machine = made["machine"]
    place = [str(machine[name]) for name in ("name", "processor", "gpus", "system") if machine.get(name)]
    place += [f"{machine['cores']} cores"] if "cores" in machine else []
    place += [f"{machine['memory_gib']} GiB"] if "memory_gib" in machine else []
    seeds = _seeds(made)
    found = {"made by": f"linearized {made['version']}{commit}", "machine": ", ".join(place)}
    return found | ({"seeds": seeds} if seeds else {})


def _seeds(made: dict[str, Any]) -> str:
    """Return the seeds of a run in words; they distinguish runs with the same title.

    Args:
        made: Entry "made_by" of the run's `result.json`.
    """
    return ", ".join(f"{name} {value}" for name, value in made.get("seeds", {}).items())


def _run_figures(row: int, record: dict[str, Any], folder: Path) -> Iterator[str]:
    if len(record["ridges"]) > 1:
        for panel in ridge_plots.ridge_panels(record):
            label = f"{panel} against the ridge: {record['title']}, chosen by {record['chosen']['by']}"
            yield style.inline_svg(ridge_plots.ridge_curves(record, [panel], narrow=True), f"{panel}-{row}", label)
    if "feature_machine" in record:
        for panel in feature_machine_plots.PANELS:
            label = f"{panel} of the feature machine: {record['title']}"
            picture = feature_machine_plots.feature_machine(record, panels=[panel], narrow=True)
            yield style.inline_svg(picture, f"features-{panel}-{row}", label)
    if record.get("tangents", {}).get("epochs"):
        for panel in tangent_plots.PANELS:
            label = f"{panel} of the tangent kernel against the epoch: {record['title']}"
            picture = tangent_plots.lazy_to_rich(record, [panel], narrow=True)
            yield style.inline_svg(picture, f"tangents-{panel}-{row}", label)
    try:
        found = results.load_arrays(folder, "history")
    except UserError as error:
        logging.warning("the solver's history is not drawn: %s", error)
        return
    histories = {name: values for name, values in found.items() if values.ndim == 1 and values.dtype.kind in "fiu"}
    if len(histories) < len(found):
        logging.warning("%s: histories that are not rows of numbers are not drawn", folder / "arrays.h5")
    if any(len(history) > 1 for history in histories.values()):
        label = f"{record['solver']['history']} at each {record['solver']['step']}: {record['title']}"
        yield style.inline_svg(ridge_plots.training_curves(record, histories, narrow=True), f"history-{row}", label)


def origins(runs: Runs) -> list[PageTable]:
    """Return two tables: the datasets that the runs were made with, and the versions of the packages.

    Args:
        runs: All runs that the report shows.
    """
    if not runs.records:
        return []
    return [
        _as_table("Data: a fingerprint is of the raw arrays, the recipe and the part taken.", runs.fingerprints()),
        _as_table("Versions, a row a set that runs were made with.", runs.versions()),
    ]
