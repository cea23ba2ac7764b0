"""Predicted learning curves of a rotation-invariant kernel k(x, z) that need its formula but no Gram matrix.

They are drawn as further lines beside the prediction from the Gram matrix. The comparison shows how much the theory of
kernels on idealised inputs explains. The inputs enter through their covariance Σ and their mean μ. There are two lines:

- "sphere": the eigenvalues of k on a sphere. The dimension of the sphere is the effective dimension (tr Σ)²/tr Σ² of
  the inputs (`learning_theory.sphere`).
- "hermite": the eigenvalues are products of variances of the principal components, times a coefficient for each degree.
  The eigenfunctions are products of Hermite polynomials of the principal components' scores
  (`learning_theory.hermite`).

For the eigenvalues, inputs are idealised as points on the sphere of radius √tr Σ around μ, with μ orthogonal to all
differences x - μ. On this sphere k depends only on the cosine of the angle between x - μ and z - μ. The share of the
target in each eigenfunction is estimated on the train rows. The learning curve applies to train rows drawn from an
infinite population.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.linalg
from absl import logging

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.learning_theory.eigenframework import predict_from_powers
from linearized.learning_theory.hermite import hermite_modes, hermite_target, level_coefficients
from linearized.learning_theory.sphere import Profile, effective_dimension, sphere_spectrum
from linearized.settings.gram_settings import KERNELS, GramSettings

DEGREES = 30  # highest degree of the spectrum on the sphere
MOST_HARMONICS = 100_000  # number of eigenvalues that are used individually; those of higher degrees act as a ridge
MODES, TARGET_MODES = 30_000, 2000  # Hermite products, and the number of them into which the target is decomposed
LEAST_VARIANCE = 1e-9  # smallest variance of a principal component, relative to the largest


@dataclasses.dataclass(frozen=True)
class Line:
    """Spectrum that predicts a learning curve: eigenvalues of a kernel, and the target's share in each eigenfunction.

    Attributes:
        name: Name in the record, "sphere" or "hermite".
        label: Label in the legend of the figure.
        eigenvalues: m eigenvalues of the kernel, in decreasing order.
        powers: Estimated mean square of each output's target in each eigenfunction, (m, k) for k outputs; 0 for
            eigenfunctions into which the target was not decomposed.
        rest: Mean square of the part of each output's target that is not in `powers`, (k,). This part is not learned,
            and has the effect of label noise.
        tail: Sum of all eigenvalues after the first m, which have the effect of an additional ridge.
        about: Further entries of the record, such as the effective dimension.
    """

    name: str
    label: str
    eigenvalues: np.ndarray
    powers: np.ndarray
    rest: np.ndarray
    tail: float
    about: dict[str, Any]

    def predict(self, n: int, ridge: float) -> float:
        """Return the predicted mean square error on new rows, summed over the outputs.

        Args:
            n: Number of train rows.
            ridge: ρ of (K + ρI)α = y.
        """
        said = predict_from_powers(self.eigenvalues, self.powers, n, ridge + self.tail, noise=self.rest)
        return float(said.test.sum())

    def described(self) -> dict[str, Any]:
        """Return the entries of `theory.json` about this curve: `label`, `explained`, `tail`, and the items of `about`.

        `explained` is the fraction of the target's mean square, over all outputs, that lies in the span of the
        eigenfunctions into which the target was decomposed. `tail` is the sum of the eigenvalues that are not in
        `eigenvalues`.
        """
        total = self.powers.sum() + self.rest.sum()
        return {"label": self.label, "explained": float(self.powers.sum() / total), "tail": self.tail, **self.about}


def lines(settings: GramSettings, dataset: Dataset, trace: float) -> list[Line]:
    """Return the two predicted learning curves of a kernel, "sphere" and "hermite", for the train rows of a data set.

    For n train rows of length d, the target is decomposed into the m eigenfunctions with the largest eigenvalues, where
    m is n/3 but at most 2,000. The decomposition costs 2 n m² operations. The principal components cost min(d, n)³
    operations.

    Args:
        settings: Settings of the kernel.
        dataset: Data set with the train rows.
        trace: Mean of k(x, x) over the train rows.

    Returns:
        The two curves. The list is empty for a kernel that is not rotation-invariant, for inputs with at most two
        columns or effective dimensions, and if the Hermite eigenstructure cannot be computed. The last two cases are
        logged.
    """
    condition = getattr(KERNELS.load(settings.kernel), "ROTATION_INVARIANT", None)
    if condition is None or not condition.holds(settings):
        return []
    x = np.asarray(dataset.train.x, np.float64)
    targets = dataset.targets(dataset.train, centred=True).astype(np.float64)
    mean = x.mean(axis=0)
    variances, scores = _components(x - mean)
    dim = effective_dimension(variances, len(x)) if len(variances) else 0.0
    if x.shape[1] < 3 or not 2 < dim < np.inf:
        logging.info("no line from the covariance: the inputs have %.3g effective dimensions", dim)
        return []
    profile = _profile(settings, x, float(variances.sum()), float(mean @ mean))
    try:
        levels = level_coefficients(profile, variances, dim)
        modes = hermite_modes(variances, levels, MODES)
        count = min(max(len(x) // 3, 1), TARGET_MODES, len(modes.components))
        target = hermite_target(scores, targets, modes.components[:count])
    except UserError as error:
        logging.warning("predictions from the covariance are left out: %s", error)
        return []
    powers = np.zeros((len(modes.eigenvalues), targets.shape[1]))
    powers[:count] = target.powers
    by_degree = np.zeros((len(levels), targets.shape[1]))
    np.add.at(by_degree, [len(mode) for mode in modes.components[:count]], target.powers)
    about = {"dimension": dim, "modes": count,
             "levels": (levels * variances.sum() ** np.arange(len(levels))).tolist()}  # fmt: skip
    tail = max(trace - float(modes.eigenvalues.sum()), 0.0)
    hermite = Line("hermite", "Hermite eigenstructure", modes.eigenvalues, powers, target.rest, tail, about)
    return [_sphere(profile, dim, by_degree, target.rest, trace), hermite]


def _components(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances of the principal components in decreasing order, and the scores of the rows.

    The scores are the coordinates of the rows along the components, scaled to variance 1. Components whose variance is
    at most 1e-9 times the largest one are left out.

    Args:
        centred: Rows minus their mean, (n, d).
    """
    rows, width = centred.shape
    if rows < width:
        values, vectors = scipy.linalg.eigh(centred @ centred.T / rows, driver="evd", check_finite=False)
    else:
        values, vectors = scipy.linalg.eigh(centred.T @ centred / rows, driver="evd", check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > LEAST_VARIANCE * max(values[0], np.finfo(np.float64).tiny)
    values, vectors = values[kept], vectors[:, kept]
    return values, vectors * np.sqrt(rows) if rows < width else centred @ vectors / np.sqrt(values)


def _profile(settings: GramSettings, x: np.ndarray, square: float, offset: float) -> Profile:
    """Return the kernel k(x, z) on a sphere around the mean μ of the inputs, as a function of a cosine.

    The function maps an array of cosines of the angle between x - μ and z - μ to the values of k.

    Args:
        settings: Settings of the kernel.
        x: Train rows, by which a kernel may set its bandwidth.
        square: Square of the sphere's radius, tr Σ, for the covariance Σ of the rows.
        offset: ‖μ‖². On the sphere, μ is orthogonal to x - μ and z - μ.
    """
    exact = dataclasses.replace(settings, dtype="float64")
    kernel = KERNELS.load(settings.kernel).build(exact, None).on(np.asarray(x, np.float32))
    one = np.zeros((1, x.shape[1]))
    one[0, [0, 2]] = np.sqrt(square), np.sqrt(offset)
    prepared = kernel.prepare(one)

    def profile(cosines: np.ndarray) -> np.ndarray:
        others = np.zeros((len(cosines), x.shape[1]))
        others[:, 0], others[:, 2] = np.sqrt(square) * cosines, np.sqrt(offset)
        others[:, 1] = np.sqrt(square * np.maximum(1 - np.square(cosines), 0))
        return kernel.block(prepared, kernel.prepare(others))[0].astype(np.float64)

    return profile


def _sphere(profile: Profile, dim: float, by_degree: np.ndarray, rest: np.ndarray, trace: float) -> Line:
    """Return the learning curve that follows from the spectrum of k on the sphere of the inputs' effective dimension.

    Args:
        profile: k as a function of the cosine of the angle between two points of the sphere.
        dim: Effective dimension.
        by_degree: Mean square of each output's target in the polynomials of each degree from 0 on, (degrees, k).
        rest: Mean square of the part of each output's target that is in none of these degrees, (k,).
        trace: Mean of k(x, x) over the train rows.
    """
    found = sphere_spectrum(profile, dim, DEGREES)
    values, repeats = np.maximum(found.eigenvalues, 0), np.maximum(np.rint(found.multiplicities), 1)
    taken = max(int(np.searchsorted(np.cumsum(repeats), MOST_HARMONICS)), 2)
    repeats = repeats[:taken].astype(int)
    degrees = min(taken, len(by_degree))
    powers = np.zeros((taken, by_degree.shape[1]))
    powers[:degrees] = by_degree[:degrees]
    rest = rest + by_degree[degrees:].sum(axis=0).clip(min=0)
    eigenvalues = np.repeat(values[:taken], repeats)
    order = np.argsort(-eigenvalues, kind="stable")
    eigenvalues = eigenvalues[order]
    about = {"dimension": dim, "degrees": [
        {"degree": degree, "eigenvalue": float(values[degree]), "multiplicity": float(found.multiplicities[degree]),
         "target": float(powers[degree].sum())} for degree in range(taken)
    ]}  # fmt: skip
    return Line("sphere", f"sphere of {dim:.3g} dimensions", eigenvalues,
                np.repeat(powers / repeats[:, None], repeats, axis=0)[order], rest,
                max(trace - float(eigenvalues.sum()), 0.0), about)  # fmt: skip
