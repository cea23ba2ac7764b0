"""The term that each variable of a network adds to its tangent kernel, computed in one of two ways.

For rows x and x' and outputs f_k and f_l of a network, a variable w adds ⟨∂f_k(x)/∂w, ∂f_l(x')/∂w⟩ to the tangent
kernel. This term is called the contribution of w, and ∂f_k(x)/∂w is called a row gradient. The classes `Gradients` and
`Factors` store different arrays for each row, and compute the contributions of pairs of rows from them.

`Gradients` stores row gradients. `Factors` is for the weights w and the bias of a layer that computes
s_t = h_t w + bias at T positions (such as pixels or tokens), with inputs h_t of length a and results s_t of length b.
With the signals δ_kt = ∂f_k(x)/∂s_t, the row gradient is ∂f_k/∂w = Σ_t h_t δ_ktᵀ, so that w and the bias together
contribute

    Σ_t,u (h_t·h'_u + 1) (δ_kt·δ'_lu),

where h', δ' and u belong to x', and the 1 is for the bias. `Factors` stores h and δ. For the trace of the kernel over k
outputs, `Factors` needs T² (a + k b) operations per pair of rows. `Gradients` needs k T a b operations per row to
compute the row gradients, and k a b per pair of rows. For the kernel at all pairs of outputs, k² replaces k in the
operations per pair of rows. BLAS sums the products in the data type of the arrays, which is float32 unless `astype`
converts them.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from linearized.base.blocks import for_each
from linearized.base.shapes import Float

BLOCK = 2**24  # largest number of entries of an intermediate array
PARALLEL = 2**24  # multiplications of a block of gradients above which a separate thread is worth its cost


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Derivatives of a network's outputs with respect to one variable with p entries, for each of n rows.

    Attributes:
        values: Derivatives (n, k, p) of k outputs for n rows.
    """

    values: Float[np.ndarray, "n k p"]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Memory of the derivatives of all rows in bytes."""
        return self.values.nbytes

    def astype(self, dtype: np.dtype) -> "Gradients":
        """Return the derivatives converted to another data type."""
        return Gradients(self.values.astype(dtype, copy=False))

    def __getitem__(self, rows: slice) -> "Gradients":
        return Gradients(self.values[rows])

    @classmethod
    def joined(cls, blocks: Sequence["Gradients"]) -> "Gradients":
        """Concatenate the derivatives of several blocks of rows."""
        return blocks[0] if len(blocks) == 1 else cls(np.concatenate([one.values for one in blocks]))

    def trace(self, other: "Gradients") -> Float[np.ndarray, "n m"]:
        """Return Σ_k ⟨∂f_k(x)/∂w, ∂f_k(x')/∂w⟩ for the n rows x of this object and the m rows x' of `other`, (n, m).

        This is the contribution of the variable w to the trace of the tangent kernel over the k outputs.
        """
        return self.values.reshape(len(self), -1) @ other.values.reshape(len(other), -1).T

    def full(self, other: "Gradients") -> Float[np.ndarray, "n m k k"]:
        """Return ⟨∂f_k(x)/∂w, ∂f_l(x')/∂w⟩ for the n rows x of this object, the m rows x' of `other` and all k, l.

        This is the contribution of the variable w to the tangent kernel at every pair of outputs, (n, m, k, k).
        """
        (n, k, p), m = self.values.shape, len(other)
        pairs = self.values.reshape(n * k, p) @ other.values.reshape(m * k, p).T
        return pairs.reshape(n, k, m, k).transpose(0, 2, 1, 3)


@dataclasses.dataclass(frozen=True)
class Factors:
    """Inputs h and signals δ of a layer at its T positions (such as pixels), for each of n rows.

    The derivatives of output k of the network with respect to the layer's weights are Σ_t h_t δ_ktᵀ. The contribution
    to the tangent kernel is computed from h and δ without these sums; see the docstring of the module.

    Attributes:
        inputs: Inputs h, (n, T, a): one vector of length a for each position. In the subclass `Lookups`, for embedding
            layers, they are word indices (n, T, 1).
        signals: Signals δ, (n, T, k, b): derivatives of the network's k outputs with respect to the layer's b results
            at each position.
        bias: 1.0 if the contribution of the layer's bias is included, otherwise 0.0.
    """

    inputs: np.ndarray
    signals: Float[np.ndarray, "n t k b"]
    bias: float

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def nbytes(self) -> int:
        """Memory of the inputs and signals of all rows in bytes."""
        return self.inputs.nbytes + self.signals.nbytes

    def astype(self, dtype: np.dtype) -> "Factors":
        """Return the inputs and signals converted to another data type."""
        inputs, signals = (part.astype(dtype, copy=False) for part in (self.inputs, self.signals))
        return type(self)(inputs, signals, self.bias)

    def __getitem__(self, rows: slice) -> "Factors":
        return type(self)(self.inputs[rows], self.signals[rows], self.bias)

    @classmethod
    def joined(cls, blocks: Sequence["Factors"]) -> "Factors":
        """Concatenate the inputs and signals of several blocks of rows."""
        return blocks[0]._together(blocks, 0, blocks[0].bias)

    @staticmethod
    def of_calls(calls: Sequence["Factors"], bias: float) -> "Factors":
        """Combine the inputs and signals of a layer that a network calls several times, for the same rows.

        The result has the positions of all calls, as if the layer were called once with all of them.

        Args:
            calls: Inputs and signals of each call.
            bias: 1.0 if the contribution of the layer's bias is included, otherwise 0.0.
        """
        return calls[0]._together(calls, 1, bias)

    def _together(self, parts: Sequence["Factors"], axis: int, bias: float) -> "Factors":
        if len(parts) == 1:
            return dataclasses.replace(self, bias=bias)
        inputs, signals = (np.concatenate([getattr(part, name) for part in parts], axis)
                           for name in ("inputs", "signals"))  # fmt: skip
        return type(self)(inputs, signals, bias)

    def gradients(self) -> Float[np.ndarray, "n k b a"]:
        """Return the derivatives of the k outputs with respect to the layer's weights, Σ_t δ_kt h_tᵀ, for each row.

        The computation needs k T a b operations per row, and uses all cores.
        """
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
        """Return the contribution of the layer to the trace of the tangent kernel over the outputs, (n, m).

        The kernel is between the n rows of this object and the m rows of `other`, a `Factors` of the same layer.
        """
        out = np.empty((len(self), len(other)), self.signals.dtype)
        for rows, columns, inner in self._inner(other):
            one, two = self[rows].signals, other[columns].signals
            signals = one.reshape(-1, one.shape[2] * one.shape[3]) @ two.reshape(-1, two.shape[2] * two.shape[3]).T
            out[rows, columns] = _over_positions(inner * signals, self, other, len(one))
        return out

    def full(self, other: "Factors") -> Float[np.ndarray, "n m k k"]:
        """Return the contribution of the layer to the tangent kernel at every pair of outputs, (n, m, k, k).

        The kernel is between the n rows of this object and the m rows of `other`, a `Factors` of the same layer.
        """
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
        """Yield h·h' + bias, block by block, for all pairs of positions of the rows of this object and of `other`.

        Args:
            other: Inputs and signals of the same layer for other rows, the columns of the kernel.
            times: Number of array entries that the caller computes for each position of a row. Blocks are smaller by
                this factor, to limit the memory.

        Yields:
            A slice of the rows, a slice of the columns, and h·h' + bias for them, of shape (rows · T, columns · T).
        """
        size = max(1, int(np.sqrt(BLOCK)) // (self.inputs.shape[1] * times))
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            for left in range(0, len(other), size):
                columns = slice(left, min(left + size, len(other)))
                yield rows, columns, self._products(self.inputs[rows], other.inputs[columns])

    def _products(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Return h·h' + bias for all pairs of positions of two blocks of inputs, (n, T, a) and (m, T, a)."""
        inner = one.reshape(-1, one.shape[2]) @ two.reshape(-1, two.shape[2]).T
        inner += inner.dtype.type(self.bias)
        return inner


@dataclasses.dataclass(frozen=True)
class Lookups(Factors):
    """Inputs and signals of an embedding layer, whose inputs are word indices.

    An embedding multiplies one-hot vectors h by its weights. `inputs` stores the position of the 1 in each vector,
    (n, T, 1). Therefore h·h' is 1 for equal words and 0 otherwise.
    """

    def astype(self, dtype: np.dtype) -> "Lookups":
        """Return a copy with the signals converted to another data type. The word indices stay integers."""
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
    """Return the numbers of operations per pair of rows for a layer's contribution to the tangent kernel.

    The first number is for the class `Factors`, the second for `Gradients`. The caller chooses the cheaper class.

    Args:
        positions: T, the number of positions.
        width: a, the length of the inputs at a position.
        outputs: k, the number of outputs.
        out_width: b, the length of the signals at a position.
        rows: Number of rows on each side of the kernel. The cost of the row gradients is divided by it, because they
            are computed once per row.
        full: Whether the kernel is computed at every pair of outputs.
    """
    pairs = outputs**2 if full else outputs
    factors = positions**2 * (width + pairs * out_width + pairs)
    gradients = outputs * positions * width * out_width * 2 / rows + pairs * width * out_width
    return float(factors), float(gradients)
