"""The table of a result of `linearized theory`: one row per number of train rows, at the best predicted ridge."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from linearized.base.terminal import Column, print_columns, say
from linearized.experiments.theory_settings import LARGEST_SHARE


def print_theory(record: Mapping[str, Any], console: Console | None = None) -> None:
    """Print predicted and measured losses, their agreement over all ridges, and the exponents of the learning curve.

    Args:
        record: Content of `theory.json`, see `linearized.experiments.theory_record.compared`.
        console: Console to print to; None: the console of this process.
    """
    points = [record["points"][place] for place in record["best"]]
    columns = [
        Column("n", [f"{point['n']:,}{' *' if point['beyond'] else ''}" for point in points]),
        Column("ridge ρ", [f"{point['ridge']:.2e}" for point in points], 2),
        Column("κ", [f"{point['kappa']:.2e}" for point in points], 6),
        Column("modes learned", [f"{point['degrees']:.1f}" for point in points], 5),
        Column("predicted", [_number(point["predicted"]) for point in points]),
    ]
    if record["draws"]:
        columns += [
            Column("pool's other rows", [_measured(point, "other") for point in points], 1),
            Column("fresh rows", [_measured(point, "fresh") for point in points]),
            Column("leave-one-out", [_measured(point, "leave_one_out") for point in points], 3),
            Column("gcv", [_measured(point, "gcv") for point in points], 4),
        ]
    title = f"{record['title']}: test loss from the spectrum of a pool of N = {record['pool']:,} rows"
    console = print_columns(title, columns, console=console)
    if any(point["beyond"] for point in points):
        say(f"*: n > N/{LARGEST_SHARE}, where the prediction is not to be trusted; take a larger --pool", console)
    for sentence in sentences(record):
        say(sentence, console)


def sentences(record: Mapping[str, Any]) -> Sequence[str]:
    """Return the sentences below the table: how predictions and estimates compare with measured losses, and power laws.

    Args:
        record: Content of `theory.json`, see `linearized.experiments.theory_record.compared`.
    """
    said, found = [], record["agreement"]
    if "other" in found:
        said.append(
            f"predicted / measured up to N/{LARGEST_SHARE}, all ridges: {_range(found['other'])} on the pool's other "
            f"rows, {_range(found['fresh'])} on fresh (test) rows"
        )
    if "leave_one_out" in found and "gcv" in found:
        said.append(
            f"estimates from the train rows alone over the loss on fresh rows: leave-one-out "
            f"{_range(found['leave_one_out'])}, gcv {_range(found['gcv'])}; prefer leave-one-out, because gcv takes "
            "all rows for alike"
        )
    for name, line in record.get("lines", {}).items():
        over = f"; over the loss on the pool's other rows {_range(found[name])}" if name in found else ""
        said.append(f"{line['label']}: explains {line['explained']:.0%} of the target{over}")
    for name, words in (("predicted", "predicted"), ("measured", "measured, on the pool's other rows")):
        if law := record["exponents"][name]:
            said.append(f"learning curve, {words}: loss ~ n^-{law['exponent']:.3f} ± {law['error']:.3f}")
    if law := record["spectrum"]:
        said.append(f"eigenvalues fall as index^-{law['exponent']:.2f} between the 10th and the N/10th")
    return said


def _range(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _measured(point: Mapping[str, Any], name: str) -> str:
    error = point[f"{name}_error"]
    return _number(point[name]) + ("" if error is None or point[name] is None else f" ± {error:.1g}")
