"""The table at the end of a run: a row a ridge, the chosen one marked."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_table(record: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints ridge, losses, accuracies and the solver's verdict for each ridge of a result."""
    splits = [split for split in ("train", "validation", "test") if f"{split}_loss" in record["ridges"][0]]
    metrics = [m for m in ("loss", "accuracy") if record["ridges"][0][f"test_{m}"] is not None]
    table = Table(title=record["title"])
    scores = [f"{split} {metric}" for split in splits for metric in metrics]
    for name in ("index", "ridge λ", *scores, "steps, residual"):
        table.add_column(name, justify="right", no_wrap=True)
    for position, entry in enumerate(record["ridges"]):
        best = position == record["chosen"]["position"]
        cells = [f"{entry[f'{split}_{metric}']:.4f}" for split in splits for metric in metrics]
        table.add_row(
            f"{'best ' if best else ''}{entry['index']}",
            f"{entry['ridge']:.3e}",
            *cells,
            _verdict(entry),
            style="bold" if best else "",
        )
    console = console or Console()
    if not console.is_terminal:
        console.width = 120  # a file has no width, and a table that is cut is lost
    console.print(table)
    console.print(
        f"best: chosen by {record['chosen']['by']}, {record['seconds']:.0f} s, {record['peak_memory_gib']:.1f} GiB"
    )


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["diverged"]:
        return "diverged"
    if entry["residual"] is None:
        return f"{entry['iterations']} epochs"
    done = "" if entry["converged"] else "NOT converged, "
    return f"{done}{entry['iterations']} it., {entry['residual']:.0e}"
