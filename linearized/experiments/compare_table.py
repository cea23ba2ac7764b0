"""The table of `linearized compare`: one line per model, averaged over seeds, and notes on incomplete training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from linearized.base.terminal import Column, print_columns, say
from linearized.storage.result_schema import SETTLED

# Order in which a narrow terminal leaves out columns: the highest rank first; 0 is never left out
RANKS = {"label": 0, "test_accuracy": 0, "test_r2": 0, "trained_to_end": 1, "seconds": 2, "memory_gib": 3, "ridge": 4,
         "trained_parameters": 5, "test_loss": 6, "train_accuracy": 7, "iterations": 8, "loss_change": 9,
         "examples_per_second": 10}  # fmt: skip
SPREAD = ("test_accuracy", "test_r2", "test_loss", "train_accuracy")  # columns that show a standard deviation
NO = "NO"  # entry of the column "trained to its end"
EDGE = "*"  # marks a ridge at an end of its grid

Row = Mapping[str, Any]


def print_comparison(record: Mapping[str, Any]) -> None:
    """Print the table of a comparison and the notes below it.

    In a narrow terminal columns are left out, those with the highest number in `RANKS` first.

    Args:
        record: Content of `comparison.json`.
    """
    print_columns(record["title"], summary(record))
    for note in notes(record["rows"]):
        say(note)


def summary(record: Mapping[str, Any]) -> list[Column]:
    """Return the columns of the table with one cell per model; columns without a value for any run are left out.

    With several seeds a metric is shown as mean ± standard deviation, other numbers as means. A ridge that is the first
    or the last of its grid for at least one seed is marked by an asterisk (`EDGE`), which `notes` explains.

    Args:
        record: Content of `comparison.json`.
    """
    rows, models = record["rows"], by_model(record["rows"])
    ranks = RANKS | ({"test_loss": 0} if all(row.get("test_accuracy") is None and row.get("test_r2") is None
                                             for row in rows) else {})  # fmt: skip
    return [
        Column(record["columns"][name], [_cell(name, own) for own in models.values()], ranks.get(name, 5),
               text=any(isinstance(row.get(name), str) for row in rows))
        for name in record["columns"] if name != "seed" and any(row.get(name) is not None for row in rows)
    ]  # fmt: skip


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the sentences that are printed below the table; each sentence lists models by their labels.

    There is one sentence for each of these that occurs, in this order:

    - models that were not trained to their end: their training loss still changed over the last tenth of the epochs,
    - other models whose best ridge diverged or did not converge,
    - models whose best ridge is at an end of its grid,
    - models whose time and memory do not include the kernel matrix, because it existed before the run.

    Args:
        rows: Measurements, one row per model and seed. A model is listed if the condition holds for at least one seed.
    """
    models, told = by_model(rows), []
    moving = [label for label, own in models.items() if any(abs(row.get("loss_change") or 0) > 100 * SETTLED
                                                            for row in own)]  # fmt: skip
    if moving:
        told.append(
            f"Not trained to their end: {', '.join(moving)}. The training loss still changed by more than "
            f"{SETTLED:.0%} over the last tenth of the epochs; give more of them with --max_cg_iters."
        )
    flawed = [label for label, own in models.items() if label not in moving and any(row.get("flaw") for row in own)]
    if flawed:
        told.append(f"Their best ridge diverged or did not converge: {', '.join(flawed)}. See their own tables.")
    ends = [f"{label} ({', '.join(_ends(own))})" for label, own in models.items() if _ends(own)]
    if ends:
        told.append(f"{EDGE} The ridge is at an end of its grid, and a better one may lie beyond: {', '.join(ends)}. "
                    "krr takes other --ridges; the grid of a network moves with the scale of its inputs.")  # fmt: skip
    found = [label for label, own in models.items() if any(row.get("kernel_found") for row in own)]
    if found:
        told.append("Seconds and memory are without those of the kernel's matrix, which had been made before: "
                    f"{', '.join(found)}.")  # fmt: skip
    return told


def _ends(rows: Sequence[Row]) -> list[str]:
    """Return phrases such as "the smallest for seeds 0, 2", one for each end of the grid that some runs chose.

    Args:
        rows: Measurements of one model, one row per seed.
    """
    found = []
    for side in ("smallest", "largest"):
        seeds = [str(row.get("seed") or 0) for row in rows if row.get("edge") == side]
        every = "" if len(rows) == 1 else f" for seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
        found += [f"the {side}{every}"] if seeds else []
    return found


def by_model(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each model by its label; the order of models and rows is kept."""
    models: dict[str, list[Row]] = {}
    for row in rows:
        models.setdefault(row["label"], []).append(row)
    return models


def untrained(row: Row) -> bool:
    """Return whether a run is known not to have been trained or solved to its end.

    Args:
        row: Row of the comparison, by the names of the columns.
    """
    return row.get("trained_to_end") == NO


def spread(values: Sequence[float]) -> str:
    """Return the mean ± standard deviation of numbers as text, or one number if all are equal.

    It is the sample standard deviation, with n - 1 in the denominator for n numbers.

    Args:
        values: Numbers, one per seed.
    """
    if len(set(values)) == 1:
        return _shown(values[0])
    return f"{_shown(float(np.mean(values)))} ± {np.std(values, ddof=1):.2g}"


def _cell(name: str, rows: Sequence[Row]) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return "-"
    if isinstance(values[0], str):
        return " / ".join(dict.fromkeys(values))
    mark = f" {EDGE}" if name == "ridge" and _ends(rows) else ""
    return spread(values) if name in SPREAD else _shown(float(np.mean(values))) + mark


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
