"""Layer norm and ZCA whitening of a dataset, fitted on its train rows alone and applied to every split alike.

Layer norm takes each row to mean 0 and variance 1 over its own entries, and has nothing to fit. ZCA centres by the mean
of the train rows and whitens by (C + ε tr(C)/d I)^(-1/2), C their covariance: the symmetric root, so that images stay
images (Bell & Sejnowski 1997). Whitening what layer norm left is "layer_norm_zca". Validation and test rows never enter
C, and what C was made from is what it is applied to.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Float64

from data.dataset import Dataset, Split, fingerprint
from data.errors import UserError

METHODS = ("none", "layer_norm", "zca", "layer_norm_zca")
EPSILON = 1e-4  # ε
RECIPE = 1  # counts the changes to what these names mean: part of the fingerprint
ROWS = 4096  # a block


@dataclasses.dataclass(frozen=True)
class Whitening:
    """x -> (x - mean) root, see the module."""

    mean: Float64[np.ndarray, " d"]
    root: Float64[np.ndarray, "d d"]

    def __call__(self, x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Rows whitened: 2 n d² operations, in float64 by blocks."""
        out = np.empty(x.shape, np.float32)
        for rows in _blocks(len(x)):
            out[rows] = (x[rows] - self.mean) @ self.root
        return out


def fit_whitening(x: Float[np.ndarray, "n d"], epsilon: float = EPSILON) -> Whitening:
    """Whitening by the mean and covariance of `x`: n d² operations and an eigenproblem of d x d, in float64.

    Raises `UserError` for rows that are all alike: their covariance is 0.
    """
    import scipy.linalg  # here, so that what only reads the settings' names starts quickly

    n, d = x.shape
    mean, moment = x.mean(axis=0, dtype=np.float64), np.zeros((d, d))
    for rows in _blocks(n):
        centred = x[rows] - mean
        moment += centred.T @ centred
    values, vectors = scipy.linalg.eigh(moment / n)
    floor = epsilon * np.maximum(values, 0).mean()
    if not floor > 0:
        raise UserError(f"ZCA needs train rows that differ. Received: {n} rows of covariance 0. Take more rows.")
    return Whitening(mean, (vectors / np.sqrt(np.maximum(values, 0) + floor)) @ vectors.T)


def layer_norm(x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Each row at mean 0 and variance 1 over its entries; a constant row becomes 0."""
    out = np.empty(x.shape, np.float32)
    for rows in _blocks(len(x)):
        centred = x[rows] - x[rows].mean(axis=1, keepdims=True, dtype=np.float64)
        deviations = np.sqrt(np.square(centred).mean(axis=1, keepdims=True))
        out[rows] = np.divide(centred, deviations, out=np.zeros_like(centred), where=deviations > 0)
    return out


def preprocessed(dataset: Dataset, method: str) -> Dataset:
    """The dataset with the inputs of every split preprocessed; its fingerprint tells them from the raw ones."""
    if method not in METHODS:
        raise UserError(f"Unknown preprocessing {method!r}. The choices are: {', '.join(METHODS)}.")
    if method == "none":
        return dataset
    inputs = {name: split.x for name, split in dataset.splits().items()}
    if method.startswith("layer_norm"):
        inputs = {name: layer_norm(x) for name, x in inputs.items()}
    if method.endswith("zca"):
        whitening = fit_whitening(inputs["train"])
        inputs = {name: whitening(x) for name, x in inputs.items()}
    splits = {name: Split(inputs[name], split.y) for name, split in dataset.splits().items()}
    made_from = fingerprint(dataset.fingerprint, method, RECIPE, EPSILON)
    return dataclasses.replace(dataset, **splits, fingerprint=made_from)


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, n, ROWS)]
