"""Choice of the method by which the term of each variable in a tangent kernel is computed.

The term of a variable w is ⟨∂f_k(x)/∂w, ∂f_l(x')/∂w⟩ for rows x, x' and outputs f_k, f_l of the model. A layer has T
positions (such as pixels), and inputs of length a and results of length b at each of them; the model has k outputs. The
signals of a layer are the derivatives of the outputs with respect to its results. There are three methods, called paths
("path" is also the name of the column in the table of `linearized.empirical_ntk(..., explain=True)`):

    factors     products of the layer's inputs and signals, T² (a + k b) operations per pair of rows
    gradients   derivatives from inputs and signals, k T a b operations per row and k a b per pair of rows
    jacobian    derivatives by automatic differentiation, k backward passes per row

The first two need a rule for the type of the layer (see `linearized.tangents.rules`), and the cheaper of the two is
used. For one row, the derivatives by the rule are compared with those of automatic differentiation. The path "jacobian"
is used for variables without a rule, and for variables whose derivatives by the rule are wrong. An example is a weight
that the model also reads outside of its layer.
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
    """Method by which the term of one variable in a tangent kernel is computed.

    Attributes:
        variable: Keras variable.
        name: "factors", "gradients" or "jacobian", see the docstring of the module.
        calls: Number of layer calls in one forward pass that use the variable; 0 for a variable without a rule.
        operations: Number of multiplications per pair of rows.
    """

    variable: Any
    name: str
    calls: int
    operations: float


class Parts:
    """Derivatives of a model's k outputs with respect to its variables for n rows, grouped by variable.

    The rules of the layers computed them (see `rules.found`).

    Args:
        linear: One `Linear` for each call of a layer that multiplies its inputs by a kernel. It contains the inputs of
            the layer, and the derivatives of the outputs with respect to the results of the layer.
        others: Pairs of a variable of another kind, such as the scale of a normalisation, and the derivatives of the k
            outputs with respect to it, `(n, k, *shape)`.
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
        """Return the derivatives of the k outputs with respect to a variable, `(n, k, *shape)`, for each of n rows.

        They are summed over all calls of layers that use the variable. None: no rule covers the variable.

        Args:
            variable: Keras variable.
        """
        key = id(variable)
        found = [part.kernel_gradients() for part in self.kernels.get(key, ())]
        found += [part.bias_gradients() for part in self.biases.get(key, ())]
        found += self.others.get(key, ())
        return sum(found) if found else None

    def flat_gradients(self, variable: Any) -> np.ndarray:
        """Return the derivatives of the k outputs with respect to the p entries of a variable, (n, k, p).

        The order of the p entries is arbitrary, but the same for all rows.

        Args:
            variable: Keras variable that a rule covers.
        """
        own = self.kernels.get(id(variable), ())
        if len(own) == self.calls(variable) == 1:
            return own[0].flat_gradients()
        found = self.gradients(variable)
        return found.reshape(*found.shape[:2], -1)

    def calls(self, variable: Any) -> int:
        """Return how many calls of layers in one forward pass use a variable; 0 if no rule covers it."""
        return sum(len(found.get(id(variable), ())) for found in (self.kernels, self.biases, self.others))


def planned(variables: list[Any], parts: Parts, truth: list[np.ndarray | None], *, full: bool) -> list[Path]:
    """Choose a method for each variable that the outputs depend on: the cheapest one with correct derivatives.

    Args:
        variables: Trainable variables that are included in the kernel.
        parts: Results of the rules for one row.
        truth: Derivatives of the outputs for the same row by automatic differentiation, one array `(k, *shape)` per
            variable; None for a variable that the outputs do not depend on.
        full: Whether the kernel is computed at every pair of outputs.

    Returns:
        One `Path` for each of these variables, in their order.
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
    """Return the operations per pair of rows for a layer's kernel by the paths "factors" and "gradients".

    Args:
        parts: All calls of layers that use the variable.
        full: Whether the tangent kernel is computed at every pair of outputs.
    """
    positions, (_, _, k, b) = sum(part.factors.inputs.shape[1] for part in parts), parts[0].factors.signals.shape
    a = int(np.prod(parts[0].kernel.shape)) // b
    width = 1 if parts[0].factors.inputs.dtype.kind == "i" else a
    factors, _ = operations(positions, width, k, b, rows=ROWS, full=full)
    return factors, operations(positions, a, k, b, rows=ROWS, full=full)[1]
