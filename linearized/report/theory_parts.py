"""Sections of the HTML report about results of `linearized theory`: a table of them, and a picture of each."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from absl import logging

from linearized.base.errors import UserError
from linearized.experiments.theory import load_arrays
from linearized.experiments.theory_settings import LARGEST_SHARE
from linearized.experiments.theory_table import sentences
from linearized.report.page_parts import NO_COMMAND, PageTable
from linearized.report.style import inline_svg
from linearized.report.theory_plots import theory_figure

_COLUMNS = (("kernel and data", False), ("pool", True), ("n", True), ("ridge", True), ("predicted test loss", True),
            ("pool's other rows", True), ("fresh rows", True), ("leave-one-out", True), ("exponent", True),
            ("seconds", True))  # fmt: skip


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a result's `points` (predicted and measured losses) that the report's table shows.

    It is the entry with the largest number n of train rows up to N/3, for a pool of N rows, at the ridge with the
    smallest predicted loss. If every n is above N/3, it is the entry with the smallest n.

    Args:
        record: Content of `theory.json`, see `linearized.experiments.theory_record.compared`.
    """
    best = [record["points"][place] for place in record["best"]]
    return [best[0], *(point for point in best if not point["beyond"])][-1]


def table(theories: pd.DataFrame) -> PageTable | None:
    """Return a table with one row per result of `linearized theory`; None if there are no results.

    Args:
        theories: Table with one row per result, as `Runs.theories`.
    """
    if theories.empty:
        return None
    rows = []
    for run in theories.to_dict("records"):
        record, point = run["record"], summary(run["record"])
        law = record["exponents"]["predicted"]
        losses = [point.get(name) for name in ("predicted", "other", "fresh", "leave_one_out")]
        rows.append([record["title"], record["pool"], point["n"], point["ridge"], *losses,
                     law["exponent"] if law else None, run["seconds"]])  # fmt: skip
    caption = (f"Every result of linearized theory, at the largest n up to N/{LARGEST_SHARE} of its pool and the ridge "
               "of least predicted loss. The exponent is that of the predicted learning curve.")  # fmt: skip
    return PageTable(caption, list(_COLUMNS), rows, [f"theory-{place}" for place in range(len(rows))])


def details(theories: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Yield the drawing ("svg") and the "caption" of each result of `linearized theory`.

    The caption describes the result in words and states its command. The drawing is "" if the arrays cannot be read.

    Args:
        theories: Table with one row per result, as `Runs.theories`.
    """
    for place, run in enumerate(theories.to_dict("records")):
        record, picture = run["record"], ""
        try:
            figure = theory_figure(record, load_arrays(run["path"]))
            picture = inline_svg(figure, f"theory-{place}", f"Predicted and measured losses: {record['title']}")
        except UserError as error:
            logging.warning("the picture of a theory is left out: %s", error)
        said = ". ".join([record["title"], *sentences(record)])
        yield {
            "svg": picture,
            "caption": f"{said}. Command: {record.get('command', NO_COMMAND)}. Folder: {run['path']}",
        }
