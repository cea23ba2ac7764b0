"""Result of `linearized theory`: predicted losses, and losses measured with fits to random subsets of the pool.

The pool is the set of rows from which train rows are drawn.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from linearized.data.dataset import Dataset
from linearized.experiments.fit_results import about_data
from linearized.experiments.step_progress import progress_line
from linearized.experiments.theory_lines import Line
from linearized.experiments.theory_settings import LARGEST_SHARE, TheorySettings
from linearized.kernel_ridge.ridge_path import fit
from linearized.learning_theory.eigenframework import Prediction, Spectrum, predict, spectrum
from linearized.learning_theory.power_law import fit_power_law

RTOL = 1e-5  # relative residual of the fits, far too small to affect an error
LINES = ("sphere", "hermite")  # names of the further predictions
MEASURES = ("other", "fresh", "train", "leave_one_out", "gcv")  # names of the measured losses


@dataclasses.dataclass(frozen=True)
class PoolKernel:
    """Kernel matrices of a pool of N rows, from which train rows are drawn.

    Attributes:
        pool: K between the rows of the pool, (N, N).
        test: K between the m test rows and the rows of the pool, (m, N).
        scale: Scale of the kernel's inputs, "input" (raw) or "stax" (divided by √d or √channels).
    """

    pool: np.ndarray
    test: np.ndarray
    scale: str


def compared(
    config: TheorySettings,
    dataset: Dataset,
    kernel: PoolKernel,
    sizes: Sequence[int],
    ridges: np.ndarray,
    lines: Sequence[Line] = (),
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Predict and measure the losses of a kernel, and return the record and the arrays of the result.

    They are stored as `theory.json` and `theory.h5`. Losses are means over rows of ‖y - f‖², summed over the outputs.
    The record has these entries, in addition to those that `experiments.run` adds:

    - `points`, one entry for each number n of train rows and each ridge: `n`, `ridge`, `beyond` (whether n > N/3, where
      predictions are unreliable), the effective ridge `kappa`, the degrees of freedom `degrees`, and the losses
      `predicted` (on new rows) and `predicted_train`. If there are fits to random draws of n rows, the entry also has
      the mean losses of these fits on the `other` rows of the pool, on `fresh` (test) rows and on the `train` rows, the
      means of the estimates `leave_one_out` and `gcv` (generalised cross-validation), the standard error of each mean
      (such as `other_error`), and `converged` (whether all fits converged).
    - `best`, for each n the index in `points` of the ridge with the smallest predicted loss.
    - `exponents` of power laws in n that are fitted to the losses at these ridges: `predicted`, and `measured` on the
      pool's other rows.
    - `lines`, further predictions by name (`linearized.experiments.theory_lines`): label, effective dimension, and the
      share of the target that lies in their eigenfunctions. Points then have `predicted_sphere` and
      `predicted_hermite`.
    - `agreement`, the smallest and the largest ratio of predicted or estimated losses to measured losses, as the
      function `agreement` returns them.
    - `spectrum`, the power law of the eigenvalues between the 10th and the (N/10)th largest; None if there are too few.

    The arrays are `eigenvalues` (N,) and `coefficients` (N, k) of the pool, the losses of each output in `predicted`,
    `other` and `fresh` (points, k), and the N largest eigenvalues of the lines, `sphere_eigenvalues` and
    `hermite_eigenvalues`. If train labels have noise that test labels do not have, its variance is added to the losses
    on fresh rows.

    Args:
        config: Settings; draws (number of random draws for each n) and draw_seed (their random-number seed) are read.
        dataset: Pool of N rows (its train rows) and test rows, with targets of k outputs.
        kernel: Kernel on these rows.
        sizes: Numbers of train rows n.
        ridges: Values of ρ of (K + ρI)α = y.
        lines: Further predicted learning curves.
    """
    pool = len(dataset.train)
    targets = dataset.targets(dataset.train, centred=True).astype(np.float64)
    fresh = dataset.targets(dataset.test, centred=True).astype(np.float64)
    noise = dataset.label_noise / targets.shape[1]
    logging.info("decomposing the kernel of %d rows", pool)
    found = spectrum(kernel.pool, targets)
    points, outputs = [], {"predicted": [], "other": [], "fresh": []}
    with progress_line("draws", len(sizes) * config.draws) as report:
        for place, n in enumerate(sizes):

            def done(draw: int, before: int = place * config.draws, n: int = n) -> None:
                report(before + draw, f"n = {n}")

            measured = _measured(kernel, targets, fresh, n, ridges, config.draws, config.draw_seed, done)
            if measured:
                measured["fresh"] = measured["fresh"] + noise
            for index, ridge in enumerate(ridges):
                said = predict(found.eigenvalues, found.coefficients, n, float(ridge), pool=pool)
                mine = {name: values[:, index] for name, values in measured.items()}
                further = {f"predicted_{line.name}": _finite(line.predict(n, float(ridge))) for line in lines}
                points.append(_point(n, float(ridge), pool, said, mine) | further)
                outputs["predicted"].append(said.test)
                for name in ("other", "fresh"):
                    if mine:
                        outputs[name].append(mine[name].mean(axis=0))
    best = [_best(points, n) for n in sizes]
    record = {
        "title": f"{config.label()} on {dataset.name}" + (f", {dataset.noise}" if dataset.noise else ""),
        "data": about_data(dataset), "pool": pool, "draws": config.draws, "outputs": targets.shape[1],
        "target_variance": float(targets.var(axis=0).sum()), "ridge_unit": "ρ of (K + ρI)α = y",
        "points": points, "best": best, "exponents": _exponents([points[place] for place in best]),
        "agreement": agreement(points), "spectrum": _decay(found),
        "lines": {line.name: line.described() for line in lines},
    }  # fmt: skip
    arrays = {"eigenvalues": found.eigenvalues, "coefficients": found.coefficients}
    arrays |= {f"{line.name}_eigenvalues": line.eigenvalues[:pool] for line in lines}
    return record, arrays | {name: np.array(rows) for name, rows in outputs.items() if rows}


