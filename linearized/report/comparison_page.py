"""The HTML report of `linearized compare`: a picture, tables of models and of runs, and curves of each run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from linearized.experiments.compare_table import by_model, notes, summary
from linearized.report import page_parts
from linearized.report.comparison_plots import comparison_bars
from linearized.report.page import now, rendered
from linearized.report.runs import Runs
from linearized.report.style import inline_svg
from linearized.storage import results


def write_comparison_page(record: Mapping[str, Any], path: Path | str) -> Path:
    """Write the HTML report of a comparison atomically, as one self-contained file, and return its path.

    Args:
        record: Content of `comparison.json`. Runs whose folders no longer exist are left out of "Each run".
        path: File to write.
    """
    rows, models = record["rows"], by_model(record["rows"])
    folders = [row["folder"] for row in rows if row.get("folder") and results.finished(row["folder"])]
    runs = Runs(pd.DataFrame({"path": folders}), [results.load(folder) for folder in folders], {}, [])
    label = f"{record['title']}: {', '.join(models)}, one row per model"
    return rendered(
        "comparison.html", path,
        title=record["title"],
        subtitle=f"linearized compare, {now()}",
        facts=_facts(record, runs),
        figure=inline_svg(comparison_bars(record), "comparison", label),
        notes=notes(rows),
        models=_models(record),
        every=_every(record, folders),
        runs=list(page_parts.details(runs)),
        command=record.get("command", page_parts.NO_COMMAND),
    )  # fmt: skip


def _facts(record: Mapping[str, Any], runs: Runs) -> list[tuple[str, str]]:
    """Return the facts at the top of the report, such as the numbers of models and rows, as pairs of name and text.

    Args:
        record: Content of `comparison.json`.
        runs: The runs of the comparison whose folders still exist.
    """
    rows, models = record["rows"], by_model(record["rows"])
    found = [("models", str(len(models))), ("runs of each", str(max(map(len, models.values()))))]
    if runs.records:
        data = runs.records[0]["data"]
        sizes = ", ".join(f"{data[f'n_{split}']:,} {split}" for split in ("train", "validation", "test")
                          if f"n_{split}" in data)  # fmt: skip
        found += [("rows", sizes), ("numbers per row", f"{data['dim']:,}")]
    seconds = sum(row.get("seconds") or 0.0 for row in rows)
    return [*found, ("time of all runs", page_parts.duration(seconds))]


def _models(record: Mapping[str, Any]) -> page_parts.PageTable:
    columns = summary(record)
    rows = [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    several = any(len(own) > 1 for own in by_model(record["rows"]).values())
    caption = "Every model at the ridge that the validation rows choose."
    if several:
        caption += " Metrics are means over the seeds ± their standard deviation; other numbers are means."
    return page_parts.PageTable(caption, [(column.title, not column.text) for column in columns], rows)


def _every(record: Mapping[str, Any], folders: list[str]) -> page_parts.PageTable:
    names = [name for name in record["columns"] if any(row.get(name) is not None for row in record["rows"])]
    rows = [[row.get(name) for name in names] for row in record["rows"]]
    words = {name for name in names if any(isinstance(row.get(name), str) for row in record["rows"])}
    links = [f"run-{folders.index(row['folder'])}" if row.get("folder") in folders else "" for row in record["rows"]]
    columns = [(record["columns"][name], name not in words) for name in names]
    return page_parts.PageTable("Every run.", columns, rows, links)
