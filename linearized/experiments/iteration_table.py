"""Table of the iterations of a recursive feature machine at the end of its run.

It shows all iterations of the best variant (combination of settings), and the best iteration of every other variant.
"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from linearized.base.terminal import Column, print_columns
from linearized.experiments.feature_machine_steps import rank_of
from linearized.experiments.table import number
from linearized.settings.feature_machine_settings import shared_start


def shown_steps(machine: Mapping[str, Any], metric: str) -> list[int]:
    """Return the indices of the iterations to show: all of the best variant, and the best one of every other variant.

    Args:
        machine: Entry "feature_machine" of a `result.json`; the returned indices refer to its list "steps".
        metric: Value of `--choose_by`: "accuracy" or "loss".
    """
    steps, best = machine["steps"], machine["steps"][machine["best"]]
    variants = machine["variants"]

    start = shared_start(variants, best["variant"])
    shown = [place for place, step in enumerate(steps) if step["variant"] == best["variant"]]
    if start != best["variant"]:  # the fixed kernel is listed under the first variant
        shown = [place for place, step in enumerate(steps)
                 if step["iteration"] == 0 and step["variant"] == start] + shown  # fmt: skip
    for variant in range(len(variants)):
        own = [place for place, step in enumerate(steps)
               if step["variant"] == variant and step["iteration"] and variant != best["variant"]]  # fmt: skip
        if own:
            shown.append(min(own, key=lambda place: rank_of(steps[place], metric)))
    return shown


def print_iterations(record: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the table of iterations of a feature machine, each at its best ridge.

    Args:
        record: Content of the run's `result.json`.
        console: Console to print to; None: the console of this process.
    """
    machine = record["feature_machine"]
    places = shown_steps(machine, record["settings"].get("choose_by", "accuracy"))
    steps = [machine["steps"][place] for place in places]
    chosen = [step["ridges"][step["position"]] for step in steps]
    metrics = {f"{split}_{metric}": f"{split.replace('_', '-')} {metric}"
               for split in ("validation", "leave_one_out", "test") for metric in ("loss", "accuracy")}  # fmt: skip
    columns = [
        Column("iteration", [f"{'best ' if place == machine['best'] else ''}{step['iteration']}"
                             for place, step in zip(places, steps, strict=True)]),
        Column("metric", [machine["variants"][step["variant"]]["name"] if step["iteration"] else "fixed kernel"
                          for step in steps], 3, text=True),
        Column("ridge ρ", [f"{entry['ridge']:.2e}" for entry in chosen], 4),
        *(Column(title, [number(entry.get(name)) for entry in chosen], 0 if name.startswith("test") else 2)
          for name, title in metrics.items() if any(entry.get(name) is not None for entry in chosen)),
        Column("effective rank", [f"{step['effective_rank']:.1f}" for step in steps], 5),
    ]  # fmt: skip
    for name in ("overlap", "ansatz"):
        if any(step.get(name) is not None for step in steps):
            columns.append(Column(name, [number(step.get(name)) for step in steps], 6))
    styles = ["bold" if place == machine["best"] else "" for place in places]
    title = f"{record['title']}: iterations, each at its best ridge"
    print_columns(title, columns, styles=styles, console=console)
