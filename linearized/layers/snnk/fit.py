"""Fit of an SNNK's matrix Ψ to a dense layer: ridge regression of the layer's outputs on the features Φ of its inputs.

An SNNK (scalable neural network kernel) replaces a dense layer by Φ(x)·Ψ, with m random features Φ(x) of its inputs.
The error is measured on rows that are held out.

The regression also includes guard rows with a small weight: random rows around the mean of the given rows, and given
rows that are moved outwards. Their targets are the outputs of the layer, which can be computed for any row. Without
guard rows, Ψ is arbitrary in every direction in which the given rows do not vary, and outputs for rows outside the span
of the given rows can be wrong by orders of magnitude. The weight is increased, at most to the weight of the given rows,
until the fitted outputs at a second set of guard rows are at most three times as large as the layer's largest output
there.
"""

import warnings
from typing import NamedTuple

import numpy as np
from absl import logging
from keras import ops

HELD_OUT = 5  # one row in five is held out of the fit and used to measure the error
RIDGES = 10.0 ** np.arange(-8, 0)  # in units of the mean square of a feature times the number of rows
GUARDS = (0.01, 0.1, 1.0)  # total weights of the guard rows, relative to that of the given ones
LARGEST = 3.0  # largest accepted output at other guard rows, relative to the layer's largest output there
WARN_ABOVE = 0.2  # relative error above which a replaced layer causes a warning


class Fit(NamedTuple):
    """Result of the fit of random features to a dense layer with u outputs.

    Attributes:
        psi: Coefficients Ψ of the m features, (m, u) in float32.
        ridge: Ridge of the regression, in units of the mean square of a feature times the number of rows.
        error: Relative error ‖f̂ - f‖ / ‖f‖ of the fitted outputs f̂ against the layer's outputs f on held-out rows.
    """

    psi: np.ndarray
    ridge: float
    error: float


def growth_of(layer, rows: np.ndarray) -> float:
    """Estimate g = 0, 1, 2 or 3, such that the outputs of a layer grow like ‖x‖^g far from given rows.

    The result is 0 if the outputs are bounded, overflow or are all 0.

    Args:
        layer: Function on arrays (n, d), such as a Keras layer.
        rows: Rows (n, d), which are moved away from their mean by factors of 100 and 10,000.
    """
    centre = rows.mean(axis=0)
    far = [np.linalg.norm(outputs(layer, centre + factor * (rows - centre))) for factor in (1e2, 1e4)]
    if not np.isfinite(far).all() or min(far) == 0:
        return 0.0
    return float(np.clip(np.round(np.log10(far[1] / far[0]) / 2), 0, 3))


def outputs(layer, rows: np.ndarray) -> np.ndarray:
    """Return the outputs (n, u) of a layer for rows (n, d), computed in float32 and converted to float64."""
    return ops.convert_to_numpy(ops.cast(layer(rows.astype(np.float32)), "float32")).astype(np.float64)


