"""Tables at the end of a run: one row per ridge, with the chosen one marked, or one row per noise level."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from linearized.base.terminal import Column, print_columns, say
from linearized.storage.result_schema import choice, convergence

# Order in which a narrow terminal leaves out columns: the highest rank first; 0 is never left out
_RANKS = {
    "test_accuracy": 1, "verdict": 2, "validation_accuracy": 3, "leave_one_out_accuracy": 4, "test_loss": 5,
    "test_r2": 6, "gcv": 7, "validation_loss": 8, "leave_one_out_loss": 8, "train_accuracy": 9, "train_loss": 10,
    "degrees_of_freedom": 11, "prediction_error": 3,
}  # fmt: skip
LARGE_ERROR = 0.03  # error of predictions, in units of the labels, that is reported; classes are separated at about 0.5
_EXTRAS = {"leave_one_out_loss": "loo loss", "leave_one_out_accuracy": "loo accuracy", "gcv": "gcv",
           "degrees_of_freedom": "dof"}  # fmt: skip


def _ranges(indices: list[int]) -> str:
    """Return increasing indices as text, such as "0, 3 to 5"."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def print_table(record: Mapping[str, Any], console: Console | None = None) -> None:
    """Print losses, accuracies and the solver's diagnostics for each ridge of a result.

    Args:
        record: Content of the run's `result.json`.
        console: Console to print to; None: the console of this process.
    """
    entries, best = record["ridges"], record["chosen"]["position"]
    published = record.get("chosen_published", record["chosen"])["position"]
    marks = {published: "published "}
    if "chosen_converged" in record:
        marks[record["chosen_converged"]["position"]] = "best converged "
    marks[best] = "best "
    columns = [
        Column("index", [f"{marks.get(place, '')}{entry['index']}" for place, entry in enumerate(entries)]),
        Column(f"ridge {record.get('ridge_symbol', 'λ')}", [f"{entry['ridge']:.3e}" for entry in entries]),
        *_metrics(entries),
        Column("steps, residual", [_verdict(entry) for entry in entries], _RANKS["verdict"], text=True),
    ]
    errors = [entry.get("prediction_error") for entry in entries]
    if any(error is not None for error in errors):
        cells = ["-" if error is None else f"{error:.0e}" for error in errors]
        columns.append(Column("prediction error <", cells, _RANKS["prediction_error"]))
    styles = ["bold" if place == best else "" for place in range(len(entries))]
    console = print_columns(record["title"], columns, styles=styles, console=console)
    if (errors[best] or 0) > LARGE_ERROR:
        say(f"The predictions at the best ridge may differ from the exact solution's by {errors[best]:.1g} (root mean "
            "square over the train rows): lower --cg_rtol and --cg_atol.", console)  # fmt: skip
    said: dict[str, list[int]] = {}
    for entry in entries:
        if entry.get("message"):
            said.setdefault(entry["message"], []).append(entry["index"])
    for message, indices in said.items():
        say(f"index {_ranges(indices)}: {message}", console)
    if side := record["chosen"].get("edge"):
        say(f"The best ridge is the {side} of its grid; a better one may lie beyond.", console)
    if losses := record.get("loss_by_target"):
        numbers = ", ".join(number(loss) for loss in losses["test"])
        say(f"test loss by target at the best ridge: {numbers}; the losses above are their sums", console)
    if published != best:
        say(f"published: chosen by {choice(record, 'chosen_published')}", console)
    if "linear" in record:
        linear, risk = record["linear"], entries[best]["test_relative_risk"]
        told = "" if linear["test_accuracy"] is None else f", accuracy {linear['test_accuracy']:.4f}"
        say(
            f"best linear fit: test loss {linear['test_loss']:.4f}{told}, chosen by {linear['by']}; "
            f"the risk relative to it is {number(risk)}",
            console,
        )
    if "centres" in record:
        say(_centres(record["centres"], record["data"]["n_train"]), console)
    if "reason" in record.get("solver", {}):
        say(f"solver: {record['solver']['name']} ({record['solver']['reason']})", console)
    say(
        f"best: chosen by {choice(record)}, {record['seconds']:.0f} s, {record['peak_memory_gib']:.1f} GiB",
        console,
    )