def _measured(
    kernel: PoolKernel, targets: np.ndarray, fresh: np.ndarray, n: int, ridges: np.ndarray, draws: int, seed: int,
    done: Any,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Fit kernel ridge regression on random draws of n rows of the pool, and return the measured losses by name.

    Args:
        kernel: Kernel on the pool and the test rows.
        targets: Targets of the pool (N, k).
        fresh: Targets of the test rows (m, k).
        n: Number of train rows.
        ridges: Values of ρ.
        draws: Number of draws.
        seed: Random-number seed of the draws.
        done: Function that is called with the number of finished draws after each of them.

    Returns:
        Losses (draws, ridges, k) under "other", "fresh", "train" and "leave_one_out"; `gcv` and `converged` are (draws,
        ridges, 1). Without draws the result is {}.
    """
    found: dict[str, list] = {name: [] for name in (*MEASURES, "converged")}
    for draw in range(draws):
        order = np.random.default_rng([seed, n, draw]).permutation(len(targets))
        train, other = order[:n], order[n:]
        path = fit(kernel.pool[np.ix_(train, train)], targets[train], ridges, solver="eigh", rtol=RTOL, overwrite=True)
        for name, block, y in (("other", kernel.pool[np.ix_(other, train)], targets[other]),
                               ("fresh", kernel.test[:, train], fresh)):  # fmt: skip
            found[name].append(np.square(path.predict(block) - y).mean(axis=1))
        solutions = path.solutions
        found["train"].append([np.square(one.predictions - targets[train]).mean(axis=0) for one in solutions])
        missing = np.full(targets.shape[1], np.nan)
        found["leave_one_out"].append([
            missing if one.leave_one_out is None else np.square(one.leave_one_out).mean(axis=0) for one in solutions
        ])  # fmt: skip
        found["gcv"].append([[np.nan if one.gcv is None else one.gcv] for one in solutions])
        found["converged"].append([[float(one.converged)] for one in solutions])
        done(draw + 1)
    return {name: np.array(values) for name, values in found.items()} if draws else {}


def _point(n: int, ridge: float, pool: int, said: Prediction, measured: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the predicted and measured losses at one number of train rows and one ridge, an entry of `points`.

    The entries are those that `compared` describes.

    Args:
        n: Number of train rows.
        ridge: Value of ρ.
        pool: N, the number of rows of the pool.
        said: Prediction for this size and ridge.
        measured: Measurements by name, each (draws, k); {} without draws.
    """
    point = {
        "n": n, "ridge": ridge, "beyond": LARGEST_SHARE * n > pool, "kappa": said.kappa, "degrees": said.degrees,
        "predicted": _finite(said.test.sum()), "predicted_train": _finite(said.train.sum()),
    }  # fmt: skip
    for name in MEASURES if measured else ():
        losses = measured[name].sum(axis=-1)
        spread = losses.std(ddof=1) / np.sqrt(len(losses)) if len(losses) > 1 else np.nan
        point |= {name: _finite(losses.mean()), f"{name}_error": _finite(spread)}
    return point | ({"converged": bool(measured["converged"].all())} if measured else {})


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _best(points: Sequence[Mapping[str, Any]], n: int) -> int:
    """Return the index in `points` of the ridge with the smallest predicted loss for n train rows.

    Args:
        points: Losses, one entry for each number of train rows and each ridge.
        n: Number of train rows.
    """
    mine = [place for place, point in enumerate(points) if point["n"] == n]
    return min(mine, key=lambda place: np.inf if points[place]["predicted"] is None else points[place]["predicted"])


def _exponents(best: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None] | None]:
    """Fit power laws to the predicted and the measured learning curve, and return them by "predicted" and "measured".

    Only points with n up to N/3 are used; those of the measured curve must also have a standard error. A law is None if
    fewer than three points are left.

    Args:
        best: Entries of `points` at the best ridge of each number of train rows.
    """
    mine = [point for point in best if not point["beyond"] and point["predicted"]]
    measured = [point for point in mine if point.get("other_error")]
    laws = {}
    for name, rows, column in (("predicted", mine, "predicted"), ("measured", measured, "other")):
        if len(rows) < 3:
            laws[name] = None
            continue
        errors = None if name == "predicted" else np.array([row["other_error"] for row in rows])
        law = fit_power_law(np.array([row["n"] for row in rows]), np.array([row[column] for row in rows]), errors)
        laws[name] = {key: _finite(value) for key, value in law._asdict().items()}
    return laws


