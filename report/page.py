"""One self-contained page of results: figures as vector drawings, sortable tables, every run with its curves.

The page asks the network for nothing, and says so to the browser in its content security policy. Without scripts it
shows the same; with them tables are sorted by a click on a header (tablesort, MIT, inside the page) and rows are found
by typing. Costs about a tenth of a second and 40 kB a run.
"""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from absl import logging
from markupsafe import Markup

from data import results
from data.files import whole_file
from report import noise_plots, ridge_plots, style
from report.runs import Runs

HERE = Path(__file__).resolve().parent
MAX_STEPS = 300  # points of a solver's history that are drawn
# Columns of the table of runs: the key in `data.results.collect`, the header.
_COLUMNS = {
    "dataset": "data", "data_noise": "noise", "label": "model", "data_n_train": "n", "ridge": "ridge",
    "chosen_by": "ridge chosen by", "train_loss": "train loss", "validation_loss": "validation loss",
    "leave_one_out_loss": "leave-one-out loss", "test_loss": "test loss", "validation_accuracy": "validation accuracy",
    "leave_one_out_accuracy": "leave-one-out accuracy", "test_accuracy": "test accuracy",
    "test_relative_risk": "risk relative to linear", "iterations": "steps", "seconds": "seconds",
}  # fmt: skip


def write_page(runs: Runs, path: Path | str, *, title: str, metrics: tuple[str, ...]) -> Path:
    """Draws everything and writes the page whole or not at all.

    Args:
        metrics: Columns of the table of runs to draw against the noise level, each where it has any value.
    """
    loader = jinja2.FileSystemLoader(HERE / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["inlined"] = lambda name: Markup((HERE / name).read_text(encoding="utf-8").strip())
    environment.filters["cell"] = cell
    environment.filters["sort_key"] = sort_key
    html = environment.get_template("page.html").render(
        title=title,
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        tiles=_tiles(runs),
        figures=list(_figures(runs, metrics)),
        table=_table(runs),
        runs=list(_runs(runs)),
        problems=_problems(runs),
        versions=runs.versions(),
        fingerprints=runs.fingerprints() if runs.records else pd.DataFrame(),
    )
    with whole_file(path) as aside:
        aside.write_text(html, encoding="utf-8")
    return Path(path)


def cell(value: Any) -> str:
    """A value as a table shows it: four digits of a number, a dash for what is not there."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        if value == int(value) and abs(value) < 1e6:
            return str(int(value))
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"
    return str(value)


def sort_key(value: Any) -> str:
    """What a table is sorted by: every digit of a number; what is not there comes last."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "none"
    return repr(float(value)) if isinstance(value, (int, float, np.number)) else str(value)


def _tiles(runs: Runs) -> list[tuple[str, str]]:
    table = runs.table
    failures = len(runs.unreadable) + len(runs.unfinished) + len({row for row, _ in runs.missed()})
    seconds = table["seconds"].sum() if len(table) else 0.0
    names = [(f"{count} {word}", "") for count, word in ((0, ""),) if count]
    for column, word in (("dataset", "data set"), ("model", "model or kernel")):
        found = sorted(map(str, table[column].unique())) if len(table) else []
        names.append(
            (
                word
                if len(found) == 1
                else word.replace("set", "sets").replace("model or kernel", "models and kernels"),
                ", ".join(found) or "none",
            )
        )
    return [("finished runs", str(len(table))), *names, ("computing time", _duration(seconds)),
            ("problems", str(failures) if failures else "none")]  # fmt: skip


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _figures(runs: Runs, metrics: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """A picture a data set and metric, so that each is readable on a phone."""
    for dataset in sorted(runs.table["dataset"].unique()) if len(runs.table) else ():
        rows = runs.table[runs.table["dataset"] == dataset]
        for metric in metrics:
            if metric not in rows or not rows[metric].notna().any():
                continue
            name, levels = style.metric_name(metric), rows.loc[rows[metric].notna(), "noise_ind"].nunique()
            label = f"{name} on {dataset} at {levels} noise level{'s' * (levels > 1)}, a line a model or kernel"
            figure = noise_plots.noise_curves(rows, metric=metric)
            yield {
                "svg": _svg(figure, f"noise-{dataset}-{metric}", label),
                "caption": f"{dataset}: {name} of the chosen ridge "
                "against the noise level. Means over seeds, with the standard deviation as an error bar.",
            }


def _table(runs: Runs) -> dict[str, Any]:
    if runs.table.empty:
        return {"columns": [], "rows": []}
    kept = [key for key in _COLUMNS if key in runs.table and runs.table[key].notna().any()]
    table = runs.table[kept].astype(object).where(runs.table[kept].notna(), None)
    numbers = [pd.api.types.is_numeric_dtype(runs.table[key]) for key in kept]
    return {"columns": list(zip([_COLUMNS[key] for key in kept], numbers, strict=True)),
            "rows": table.to_numpy().tolist()}  # fmt: skip


def _runs(runs: Runs) -> Iterator[dict[str, Any]]:
    for row, (record, about) in enumerate(zip(runs.records, runs.table.to_dict("records"), strict=True)):
        if row and row % 50 == 0:
            logging.info("%d of %d runs drawn", row, len(runs.records))
        chosen = record["ridges"][record["chosen"]["position"]]
        metric = "test_accuracy" if chosen.get("test_accuracy") is not None else "test_loss"
        yield {
            "title": record["title"],
            "result": f"{style.metric_name(metric)} {cell(chosen.get(metric))}",
            "convergence": ridge_plots.converged_sentence(record["ridges"]),
            "missed": not all(entry["converged"] for entry in record["ridges"]),
            "figures": list(_run_figures(row, record, Path(about["path"]))),
            "ridges": _ridge_table(record),
            "facts": _facts(record, about),
            "settings": record["settings"],
            "versions": record["versions"],
        }


def _run_figures(row: int, record: dict[str, Any], folder: Path) -> Iterator[Markup]:
    if len(record["ridges"]) > 1:
        label = f"Loss and accuracy against the ridge of {record['title']}, chosen by {record['chosen']['by']}"
        yield _svg(ridge_plots.ridge_curves(record), f"ridges-{row}", label)
    try:
        histories = results.load_arrays(folder, "history")
    except OSError as error:
        logging.warning("%s has no readable arrays.h5 (%s): its solver's history is not drawn", folder, error)
        return
    thinned = {name: _thinned(history) for name, history in histories.items() if len(history) > 1}
    if thinned:
        label = f"{record['solver']['history']} of {record['title']}, {record['solver']['step']} by {record['solver']['step']}"
        yield _svg(ridge_plots.training_curves(record, histories), f"history-{row}", label)


def _svg(figure, name: str, label: str) -> Markup:
    return Markup(style.inline_svg(figure, name, label))
