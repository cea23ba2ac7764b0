"""Preprocessing of the inputs of a dataset, fitted on its train rows only and applied equally to every split.

The methods are:

- "standard" scales each column to mean 0 and variance 1 over the train rows. A column that is constant over the train
  rows is only centred, and thus 0 in the train rows.
- "unit_norm" divides each row by its Euclidean norm; a row of zeros is unchanged.
- "layer_norm" scales each row to mean 0 and variance 1 over its own entries, and fits nothing.
- "zca" centres by the mean of the train rows, and multiplies by the symmetric inverse square root of their covariance
  C, so that images stay images (Bell & Sejnowski 1997).
- "layer_norm_zca" applies "zca" to the result of "layer_norm".

In ZCA, a direction in which C (d x d) has the eigenvalue v is multiplied by (v + ε tr(C)/d)^(-1/2), with ε = 0.1 by
default. A direction in which the train rows do not vary is multiplied by 1. C has no information about such a
direction, but validation and test rows may vary in it, as they do if there are fewer train rows than columns. Both
rules are those of the code of Han, Zandieh, Lee, Novak, Xiao & Karbasi (NeurIPS 2022). Validation and test rows never
enter C.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from absl import logging

from linearized.base.array_checks import real_array, refuse_not_finite
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float32, Float64
from linearized.data.dataset import Dataset, Split, fingerprint
from linearized.settings.data_settings import PREPROCESSING, ZCA_REGULARIZATION

NULL = 1e-12  # an eigenvalue below this fraction of the largest, times d, is rounding error in float64
LARGER = 3.0  # root mean square of held-out rows, relative to train rows (or to 1), from which a warning is logged
RECIPE = 2  # version of the meaning of these names; part of the fingerprint
ROWS = 4096  # rows in a block


@dataclasses.dataclass(frozen=True)
class Whitening:
    """The fitted ZCA whitening x -> (x - mean) root of rows, with the train rows' mean (d,) and the matrix root (d, d).

    `root` is the symmetric inverse square root of the regularised covariance of the train rows (see the module).
    """

    mean: Float64[np.ndarray, " d"]
    root: Float64[np.ndarray, "d d"]

    def __call__(self, x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Whiten rows `x` in float64 by blocks, and return them in float32: 2 n d² operations."""
        return _by_blocks(x, lambda rows: (rows - self.mean) @ self.root)


def fit_whitening(x: np.ndarray, regularization: float = ZCA_REGULARIZATION) -> Whitening:
    """Fit ZCA whitening to train rows; costs n d² operations and an eigenproblem of size d, in float64.

    Args:
        x: Train rows (n, d).
        regularization: ε, at least 0. ε times the mean eigenvalue of the covariance is added to its eigenvalues.

    Raises `UserError` for rows that are not finite, and for rows that are all equal, because their covariance is 0.
    """
    import scipy.linalg  # imported here, so that modules that only read the settings' names start quickly

    x = checked_rows(x)
    if not 0 <= regularization < np.inf:
        raise UserError(f"The regularization of ZCA must be at least 0. Received: {regularization}.")
    n, d = x.shape
    mean, moment = x.mean(axis=0, dtype=np.float64), np.zeros((d, d))
    for rows in _blocks(n):
        centred = x[rows] - mean
        moment += centred.T @ centred
    values, vectors = scipy.linalg.eigh(moment / n)
    if (x == x[0]).all() or not values[-1] > 0:
        raise UserError(f"ZCA needs train rows that differ. Received: {n} rows of covariance 0. Take more rows.")
    varied = values > NULL * d * values[-1]
    floor = regularization * np.maximum(values, 0).mean()
    gains = 1 / np.sqrt(np.where(varied, values + floor, 1))
    if not varied.all():
        logging.info("ZCA whitens %d of %d directions; the train rows do not vary in the others", varied.sum(), d)
    return Whitening(mean, (vectors * gains) @ vectors.T)


