"""Tiles (arrays for some rows and hidden units) of the neural-tangent model, and its Gram matrix A Aᵀ.

The output of the neural-tangent (NT) model for class c is Σ_i relu(w_i·x) a_ic + bias_c + Σ_i a⁰_ci step(w_i·x) g_i·x,
with trained readout a, bias and directions g, fixed weights W (d, N) and a fixed readout a⁰ (k, N). A is the matrix of
its features, X (n, d) are the inputs and Z = X W. The block of A Aᵀ for the classes c and e is

    A Aᵀ = [c = e](Φ Φᵀ + 1) + (X Xᵀ) ∘ (S diag(a⁰_c a⁰_e) Sᵀ),    Φ = relu(Z), S = step(Z).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from linearized.base.scalar_functions import relu, step
from linearized.problems.array_module import to_device, to_host
from linearized.problems.tangent_layout import Parameters, TangentLayout


class TangentTile(NamedTuple):
    """Arrays of the neural-tangent model for b rows and B hidden units, from which products are computed.

    The arrays are on the device in float32, or on the host in float64.

    Attributes:
        xp: Array library of the products.
        phi: relu(z), (b, B), for z = x W.
        gate: step(z), (b, B).
        x: Inputs (b, d).
        readout: a⁰ (k, B), the fixed readout of the units at initialisation.
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
        """Return the tile of inputs x (b, d) and hidden units with inputs z = x W (b, B).

        Args:
            xp: Array library to which the arrays belong.
            x: Inputs (b, d).
            z: Inputs of the units (b, B).
            readout: Fixed readout a⁰ (k, B) of the units.
            exact: Whether the tile is converted to float64 on the host; otherwise it stays on the device in float32.
        """
        if not exact:
            return cls(xp, relu(z, xp), step(z, xp), x, readout, np.float32)
        x, z, readout = (np.asarray(to_host(xp, array), np.float64) for array in (x, z, readout))
        return cls(np, relu(z, np), step(z, np), x, readout, np.float64)

    def outputs(self, parameters: Parameters, layout: TangentLayout) -> np.ndarray:
        """Return the contribution (c, b, k) of the tile's hidden units to the outputs for its b rows.

        Args:
            parameters: Parameters of these units, in c columns.
            layout: Shapes of the model.
        """
        xp, g = self.xp, layout.grouped(parameters.g)
        f = np.empty((len(parameters.a), self.x.shape[0], layout.outputs), self.dtype)
        for column in range(len(f)):
            f[column] = to_host(xp, xp.matmul(self.phi, self._send(parameters.a[column])))
            for group, classes in enumerate(layout.groups):
                slope = xp.matmul(self.x, xp.transpose(self._send(g[column, group])))
                slope *= self.gate
                f[column, :, classes] += to_host(xp, xp.matmul(slope, xp.transpose(self.readout[classes])))
        return f

    def adjoint(self, u: np.ndarray, layout: TangentLayout) -> tuple[np.ndarray, np.ndarray]:
        """Return the entries of Aᵀu for the tile's B hidden units, summed over the tile's b rows.

        A is the matrix of the model's features, with the readout and the directions of each unit as columns.

        Args:
            u: The c columns to multiply, (c, b, k) for b rows and k classes.
            layout: Shapes of the model.

        Returns:
            The entries for the readout a, (c, B, k), and those for the directions g, (c, B, d), or (c, k, B, d) if each
            class has its own directions.
        """
        xp, units, groups = self.xp, self.phi.shape[1], layout.groups
        a = np.empty((len(u), units, layout.outputs), self.dtype)
        g = np.empty((len(u), len(groups), units, layout.dim), self.dtype)
        for column in range(len(u)):
            a[column] = to_host(xp, xp.matmul(self._send(u[column].T), self.phi)).T
            for group, classes in enumerate(groups):
                back = xp.matmul(self._send(u[column][:, classes]), self.readout[classes])
                back *= self.gate
                g[column, group] = to_host(xp, xp.matmul(xp.transpose(back), self.x))
        return a, g if layout.per_class else g[:, 0]

    def _send(self, array: np.ndarray) -> Any:
        """Return `array` on the device and in the data type of this tile's products."""
        return np.asarray(array, np.float64) if self.dtype is np.float64 else to_device(self.xp, array)


def kernels(
    pairs: Iterable[tuple[TangentTile, TangentTile]], m: int, n: int, outputs: int, *, per_class: bool
) -> list[np.ndarray]:  # fmt: skip
    """Return the kernel K(x, X) of the neural-tangent (NT) model between inputs x and the train rows X.

    Products are computed in the precision of the tiles and summed in float64. For N hidden units the product of the
    ReLU features takes 2 m n N operations. Another 2 m n N operations are needed for each pair of classes c <= e, or
    for each class if `per_class` is true.

    Args:
        pairs: For each of at least one block of units, the tile of the inputs and the tile of the train rows. If the
            inputs are the train rows, both are the same object.
        m: Number of inputs.
        n: Number of train rows.
        outputs: k, the number of classes.
        per_class: Whether every class has its own directions.

    Returns:
        One matrix (m, n) for each class, or one matrix (m k, n k) if the classes share directions.
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
