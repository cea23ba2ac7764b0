"""The table of `linearized compare`: one line per model, its seeds averaged, and what was not trained to its end."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from linearized.base.terminal import Column, print_columns, say
from linearized.storage.result_schema import SETTLED

RANKS = {"label": 0, "iterations": 7, "loss_change": 7, "test_accuracy": 0, "test_loss": 1, "train_accuracy": 6,
         "memory_gib": 5, "examples_per_second": 8, "seconds": 2, "ridge": 4, "trained_to_end": 1}  # fmt: skip
SPREAD = ("test_accuracy", "test_loss", "train_accuracy")


def print_comparison(record: Mapping[str, Any]) -> None:
    """Print the table of a comparison; a narrow terminal leaves out columns, those of higher rank in `RANKS` first.

    With several seeds a metric is their mean ± their standard deviation, other numbers are means.
    """
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in record["rows"]:
        models.setdefault(row["label"], []).append(row)
    columns = [
        Column(title, [_cell(name, rows) for rows in models.values()], RANKS.get(name, 3),
               text=any(isinstance(row.get(name), str) for row in record["rows"]))
        for name, title in record["columns"].items() if name != "seed"
        and any(row.get(name) is not None for row in record["rows"])
    ]  # fmt: skip
    print_columns(record["title"], columns)
    moving = [label for label, rows in models.items()
              if any(abs(row.get("loss_change") or 0) > 100 * SETTLED for row in rows)]  # fmt: skip
    if moving:
        say(f"Not trained to their end: {', '.join(moving)}. The training loss still changed by more than "
            f"{SETTLED:.0%} over the last tenth of the epochs; give more of them with --max_cg_iters.")  # fmt: skip
    flawed = [label for label, rows in models.items() if label not in moving and any(row.get("flaw") for row in rows)]
    if flawed:
        say(f"Their best ridge diverged or did not converge: {', '.join(flawed)}. See their own tables.")


def _cell(name: str, rows: list[Mapping[str, Any]]) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return "-"
    if isinstance(values[0], str):
        return " / ".join(dict.fromkeys(values))
    if name in SPREAD and len(values) > 1:
        return f"{np.mean(values):.4g} ± {np.std(values):.2g}"
    return _shown(float(np.mean(values)))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