@dataclasses.dataclass(frozen=True)
class Standardization:
    """The fitted map x -> (x - mean) / deviation of rows, with mean (d,) and standard deviation (d,) of each column."""

    mean: Float64[np.ndarray, " d"]
    deviation: Float64[np.ndarray, " d"]

    def __call__(self, x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Standardise rows `x` in float64 by blocks, and return them in float32."""
        return _by_blocks(x, lambda rows: (rows - self.mean) / self.deviation)


def fit_standardization(x: np.ndarray) -> Standardization:
    """Fit the mean and the standard deviation (of the population) of each column of rows `x` (n, d), in float64.

    The deviation of a constant column is taken as 1. Raises `UserError` for rows that are not finite.
    """
    x = checked_rows(x)
    mean, squares = x.mean(axis=0, dtype=np.float64), np.zeros(x.shape[1])
    for rows in _blocks(len(x)):
        squares += np.square(x[rows] - mean).sum(axis=0)
    varied = x.max(axis=0) > x.min(axis=0)  # rounding alone does not count as variation
    return Standardization(np.where(varied, mean, x[0]), np.where(varied, np.sqrt(squares / len(x)), 1))


def unit_norm(x: np.ndarray) -> Float32[np.ndarray, "n d"]:
    """Divide each row of `x` (n, d) by its Euclidean norm; a row of zeros is unchanged.

    Raises `UserError` for rows that are not finite.
    """

    def scaled(rows: np.ndarray) -> np.ndarray:
        scale = np.abs(rows).max(axis=1, keepdims=True)  # squares of large or tiny entries would overflow or underflow
        rows = rows / np.where(scale > 0, scale, 1)
        norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
        return rows / np.where(norms > 0, norms, 1)

    return _by_blocks(checked_rows(x), scaled)


def layer_norm(x: np.ndarray) -> Float32[np.ndarray, "n d"]:
    """Scale each row of `x` (n, d) to mean 0 and variance 1 over its entries; a constant row becomes exactly 0.

    Raises `UserError` for rows that are not finite.
    """

    def normalised(rows: np.ndarray) -> np.ndarray:
        centred = rows - rows.mean(axis=1, keepdims=True)
        deviations = np.sqrt(np.square(centred).mean(axis=1, keepdims=True))
        varied = rows.max(axis=1, keepdims=True) > rows.min(axis=1, keepdims=True)  # rounding alone does not count
        return np.divide(centred, deviations, out=np.zeros_like(centred), where=varied & (deviations > 0))

    return _by_blocks(checked_rows(x), normalised)


def checked_rows(x: np.ndarray) -> Float[np.ndarray, "n d"]:
    """Return `x` as a matrix of real, finite numbers with at least one row and column. Raises `UserError` otherwise."""
    x = real_array(x, "Inputs")
    if x.ndim != 2 or not x.size:
        raise UserError(f"Inputs must be rows (n, d) with at least one entry. Received: shape {x.shape}.")
    refuse_not_finite(x, "Inputs")
    return x


def preprocessed(dataset: Dataset, method: str, regularization: float = ZCA_REGULARIZATION) -> Dataset:
    """Return a dataset with the inputs of every split preprocessed, and a new fingerprint.

    The preprocessing is fitted on the train rows, and added to the dataset's `preparation` for further rows. After ZCA,
    a warning is logged if the root mean square of validation or test rows is much larger than that of train rows.

    Args:
        dataset: The data set.
        method: One of `PREPROCESSING`, such as "standard" or "zca".
        regularization: ε of ZCA: ε times the mean eigenvalue of the covariance is added to its eigenvalues.

    Raises `UserError` for an unknown method, and for inputs that are not finite.
    """
    if method not in PREPROCESSING:
        raise UserError(f"Unknown preprocessing {method!r}. The choices are: {', '.join(PREPROCESSING)}.")
    if method == "none":
        return dataset
    inputs, steps = {name: split.x for name, split in dataset.splits().items()}, []
    if method == "standard":
        steps.append(fit_standardization(inputs["train"]))
    elif method == "unit_norm":
        steps.append(unit_norm)
    elif method.startswith("layer_norm"):
        steps.append(layer_norm)
    if steps:
        inputs = {name: steps[0](x) for name, x in inputs.items()}
    if method.endswith("zca"):
        steps.append(fit_whitening(inputs["train"], regularization))
        inputs = {name: steps[-1](x) for name, x in inputs.items()}
        sizes = {name: float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for name, x in inputs.items()}
        for name, size in sizes.items():
            if size > LARGER * max(sizes["train"], 1):
                logging.warning(
                    "ZCA: the root mean square of %s rows is %.3g, that of train rows %.3g. Take more train rows or a "
                    "larger --zca_regularization", name, size, sizes["train"],
                )  # fmt: skip
    splits = {name: Split(inputs[name], split.y) for name, split in dataset.splits().items()}
    made_from = fingerprint(dataset.fingerprint, method, RECIPE, *([regularization] if method.endswith("zca") else []))
    preparation = dataset.preparation
    for step in steps if preparation else ():
        preparation = preparation.then(step)
    return dataclasses.replace(dataset, **splits, fingerprint=made_from, preparation=preparation, directions=None)


def _by_blocks(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> Float32[np.ndarray, "n d"]:
    """Apply a function to the rows of `x` (n, d) block by block, and return the results as float32 (n, d).

    Args:
        x: The rows.
        function: Function of a block of rows in float64.
    """
    out = np.empty(x.shape, np.float32)
    for rows in _blocks(len(x)):
        out[rows] = function(x[rows].astype(np.float64))
    return out


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, n, ROWS)]
