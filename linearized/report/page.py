"""One self-contained page of results: figures as vector drawings, sortable tables, every run with its curves.

The page asks the network for nothing, and its content security policy has the browser see to that. Without scripts it
shows the same; with them tables are sorted by a click on a header (tablesort, MIT, inside the page) and runs are found
by typing. Takes about a third of a second of a core and 50 kB a run.
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
    """Draws everything and writes the page whole or not at all.

    Args:
        folders: Where the runs were found, told at the top.
        metrics: Columns of the table of runs to draw against the noise level, each where it has a value.
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
    """Return the time, UTC, for the head of a page."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def rendered(template: str, path: Path | str, **values: Any) -> Path:
    """Write a page from a template of the folder `templates`, whole or not at all; return its path.

    Args:
        values: What the template names; a name that is missing is an error.
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
    """A value as a table shows it: four digits of a number, a dash for what is not there."""
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
    """What a table is sorted by: six digits of a number; what is not there comes last."""
    if _absent(value):
        return "none"
    return f"{float(value):.6g}" if isinstance(value, (int, float, np.number)) else str(value)


def _absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))