def _centres(centres: Mapping[str, Any], rows: int) -> str:
    """Return a line about the centres of a fit: their number, how they were chosen, and the trace that they lose.

    That is the fraction of the trace of the kernel matrix that the trace of the Nyström approximation lacks.

    Args:
        centres: Entry "centres" of `result.json`, see `linearized.experiments.centres_fit.fitted`.
        rows: Number of train rows.
    """
    left_out = centres["asked"] - centres["count"]
    others = f"; {left_out} more are combinations of these" if left_out else ""
    pool = "" if centres["pool"] == rows else f" from {centres['pool']} of them"
    return (f"centres: {centres['count']} of {rows} train rows, {centres['choice']}{pool}{others}; they lose "
            f"{100 * centres['lost']:.2g} % of the trace of K")  # fmt: skip


def _metrics(entries: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of losses, accuracies and the criteria by which the ridge is chosen.

    Columns without numbers are left out.

    Args:
        entries: Scores and diagnostics of the run, one dictionary per ridge.
    """
    splits = [split for split in ("train", "validation", "test") if f"{split}_loss" in entries[0]]
    metrics = [
        metric for metric in ("loss", "accuracy") if any(entry[f"train_{metric}"] is not None for entry in entries)
    ]
    titles = {f"{split}_{metric}": f"{split} {metric}" for split in splits for metric in metrics}
    titles |= {} if "accuracy" in metrics else {"test_r2": "test R²"}
    titles |= {name: title for name, title in _EXTRAS.items() if any(entry.get(name) is not None for entry in entries)}
    ranks = _RANKS if "accuracy" in metrics else {**_RANKS, "test_loss": 1}
    return [Column(title, [number(entry.get(name)) for entry in entries], ranks[name])
            for name, title in titles.items()]  # fmt: skip


def print_levels(records: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print one row per noise level: the metrics at the chosen ridge, and at the ridge with the best test scores.

    Ghorbani et al. (arXiv 2006.13409) choose the ridge with the best test scores.

    Args:
        records: Contents of the `result.json` of a kernel's runs, one per noise level.
        console: Console to print to; None: the console of this process.
    """
    regression = all(record["ridges"][0]["test_accuracy"] is None for record in records)
    metric = "test_loss" if regression else "test_accuracy"
    name = metric.replace("_", " ")
    first = records[0]
    chosen = [record["ridges"][record["chosen"]["position"]] for record in records]
    published = [record["ridges"][record["chosen_published"]["position"]] for record in records]

    def numbers(title: str, entries: Sequence[Mapping[str, Any]], key: str, rank: int = 0) -> Column:
        return Column(title, [number(entry[key]) for entry in entries], rank)

    columns = [
        Column("level", [str(record["settings"]["noise_ind"]) for record in records]),
        Column("noise", [record["data"]["noise"] for record in records], 2, text=True),
        Column("chosen by", [_flawed(record["chosen"]) for record in records], 7, text=True),
        Column("ridge", [f"{entry['ridge']:.2e}" for entry in chosen], 3),
        *([] if regression else [numbers("test loss", chosen, "test_loss", 4)]),
        numbers("R²", chosen, "test_r2", 8),
        numbers("relative risk", chosen, "test_relative_risk", 6),
        numbers(name, chosen, metric),
        numbers(f"{name}, linear", [record["linear"] for record in records], metric, 5),
        numbers(f"{name}, published choice", published, metric, 5),
    ]
    title = f"{first['model']['name']} on {first['data']['name']}, n = {first['data']['n_train']}"
    print_columns(title, columns, console=console)


def _flawed(choice: Mapping[str, Any]) -> str:
    return f"{choice['by']}, {choice['flaw'].upper()}" if choice.get("flaw") else choice["by"]


def number(value: float | None) -> str:
    """Return the text of a number in a table; "-" for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["diverged"]:
        return "diverged"
    done = "NOT converged, " if convergence(entry) is False else ""
    if entry["residual"] is None:
        if "loss_change" not in entry and convergence(entry) is False:
            return "NOT solved"
        change = entry.get("loss_change")
        return f"{done}{entry['iterations']} epochs" + ("" if change is None else f", loss {100 * change:+.2g} %")
    return f"{done}{entry['iterations']} it., {entry['residual']:.0e}"