def guard_rows(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return guard rows: random rows around the mean of the given rows, and given rows that are moved outwards.

    A fit includes guard rows with a small weight, so that its outputs do not diverge outside the given rows. Let r be
    the 95 % quantile of the distances of the given rows from their mean. The 2·count random rows are at distances of up
    to 2r from the mean, and the moved rows at distances of r to 4r. Both ranges contain the radius of calibrated
    features (see `UniversalFeatures.calibrate`), which is at most 1.5r.

    Args:
        rows: Given rows (n, d).
        count: Number of given rows that are moved.
        seed: Random-number seed.

    Returns:
        Array (3·count, d), or (0, d) if all given rows are equal.
    """
    random = np.random.default_rng(seed)
    centre = rows.mean(axis=0)
    sizes = np.linalg.norm(rows - centre, axis=1)
    radius = np.quantile(sizes, 0.95)
    directions = random.standard_normal((2 * count, rows.shape[1]))
    reached = 2 * radius * random.random((2 * count, 1)) ** 0.5
    directions *= reached / np.linalg.norm(directions, axis=1, keepdims=True)
    chosen = random.integers(0, len(rows), count)
    far = (rows[chosen] - centre) * (random.uniform(1, 4, count) * radius / np.maximum(sizes[chosen], 1e-30))[:, None]
    return centre + np.concatenate([directions, far]) if radius > 0 else rows[:0]


def fit(layer, features, rows: np.ndarray, ridge: float | None = None, held_out: np.ndarray | None = None) -> Fit:
    """Fit Ψ to the outputs of a layer by ridge regression on the m features Φ of its inputs, solved in float64.

    Args:
        layer: Function from rows (n, d) to outputs (n, u), such as a dense layer.
        features: `UniversalFeatures`, built, and calibrated if they are bounded.
        rows: Rows (n, d) with n > m, from the distribution of the layer's inputs.
        ridge: Ridge in units of the mean square of a feature times n; None: the ridge of a fixed grid with the smallest
            leave-one-out error.
        held_out: Rows on which the error is measured. None: the error is measured on a fifth of `rows`, after a fit to
            the other rows; the returned Ψ is fitted to all `rows`.

    Costs O((n + m) m² + n m u).
    """
    with features.quiet():
        goal, phi = outputs(layer, rows), outputs(features, rows)
    order = np.random.default_rng(0).permutation(len(rows))
    kept, held = order[len(rows) // HELD_OUT :], order[: len(rows) // HELD_OUT]
    held_goal, held_phi = goal[held], phi[held]
    if held_out is not None:
        with features.quiet():
            kept, held_goal, held_phi = order, outputs(layer, held_out), outputs(features, held_out)
    guards = [_Guard.of(layer, features, guard_rows(rows, features.count, seed)) for seed in (1, 2)]
    for weight in GUARDS if len(guards[0].phi) else (0.0,):
        part = _Normal(phi[kept], goal[kept], guards[0], weight)
        chosen = part.best_ridge() if ridge is None else max(ridge, 1e-12)
        whole = part if held_out is not None else _Normal(phi, goal, guards[0], weight)
        psi = whole.solution(chosen)
        if np.abs(guards[1].phi @ psi).max(initial=0) <= LARGEST * np.abs(guards[1].goal).max(initial=0):
            break
    error = relative_error(held_phi @ part.solution(chosen), held_goal)
    return Fit(psi.astype(np.float32), chosen, error)


def relative_error(found: np.ndarray, goal: np.ndarray) -> float:
    """Return ‖found - goal‖ / ‖goal‖, with norms over all entries.

    If `goal` is all zeros, the result is 0 for equal arrays and otherwise 1.
    """
    wrong, size = np.linalg.norm(found - goal), np.linalg.norm(goal)
    return float(wrong / size) if size else float(wrong > 0)


def report(name: str, error: float, rows: str) -> None:
    """Log the relative error of an SNNK that replaces a layer, and warn if it is above 0.2.

    Args:
        name: Name of the layer.
        error: Relative error.
        rows: Description of the rows on which it was measured.
    """
    logging.info("%s: relative error %.3f on %s", name, error, rows)
    if not error <= WARN_ABOVE:
        warnings.warn(f"The SNNK in the place of {name!r} errs by {error:.2f} of its outputs on {rows}. Give it more "
                      "features, or `inputs` that are typical of the layer, or train it on.", stacklevel=4)  # fmt: skip


class _Guard(NamedTuple):
    """Features Φ and outputs of a dense layer at guard rows, which keep a fit from diverging outside the given rows.

    `UniversalFeatures` with a radius R are bounded. Let r be the distance of a row from the centre of the features, and
    s = max(1, r / R). For a row outside the ball of radius R, Φ is s^growth times Φ of the point where the line to the
    centre crosses the border of the ball. Here Φ and the layer's outputs are both divided by s^growth. The equation
    Φ·Ψ = outputs then still holds, but distant rows have no larger weight in the fit than rows on the border.

    If the features are not bounded (R = 0), there are no guard rows. Rows whose outputs overflow are left out.

    Attributes:
        phi: Φ / s^growth, (rows, m).
        goal: Outputs / s^growth, (rows, u).
    """

    phi: np.ndarray
    goal: np.ndarray

    @classmethod
    def of(cls, layer, features, rows):
        if not features.radius:
            rows = rows[:0]
        with features.quiet():
            goal, phi = outputs(layer, rows), outputs(features, rows)
        if features.growth:
            excess = ops.convert_to_numpy(features.excess(rows.astype(np.float32))).astype(np.float64)
            goal, phi = goal / excess**features.growth, phi / excess**features.growth
        fine = np.isfinite(goal).all(axis=1)  # rows at which the function overflows have no value to fit
        return cls(phi[fine], goal[fine])


class _Normal:
    """Normal equations of a regression on features, diagonalised once for all ridges.

    Args:
        phi: Features (n, m) of the given rows.
        goal: Outputs (n, u) of the layer for these rows.
        guard: Features and outputs at guard rows, scaled as in `_Guard`.
        weight: Total weight of the guard rows, divided by the total weight of the given rows.
    """

    def __init__(self, phi: np.ndarray, goal: np.ndarray, guard: _Guard, weight: float):
        self.phi, self.goal, self.rows = phi, goal, len(phi)
        factor = weight * len(phi) / max(len(guard.phi), 1)
        gram = phi.T @ phi + factor * (guard.phi.T @ guard.phi)
        moment = phi.T @ goal + factor * (guard.phi.T @ guard.goal)
        scales = np.sqrt(np.diag(gram) / self.rows)
        scales[scales == 0] = 1.0  # features that are 0 on all rows get the coefficient 0
        self.values, vectors = np.linalg.eigh(gram / np.outer(scales, scales) / self.rows)
        self.scaled_vectors = vectors / scales[:, None]
        self.moment = self.scaled_vectors.T @ moment / self.rows

    def solution(self, ridge: float) -> np.ndarray:
        return self.scaled_vectors @ (self.moment / (np.maximum(self.values, 0) + ridge)[:, None])

    def best_ridge(self) -> float:
        """Return the ridge of a fixed grid with the smallest leave-one-out error on the given rows."""
        turned = self.phi @ self.scaled_vectors
        losses = []
        for ridge in RIDGES:
            inverse = 1 / (np.maximum(self.values, 0) + ridge)
            leverage = np.square(turned) @ inverse / self.rows
            residual = self.goal - turned @ (inverse[:, None] * self.moment)
            losses.append(np.square(residual / np.maximum(1 - leverage, 1e-6)[:, None]).sum())
        return float(RIDGES[int(np.argmin(losses))])
