"""Methods ("paths") by which variables contribute to a tangent kernel, chosen by operation count after a check.

    factors     products of the layer's inputs and signals, T² (a + k b) operations per pair of rows
    gradients   row gradients from the same arrays, k T a b operations per row and k a b per pair
    jacobian    row gradients by automatic differentiation, k backward passes per row: for variables without a rule

A layer has T positions, inputs of length a and results of length b; the model has k outputs (see `contributions`). The
row gradients that the rules (see `rules`) give for a probe row are compared with those of automatic differentiation. A
variable whose gradients differ, such as a weight that the model reads outside of its layer, takes the path "jacobian".
"""

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from linearized.tangents.contributions import operations
from linearized.tangents.rules import Linear

TOLERANCE = 1e-3  # largest error of a rule's row gradients, relative to the largest true one of the variable
NEGLIGIBLE = 1e-5  # row gradients below this share of the model's largest one count as 0: a softmax may cancel a bias
ROWS = 1024  # number of rows on each side of the kernel for which operations are counted


@dataclasses.dataclass(frozen=True)
class Path:
    """Method by which a variable contributes to a tangent kernel.

    Attributes:
        variable: Keras variable.
        name: "factors", "gradients" or "jacobian".
        calls: Number of calls of its layer in one forward pass; 0 for a variable without a rule.
        operations: Number of multiplications per pair of rows.
    """

    variable: Any
    name: str
    calls: int
    operations: float


class Parts:
    """What the rules return for one forward pass, grouped by variable.

    Args:
        linear: Linear parts of the calls of layers.
        others: Variables without a linear part, with their row gradients `(n, k, *shape)`.
    """

    def __init__(self, linear: Iterable[Linear], others: Iterable[tuple[Any, np.ndarray]]):
        self.kernels: dict[int, list[Linear]] = collections.defaultdict(list)
        self.biases: dict[int, list[Linear]] = collections.defaultdict(list)
        self.others: dict[int, list[np.ndarray]] = collections.defaultdict(list)
        for part in linear:
            self.kernels[id(part.kernel)].append(part)
            if part.bias is not None:
                self.biases[id(part.bias)].append(part)
        for variable, gradient in others:
            self.others[id(variable)].append(gradient)

    def gradients(self, variable: Any) -> np.ndarray | None:
        """Return the row gradients `(n, k, *shape)` of a variable, summed over calls; None if no rule found it."""
        key = id(variable)
        found = [part.kernel_gradients() for part in self.kernels.get(key, ())]
        found += [part.bias_gradients() for part in self.biases.get(key, ())]
        found += self.others.get(key, ())
        return sum(found) if found else None

    def flat_gradients(self, variable: Any) -> np.ndarray:
        """Return the row gradients (n, k, p) of a variable that a rule found.

        The order of the p entries is arbitrary, but the same for all rows.
        """
        own = self.kernels.get(id(variable), ())
        if len(own) == self.calls(variable) == 1:
            return own[0].flat_gradients()
        found = self.gradients(variable)
        return found.reshape(*found.shape[:2], -1)

    def calls(self, variable: Any) -> int:
        """Return the number of calls of layers in which a rule found the variable."""
        return sum(len(found.get(id(variable), ())) for found in (self.kernels, self.biases, self.others))


def planned(variables: list[Any], parts: Parts, truth: list[np.ndarray | None], *, full: bool) -> list[Path]:
    """Choose the paths of the variables that the outputs depend on, and return them in the order of the variables.

    Args:
        variables: Variables to choose a path for.
        parts: What the rules return for one probe row.
        truth: Derivatives of the outputs for this row by automatic differentiation, one array `(k, *shape)` per
            variable; None for a variable that the outputs do not depend on.
        full: Whether the kernel is computed at every pair of outputs.
    """
    largest = max((float(np.abs(one).max()) for one in truth if one is not None), default=0.0)
    paths = {}
    for variable, true in zip(variables, truth, strict=True):
        mine = parts.gradients(variable)
        if mine is None and true is None:
            continue
        width = len(true) if true is not None else mine.shape[1]
        size = float(np.prod(variable.shape)) * width * (width if full else 1)
        if mine is None or not _alike(mine[0], 0 if true is None else true, largest):
            paths[id(variable)] = Path(variable, "jacobian", parts.calls(variable), size)
            continue
        name, count = "gradients", size
        if (linear := parts.kernels.get(id(variable))) and parts.calls(variable) == len(linear):
            factors, count = _counts(linear, full)
            name, count = ("factors", factors) if factors < count else (name, count)
        paths[id(variable)] = Path(variable, name, parts.calls(variable), count)
    for key, linear in parts.biases.items():  # a bias takes the path of a kernel of the same calls
        path, kernel = paths.get(key), linear[0].kernel
        together = parts.kernels[id(kernel)] == linear and path and parts.calls(path.variable) == len(linear)
        if together and path.name == "gradients" and getattr(paths.get(id(kernel)), "name", "") == "factors":
            paths[key] = dataclasses.replace(path, name="factors", operations=1.0)
    return [paths[id(one)] for one in variables if id(one) in paths]


def _alike(mine: np.ndarray, true: np.ndarray | int, largest: float) -> bool:
    scale = max(float(np.abs(true).max()), NEGLIGIBLE / TOLERANCE * largest)
    return bool(np.abs(mine - true).max() <= TOLERANCE * scale)


def _counts(parts: list[Linear], full: bool) -> tuple[float, float]:
    """Return the operations per pair of rows by factors, and by row gradients."""
    positions, (_, _, k, b) = sum(part.factors.inputs.shape[1] for part in parts), parts[0].factors.signals.shape
    a = int(np.prod(parts[0].kernel.shape)) // b
    width = 1 if parts[0].factors.inputs.dtype.kind == "i" else a
    factors, _ = operations(positions, width, k, b, rows=ROWS, full=full)
    return factors, operations(positions, a, k, b, rows=ROWS, full=full)[1]
