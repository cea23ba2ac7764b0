"""The HTML report: one self-contained file with figures as vector drawings, sortable tables and curves of each run.

The file loads nothing from the network; its content security policy enforces this. It shows the same content without
scripts. With scripts, a click on a header sorts a table (by tablesort, MIT licence, which is part of the file), and a
text field filters rows. Each run adds about 50 kB to the file, and a third of a second on one core.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from linearized.report import page_parts, theory_parts
from linearized.report.runs import Runs
from linearized.storage.files import whole_file

HERE = Path(__file__).resolve().parent


def write_page(runs: Runs, path: Path | str, *, folders: Sequence[Path], metrics: Sequence[str]) -> Path:
    """Draw the figures of all runs, write the HTML report atomically and return its path.

    Args:
        runs: The runs.
        path: File to write.
        folders: Folders in which the runs were found, shown at the top of the report.
        metrics: Columns of the table of runs to draw against the noise level; those without values are left out.
    """
    return rendered(
        "page.html", path,
        title="Networks against kernels: results",
        subtitle=" and ".join(map(str, folders)),
        made=now(),
        facts=page_parts.facts(runs),
        figures=list(page_parts.figures(runs, metrics)),
        widths=list(page_parts.width_figures(runs)),
        table=page_parts.table(runs),
        theories=theory_parts.table(runs.theories),
        theory_runs=list(theory_parts.details(runs.theories)),
        problems=list(page_parts.problems(runs)),
        runs=list(page_parts.details(runs)),
        origins=page_parts.origins(runs),
    )  # fmt: skip


def now() -> str:
    """Return the current time in UTC as text for the head of a report."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def rendered(template: str, path: Path | str, **values: Any) -> Path:
    """Write an HTML report from a template of the folder `templates` atomically and return its path.

    Args:
        template: File name of the template.
        path: File to write.
        **values: Values of the names in the template; a missing name is an error.
    """
    loader = jinja2.FileSystemLoader(HERE / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["inlined"] = lambda name: (HERE / name).read_text(encoding="utf-8").strip()
    environment.filters |= {"cell": cell, "sort_key": sort_key}
    html = environment.get_template(template).render(**values)
    with whole_file(path) as aside:
        aside.write_text(html, encoding="utf-8")
    return Path(path)


def cell(value: Any) -> str:
    """Format a value for a table; a missing value is shown as a dash.

    Whole numbers have no decimals, other floats have four decimals or exponent form, and booleans are "yes" or "no".
    """
    if _absent(value):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        if value == int(value) and abs(value) < 1e6:
            return str(int(value))
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"
    return str(value)


def sort_key(value: Any) -> str:
    """Return the text by which a table cell is sorted: six significant digits for a number, "none" if it is missing.

    Args:
        value: Value of the cell.
    """
    if _absent(value):
        return "none"
    return f"{float(value):.6g}" if isinstance(value, (int, float, np.number)) else str(value)


def _absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))
