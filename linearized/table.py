"""The tables at the end of a run: a row a ridge, the chosen one marked; a row a noise level."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_EXTRAS = {"leave_one_out_loss": "loo loss", "leave_one_out_accuracy": "loo accuracy", "gcv": "gcv",
           "degrees_of_freedom": "dof"}  # fmt: skip


def print_table(record: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints ridge, losses, accuracies and the solver's verdict for each ridge of a result."""
    entries, best = record["ridges"], record["chosen"]["position"]
    published = record.get("chosen_published", record["chosen"])["position"]
    splits = [split for split in ("train", "validation", "test") if f"{split}_loss" in entries[0]]
    metrics = [
        metric for metric in ("loss", "accuracy") if any(entry[f"train_{metric}"] is not None for entry in entries)
    ]
    columns = {f"{split}_{metric}": f"{split} {metric}" for split in splits for metric in metrics}
    columns |= {} if "accuracy" in metrics else {"test_r2": "test R²"}
    columns |= {name: title for name, title in _EXTRAS.items() if any(entry.get(name) is not None for entry in entries)}
    table = Table(title=record["title"])
    for name in ("index", f"ridge {record.get('ridge_symbol', 'λ')}", *columns.values(), "steps, residual"):
        table.add_column(name, justify="right", no_wrap=len(columns) <= 6 or name not in columns.values())
    for position, entry in enumerate(entries):
        mark = "best " if position == best else "published " if position == published else ""
        table.add_row(
            f"{mark}{entry['index']}",
            f"{entry['ridge']:.3e}",
            *(_number(entry.get(name)) for name in columns),
            _verdict(entry),
            style="bold" if position == best else "",
        )
    console = _print(table, console)
    for entry in entries:
        if entry.get("message"):
            console.print(f"index {entry['index']}: {entry['message']}")
    if published != best:
        console.print(f"published: chosen by {record['chosen_published']['by']}")
    if "linear" in record:
        linear, risk = record["linear"], entries[best]["test_relative_risk"]
        told = "" if linear["test_accuracy"] is None else f", accuracy {linear['test_accuracy']:.4f}"
        console.print(
            f"best linear fit: test loss {linear['test_loss']:.4f}{told}, chosen by {linear['by']}; "
            f"the risk relative to it is {_number(risk)}"
        )
    if "reason" in record.get("solver", {}):
        console.print(f"solver: {record['solver']['name']} ({record['solver']['reason']})")
    console.print(
        f"best: chosen by {record['chosen']['by']}, {record['seconds']:.0f} s, {record['peak_memory_gib']:.1f} GiB"
    )


def print_levels(records: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Prints a row a noise level: what the chosen ridge gives, and what the published, test-chosen one would."""
    regression = all(record["ridges"][0]["test_accuracy"] is None for record in records)
    metric = "test_loss" if regression else "test_accuracy"
    name = metric.replace("_", " ")
    first = records[0]
    table = Table(title=f"{first['model']['name']} on {first['data']['name']}, n = {first['data']['n_train']}")
    titles = ("level", "noise", "chosen by", "ridge", "test loss", "R²", "relative risk", name, f"{name}, linear",
              f"{name}, published choice")  # fmt: skip
    shown = [place for place in range(len(titles)) if not (regression and place == 7)]
    for place in shown:
        table.add_column(titles[place], justify="right")
    for record in records:
        chosen, published = (record["ridges"][record[choice]["position"]] for choice in ("chosen", "chosen_published"))
        cells = [
            str(record["settings"]["noise_ind"]), record["data"]["noise"], record["chosen"]["by"],
            f"{chosen['ridge']:.2e}", *(_number(chosen[key]) for key in ("test_loss", "test_r2", "test_relative_risk")),
            _number(chosen[metric]), _number(record["linear"][metric]), _number(published[metric]),
        ]  # fmt: skip
        table.add_row(*(cells[place] for place in shown))
    _print(table, console)


def _print(table: Table, console: Console | None) -> Console:
    console = console or Console()
    if not console.is_terminal:
        console.width = 160  # a file has no width, and a table that is cut is lost
    console.print(table)
    return console


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["diverged"]:
        return "diverged"
    done = "" if entry["converged"] else "NOT converged, "
    if entry["residual"] is None:
        return f"{done}{entry['iterations']} epochs" if entry["converged"] else "NOT solved"
    return f"{done}{entry['iterations']} it., {entry['residual']:.0e}"
