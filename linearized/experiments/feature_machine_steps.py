"""Records of the iterations ("steps") of a feature machine: their content, their order, and their lines in the log."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernel_gen.kernels.stretched import StretchedKernel, correlation, effective_rank, overlap
from linearized.experiments import select

KEPT = ("index", "ridge", "converged", "iterations", "residual")  # stored besides losses and accuracies


def bandwidth_of(kernel: StretchedKernel) -> float | None:
    """Return the bandwidth of a kernel's base kernel; None if it has none."""
    return getattr(kernel.base, "bandwidth", None)


def about_metric(found: Any, directions: np.ndarray | None, weights: np.ndarray | None) -> dict[str, float | None]:
    """Return the entries of a record that describe the metric of an iteration; measures that do not apply are None.

    Args:
        found: Solution of the iteration, with `metric` and `kernel`.
        directions: Directions (d, r) on which the labels depend, for the entry "overlap"; None: not known.
        weights: First-layer weights W (d, units) of a network, for the entry "ansatz", the correlation of the metric
            with WWᵀ; None: there is no network.
    """
    metric = found.metric
    comparable = weights is not None and len(weights) == len(metric)
    ansatz = correlation(metric, weights) if comparable else np.nan
    return {
        "bandwidth": bandwidth_of(found.kernel), "effective_rank": effective_rank(metric),
        "overlap": None if directions is None else overlap(metric, directions),
        "ansatz": ansatz if np.isfinite(ansatz) else None,
    }  # fmt: skip


def rank_of(step: Mapping[str, Any], metric: str) -> tuple[float, ...]:
    """Return a sort key of an iteration at its best ridge, by the rule of `select`; the best iteration comes first.

    Args:
        step: The iteration, as a record stores it.
        metric: Value of `--choose_by`.
    """
    entries = step["ridges"]
    return select.rank(entries[step["position"]], select.criterion_of(entries), metric)


def short_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a ridge that the record of an iteration stores, out of all its diagnostics and scores."""
    ends = ("_loss", "_accuracy")
    return {name: value for name, value in entry.items()
            if name in KEPT or name == "gcv" or (name.endswith(ends) and "normalised" not in name)}  # fmt: skip


def in_words(step: Mapping[str, Any]) -> str:
    """Return a line for the log with the best ridge of an iteration, its scores and the time it took."""
    entry = step["ridges"][step["position"]]
    words = [f"ρ = {entry['ridge']:.2g}"]
    for split in ("validation", "leave_one_out", "test"):
        for metric in ("loss", "accuracy"):
            value = entry.get(f"{split}_{metric}")
            words += [] if value is None else [f"{split.replace('_', '-')} {metric} {value:.4g}"]
    words.append(f"effective rank {step['effective_rank']:.3g}")
    for name in ("overlap", "ansatz"):
        words += [] if step[name] is None else [f"{name} {step[name]:.3f}"]
    return ", ".join([*words, f"{step['seconds']:.1f} s"])