def _decay(found: Spectrum) -> dict[str, float | None] | None:
    """Fit a power law to the eigenvalues between the 10th and the (N/10)th largest; None if there are too few.

    Args:
        found: Spectrum of the kernel on the pool of N rows.
    """
    index = np.unique(np.geomspace(10, max(len(found.eigenvalues) / 10, 10), 40).astype(int))
    values = found.eigenvalues[index - 1] if index[-1] <= len(found.eigenvalues) else np.zeros(1)
    if len(index) < 3 or not (values > 0).all():
        return None
    return {key: _finite(value) for key, value in fit_power_law(index, values)._asdict().items()}


def agreement(points: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the smallest and the largest ratio of predicted or estimated losses to measured ones, by name.

    All points that converged and have at most N/3 train rows are compared.

    Args:
        points: Entries `points` of a record, as `compared` describes them.

    Returns:
        Pairs (smallest ratio, largest ratio) by name: `other`, `fresh` and `train` are ratios of predicted to measured
        losses (`train` only where the train loss is above a hundredth of the loss on fresh rows). `leave_one_out` and
        `gcv` are ratios of these estimates to the loss on fresh rows. `sphere` and `hermite` are ratios of these
        predictions to the loss on the pool's other rows.
    """
    mine = [point for point in points if not point["beyond"] and point.get("converged") and point["predicted"]]
    ratios = {
        "other": [point["predicted"] / point["other"] for point in mine],
        "fresh": [point["predicted"] / point["fresh"] for point in mine],
        "train": [point["predicted_train"] / point["train"] for point in mine
                  if point["train"] > 0.01 * point["fresh"]],
        "leave_one_out": [point["leave_one_out"] / point["fresh"] for point in mine if point["leave_one_out"]],
        "gcv": [point["gcv"] / point["fresh"] for point in mine if point["gcv"]],
        **{name: [point[f"predicted_{name}"] / point["other"] for point in mine if point.get(f"predicted_{name}")]
           for name in LINES},
    }  # fmt: skip
    return {name: [min(values), max(values)] for name, values in ratios.items() if values}
