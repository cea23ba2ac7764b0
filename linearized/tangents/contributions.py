"""Contributions of variables to a tangent kernel: row gradients, or factors whose outer products these are.

For rows x and x' and outputs k and l of a network, a variable w contributes ⟨∂f_k(x)/∂w, ∂f_l(x')/∂w⟩. A layer that is
linear at T positions, s_t = h_t w + b, has ∂f_k/∂w = Σ_t h_t δ_ktᵀ, so that its contribution is

    Σ_t,u (h_t·h'_u + 1) (δ_kt·δ'_lu)

with 1 for the bias. `Factors` compute it with T² (a + k b) operations per pair of rows for k outputs. The row gradients
themselves, `Gradients`, take k T a b operations per row and k a b per pair. Both are computed in float32; BLAS sums
products in the data type of the arrays.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from linearized.base.blocks import for_each
from linearized.base.shapes import Float

BLOCK = 2**24  # largest number of entries of an intermediate array
PARALLEL = 2**24  # multiplications in a block of gradients from which a thread of its own is worth its cost


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Row gradients of a variable, (n, k, p)."""

    values: Float[np.ndarray, "n k p"]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Memory of all rows in bytes."""
        return self.values.nbytes

    def astype(self, dtype: np.dtype) -> "Gradients":
        """Return the same numbers in another data type."""
        return Gradients(self.values.astype(dtype, copy=False))

    def __getitem__(self, rows: slice) -> "Gradients":
        return Gradients(self.values[rows])

    @classmethod
    def joined(cls, blocks: Sequence["Gradients"]) -> "Gradients":
        """Return the rows of several blocks."""
        return blocks[0] if len(blocks) == 1 else cls(np.concatenate([one.values for one in blocks]))

    def trace(self, other: "Gradients") -> Float[np.ndarray, "n m"]:
        """Return Σ_k of the contributions at equal outputs k = l."""
        return self.values.reshape(len(self), -1) @ other.values.reshape(len(other), -1).T

    def full(self, other: "Gradients") -> Float[np.ndarray, "n m k k"]:
        """Return the contributions at every pair of outputs."""
        (n, k, p), m = self.values.shape, len(other)
        pairs = self.values.reshape(n * k, p) @ other.values.reshape(m * k, p).T
        return pairs.reshape(n, k, m, k).transpose(0, 2, 1, 3)


@dataclasses.dataclass(frozen=True)
class Factors:
    """Inputs and signals of a layer at its positions.

    Attributes:
        inputs: h, (n, T, a), float32; indices (n, T, 1) in `Lookups`.
        signals: δ, (n, T, k, b).
        bias: 1.0 where the layer's bias contributes too, else 0.0.
    """

    inputs: np.ndarray
    signals: Float[np.ndarray, "n t k b"]
    bias: float

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def nbytes(self) -> int:
        """Memory of all rows in bytes."""
        return self.inputs.nbytes + self.signals.nbytes

    def astype(self, dtype: np.dtype) -> "Factors":
        """Return the same numbers in another data type."""
        inputs, signals = (part.astype(dtype, copy=False) for part in (self.inputs, self.signals))
        return type(self)(inputs, signals, self.bias)

    def __getitem__(self, rows: slice) -> "Factors":
        return type(self)(self.inputs[rows], self.signals[rows], self.bias)

    @classmethod
    def joined(cls, blocks: Sequence["Factors"]) -> "Factors":
        """Return the rows of several blocks."""
        return blocks[0]._together(blocks, 0, blocks[0].bias)

    @staticmethod
    def of_calls(calls: Sequence["Factors"], bias: float) -> "Factors":
        """Return the factors of all calls of a layer as those of one call at the positions of all."""
        return calls[0]._together(calls, 1, bias)

    def _together(self, parts: Sequence["Factors"], axis: int, bias: float) -> "Factors":
        if len(parts) == 1:
            return dataclasses.replace(self, bias=bias)
        inputs, signals = (np.concatenate([getattr(part, name) for part in parts], axis)
                           for name in ("inputs", "signals"))  # fmt: skip
        return type(self)(inputs, signals, bias)

    def gradients(self) -> Float[np.ndarray, "n k b a"]:
        """Return Σ_t δ_kt h_tᵀ of each row, with k T a b operations per row on all cores."""
        (n, t, k, b), a = self.signals.shape, self.inputs.shape[2]
        found = np.empty((n, k * b, a), self.signals.dtype)
        signals = self.signals.reshape(n, t, k * b).transpose(0, 2, 1)

        def work(rows: slice) -> None:
            np.matmul(signals[rows], self.inputs[rows], out=found[rows])

        step = max(1, PARALLEL // max(t * k * b * a, 1))
        blocks = [slice(start, start + step) for start in range(0, n, step)]
        for_each(blocks, work) if len(blocks) > 1 else work(slice(None))
        return found.reshape(n, k, b, a)

    def trace(self, other: "Factors") -> Float[np.ndarray, "n m"]:
        """Return Σ_k of the contributions at equal outputs, as `Gradients.trace` does."""
        out = np.empty((len(self), len(other)), self.signals.dtype)
        for rows, columns, inner in self._inner(other):
            one, two = self[rows].signals, other[columns].signals
            signals = one.reshape(-1, one.shape[2] * one.shape[3]) @ two.reshape(-1, two.shape[2] * two.shape[3]).T
            out[rows, columns] = _over_positions(inner * signals, self, other, len(one))
        return out

    def full(self, other: "Factors") -> Float[np.ndarray, "n m k k"]:
        """Return the contributions at every pair of outputs, as `Gradients.full` does."""
        positions, there, (k, width) = self.inputs.shape[1], other.inputs.shape[1], self.signals.shape[2:]
        out = np.empty((len(self), len(other), k, k), self.signals.dtype)
        single = positions == there == 1
        for rows, columns, inner in self._inner(other, k if single else 1):
            one, two = self[rows].signals, other[columns].signals
            if single:
                signals = (one.reshape(-1, width) @ two.reshape(-1, width).T).reshape(len(one), k, len(two), k)
                out[rows, columns] = (signals * inner[:, None, :, None]).transpose(0, 2, 1, 3)
                continue
            for place, left in enumerate(np.moveaxis(one, 2, 0)):
                for beside, right in enumerate(np.moveaxis(two, 2, 0)):
                    signals = left.reshape(-1, width) @ right.reshape(-1, width).T
                    out[rows, columns, place, beside] = _over_positions(inner * signals, self, other, len(one))
        return out

    def _inner(self, other: "Factors", times: int = 1) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Yield rows, columns and h·h' + 1 of their positions, (rows T, columns T).

        Args:
            other: Factors of the columns.
            times: Numbers that the caller computes per position of each row; bounds the size of a block.
        """
        size = max(1, int(np.sqrt(BLOCK)) // (self.inputs.shape[1] * times))
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            for left in range(0, len(other), size):
                columns = slice(left, min(left + size, len(other)))
                yield rows, columns, self._products(self.inputs[rows], other.inputs[columns])

    def _products(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Return h·h' + 1 of all pairs of positions."""
        inner = one.reshape(-1, one.shape[2]) @ two.reshape(-1, two.shape[2]).T
        inner += inner.dtype.type(self.bias)
        return inner


@dataclasses.dataclass(frozen=True)
class Lookups(Factors):
    """Factors of an embedding: `inputs` are word indices (n, T, 1) that stand for one-hot rows."""

    def astype(self, dtype: np.dtype) -> "Lookups":
        """Return the factors with signals in another data type; the word indices stay integers."""
        return Lookups(self.inputs, self.signals.astype(dtype, copy=False), self.bias)

    def _products(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return (one.reshape(-1, 1) == two.reshape(1, -1)).astype(self.signals.dtype)


def _over_positions(products: np.ndarray, one: Factors, two: Factors, rows: int) -> np.ndarray:
    t, u = one.inputs.shape[1], two.inputs.shape[1]
    if t == u == 1:
        return products
    return products.reshape(rows, t, -1, u).sum(axis=(1, 3))


Contribution = Gradients | Factors


def operations(
    positions: int, width: int, outputs: int, out_width: int, *, rows: int, full: bool
) -> tuple[float, float]:
    """Return the operations per pair of rows by factors and by row gradients.

    Args:
        positions: T, the number of positions.
        width: a, the length of the inputs at a position.
        outputs: k, the number of outputs.
        out_width: b, the length of the signals at a position.
        rows: Rows on each side that are paired, over which the cost of the gradients is spread.
        full: Whether every pair of outputs is computed.
    """
    pairs = outputs**2 if full else outputs
    factors = positions**2 * (width + pairs * out_width + pairs)
    gradients = outputs * positions * width * out_width * 2 / rows + pairs * width * out_width
    return float(factors), float(gradients)
