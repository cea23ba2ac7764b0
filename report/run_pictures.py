"""The pictures beside a result: the ridge curves, and what the solver saw."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.results import load_arrays
from report.ridge_plots import ridge_curves, training_curves
from report.style import save_figure


def draw_run(folder: Path, record: Mapping[str, Any], *, again: bool, solver: str) -> None:
    """Draw `curves.png` and the solver's picture in a run's folder, each where it is missing.

    The solver's picture is left out for a run without a history, such as a direct solution.

    Args:
        record: The run's record, see `data.results.load`.
        again: Draw pictures that are there, too.
        solver: File name of the solver's picture.
    """
    if again or not (folder / "curves.png").is_file():
        save_figure(ridge_curves(record), folder / "curves.png")
    if again or not (folder / solver).is_file():
        arrays = load_arrays(folder, "history")
        if any(len(history) for history in arrays.values()):
            save_figure(training_curves(record, arrays), folder / solver)
