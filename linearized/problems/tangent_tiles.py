"""Parts of NT: its parameters, the arrays of one tile of rows and units, and A Aᵀ in closed form from such tiles.

Between the classes c and e, with Z = X W,

    A Aᵀ = [c = e](Φ Φᵀ + 1) + (X Xᵀ) ∘ (S diag(a⁰_c a⁰_e) Sᵀ),    Φ = relu(Z), S = step(Z).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from linearized.base.scalar_functions import relu, step
from linearized.problems.array_module import to_device, to_host


class Parameters(NamedTuple):
    """Parts of v, whose first axis is that of the c columns of v.

    Attributes:
        a: Readouts (c, N, k).
        bias: Biases (c, k).
        g: Directions (c, N, d), or (c, k, N, d) with directions per class.
    """

    a: np.ndarray
    bias: np.ndarray
    g: np.ndarray


class TangentTile(NamedTuple):
    """Arrays of one tile of b rows and B units: on the device in float32, or on the host in float64.

    Attributes:
        xp: Array library of the products.
        phi: relu(z), (b, B), for z = x W.
        gate: step(z), (b, B).
        x: Inputs (b, d).
        readout: a⁰ (k, B).
        dtype: Dtype of the products.
    """

    xp: Any
    phi: Any
    gate: Any
    x: Any
    readout: Any
    dtype: type

    @classmethod
    def of(cls, xp: Any, x: Any, z: Any, readout: Any, exact: bool) -> "TangentTile":
        """Return the tile of inputs x and z = x W, in float64 on the host if `exact`."""
        if not exact:
            return cls(xp, relu(z, xp), step(z, xp), x, readout, np.float32)
        x, z, readout = (np.asarray(to_host(xp, array), np.float64) for array in (x, z, readout))
        return cls(np, relu(z, np), step(z, np), x, readout, np.float64)

    def send(self, array: np.ndarray) -> Any:
        """Return `array` on the device and in the precision of the products."""
        return np.asarray(array, np.float64) if self.dtype is np.float64 else to_device(self.xp, array)


def kernels(
    pairs: Iterable[tuple[TangentTile, TangentTile]], m: int, n: int, outputs: int, *, per_class: bool
) -> list[np.ndarray]:  # fmt: skip
    """Return K(x, X) between inputs and the train rows: (m, n) for each class, or one (m k, n k) for shared directions.

    Products are in the precision of the tiles and summed in float64. Takes 2 m n N operations for Φ Φᵀ and for each
    pair of classes that is computed.

    Args:
        pairs: Tiles of the inputs and of the train rows for each block of units, at least one; the same tile twice
            where the inputs are the train rows.
        m: Number of inputs.
        n: Number of train rows.
        outputs: k, the number of classes.
        per_class: Whether every class has its own directions.
    """
    k, shared = outputs, outputs > 1 and not per_class
    common, whole = np.ones((m, n)), np.zeros((m, k, n, k) if shared else (k, m, n))
    views = {(c, c): whole[:, c, :, c] if shared else whole[c] for c in range(k)}
    views |= {(c, e): whole[:, c, :, e] for c in range(k) for e in range(c + 1, k)} if shared else {}
    for left, right in pairs:
        xp = left.xp
        common += to_host(xp, xp.matmul(left.phi, xp.transpose(right.phi)))
        gates = [right.gate * right.readout[c] for c in range(k)]
        mine = gates if left is right else [left.gate * left.readout[c] for c in range(k)]
        for (c, e), view in views.items():
            view += to_host(xp, xp.matmul(mine[c], xp.transpose(gates[e])))
    inner = to_host(xp, xp.matmul(left.x, xp.transpose(right.x)))
    for (c, e), view in views.items():
        view *= inner
        if c == e:
            view += common
        else:
            whole[:, e, :, c] = view
    return [whole.reshape(m * k, n * k)] if shared else list(whole)
