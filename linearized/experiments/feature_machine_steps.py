"""Records of the iterations of a feature machine: functions that build, compare and describe them.

The record of an iteration is called a step. It is a dictionary with the index of the variant ("variant", from 0), the
number of the iteration ("iteration", 0 for the fixed kernel), the scores at every ridge ("ridges"), the index of the
best ridge in that list ("position"), and measures of the metric.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernel_gen.kernels.stretched import StretchedKernel, correlation, effective_rank, overlap
from linearized.experiments import select

KEPT = ("index", "ridge", "converged", "iterations", "residual")  # stored besides losses and accuracies


def bandwidth_of(kernel: StretchedKernel) -> float | None:
    """Return the bandwidth of the base kernel of a learned kernel; None if the base kernel has none."""
    return getattr(kernel.base, "bandwidth", None)


def about_metric(found: Any, directions: np.ndarray | None, weights: np.ndarray | None) -> dict[str, float | None]:
    """Return measures of the metric M of an iteration, by name; measures that do not apply are None.

    - "bandwidth" of the base kernel.
    - "effective_rank" of M, (tr M)²/‖M‖_F².
    - "overlap", the share of the trace of M in the space of `directions`.
    - "ansatz", the correlation between the entries of M and of WWᵀ. The neural feature ansatz, according to which
      networks and feature machines give the inputs similar weights, predicts a value near 1.

    Args:
        found: Solution of the iteration, with `metric` and `kernel`.
        directions: Orthonormal directions (d, r) on which the labels depend; None: not known.
        weights: First-layer weights W (d, units) of a network; None: there is no network.
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
    """Return a sort key of an iteration at its best ridge; the best iteration comes first.

    Iterations are compared by the rule of `linearized.experiments.select`.

    Args:
        step: Record of the iteration.
        metric: "accuracy" or "loss", as --choose_by sets it.
    """
    entries = step["ridges"]
    return select.rank(entries[step["position"]], select.criterion_of(entries), metric)


def short_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores and diagnostics at a ridge that every iteration of a feature machine stores.

    Args:
        entry: All scores and diagnostics at the ridge, by name.
    """
    ends = ("_loss", "_accuracy")
    return {name: value for name, value in entry.items()
            if name in KEPT or name == "gcv" or (name.endswith(ends) and "normalised" not in name)}  # fmt: skip


def in_words(step: Mapping[str, Any]) -> str:
    """Return a line for the log with the best ridge of an iteration, its scores and the time it took.

    Args:
        step: Record of the iteration.
    """
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
