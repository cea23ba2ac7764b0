"""Reduction K = Q B Qᵀ of a symmetric matrix to a banded matrix B, in place, by blocked Householder reflections.

B has entries only within b places of the diagonal (half-width b), and Q is orthogonal. Each step clears the entries
that are more than b rows below the diagonal in the next b columns. Let A be the matrix before the step, A₂₁ the part of
these b columns that is below their diagonal block (b, b), and A₂₂ the square block to the right of A₂₁. The QR
decomposition A₂₁ = H R has H = I - V T Vᵀ (the compact WY form: Schreiber & Van Loan, SIAM J. Sci. Stat. Comput. 10,
1989). Then A₂₁ becomes R, and A₂₂ becomes Hᵀ A₂₂ H = A₂₂ - V Wᵀ - W Vᵀ, where W = P - ½ V Tᵀ(Vᵀ P) and P = A₂₂ V T. A
step thus takes one symmetric product and one symmetric update of rank 2b. This is the first stage of Bischof, Lang &
Sun, ACM TOMS 26, 2000.

The reduction works on one triangle of the array. V and R are stored in the cleared columns, and the other triangle
keeps K.
"""

from collections.abc import Mapping

import numpy as np
import scipy.linalg

from linearized.base.shapes import Float, Float64
from linearized.solvers.linear.blas import symmetric_product, symmetric_update

WIDTH = 96
SLAB = 512  # columns per array of a saved state


class BandReduction:
    """Reduction K = Q B Qᵀ of a symmetric matrix to a banded matrix B, in steps; its state can be saved between steps.

    The reduction takes 4/3 n³ operations in n/b steps, and n · b numbers of memory in addition to K. Call `step` until
    `done` is true. Then `band` returns B, and `forward` and `backward` multiply by Qᵀ and Q.

    Args:
        array: K (n, n), C-ordered and symmetric. The upper triangle is overwritten; the strict lower triangle keeps K.
        width: Half-width b of the band.

    Attributes:
        lower: The transposed array. For BLAS it is a column-major matrix with the reduction of K in its lower triangle.
        factors: Triangular matrix T of each step so far; the product of the step's reflections is I - V T Vᵀ.
    """

    def __init__(self, array: Float[np.ndarray, "n n"], width: int = WIDTH):
        self.lower, self.n = array.T, len(array)
        self.width = max(1, min(width, self.n - 1))
        self.factors: list[np.ndarray] = []
        self._geqrf, self._trtri = scipy.linalg.get_lapack_funcs(("geqrf", "trtri"), dtype=array.dtype)

    @property
    def steps(self) -> int:
        """Total number of steps, each of which clears b columns."""
        return len(range(self.width, self.n - 1, self.width))

    @property
    def done(self) -> bool:
        """Whether the reduction to B is complete."""
        return len(self.factors) == self.steps

    @property
    def work(self) -> float:
        """Fraction of the operations that are done, between 0 and 1."""
        return 1 - (1 - len(self.factors) / max(self.steps, 1)) ** 3 if self.steps else 1.0

    def step(self) -> None:
        """Perform one step: clear the entries of the next b columns that lie outside the band."""
        panel = self._panel(len(self.factors))
        packed, tau, _, info = self._geqrf(np.asfortranarray(panel))
        if info != 0:
            raise np.linalg.LinAlgError(f"geqrf returned {info}")
        panel[...] = packed
        vectors = _vectors(packed)
        factor = self._wy_factor(vectors, tau)
        self.factors.append(factor)
        first = self.n - len(panel)
        rest = self.lower[first:, first:]
        product = symmetric_product(rest, vectors) @ factor
        product -= vectors @ (0.5 * (factor.T @ (vectors.T @ product)))
        symmetric_update(rest, vectors, product)

    def band(self) -> Float64[np.ndarray, "b_and_1 n"]:
        """Return B after the last step, as an array whose row i is the i-th diagonal below the main one."""
        band = np.zeros((self.width + 1, self.n))
        for i, row in enumerate(band):
            row[: self.n - i] = np.diagonal(self.lower, -i)
        return band

    def forward(self, y: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Return Qᵀ y for c columns y and the orthogonal Q of K = Q B Qᵀ, in 2 n² operations per column.

        The result is in the data type of K.
        """
        y = np.array(y, self.lower.dtype)
        for j, factor in enumerate(self.factors):
            vectors, first = self._stored_vectors(j)
            y[first:] -= vectors @ (factor.T @ (vectors.T @ y[first:]))
        return y

    def backward(self, x: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Return Q x for c columns x and the orthogonal Q of K = Q B Qᵀ, in 2 n² operations per column.

        The result is in the data type of K.
        """
        x = np.array(x, self.lower.dtype)
        for j, factor in reversed(list(enumerate(self.factors))):
            vectors, first = self._stored_vectors(j)
            x[first:] -= vectors @ (factor @ (vectors.T @ x[first:]))
        return x

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of a checkpoint, from which `restore` continues.

        The arrays are parts of the reduced triangle, several columns each, and the matrix T of each step.
        """
        slabs = {f"slab{j}": self.lower[j:, j : j + SLAB] for j in range(0, self.n, SLAB)}
        return slabs | {f"factor{j}": factor for j, factor in enumerate(self.factors)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue a reduction of the same matrix from a checkpoint, with the arrays that `arrays` returned."""
        for j in range(0, self.n, SLAB):
            slab, into = arrays[f"slab{j}"], self.lower[j:, j : j + SLAB]
            square = slice(0, into.shape[1])
            into[into.shape[1] :] = slab[into.shape[1] :]
            np.copyto(into[square], slab[square], where=np.tri(into.shape[1], dtype=bool))
        self.factors = [arrays[f"factor{j}"] for j in range(sum(name.startswith("factor") for name in arrays))]

    def _panel(self, j: int) -> np.ndarray:
        return self.lower[(j + 1) * self.width :, j * self.width : (j + 1) * self.width]

    def _stored_vectors(self, j: int) -> tuple[np.ndarray, int]:
        """Return the Householder vectors V of step j, one per column, and the index of the first row they change."""
        panel = self._panel(j)
        return _vectors(panel), self.n - len(panel)

    def _wy_factor(self, vectors: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """Return the triangular T such that the product of the reflections I - τ v vᵀ of one step is I - V T Vᵀ.

        T follows from T⁻¹ + T⁻ᵀ = VᵀV with 1/τ on the diagonal of T⁻¹. A reflection with τ = 0 is the identity.

        Args:
            vectors: V, one Householder vector per column.
            tau: τ of each reflection I - τ v vᵀ.
        """
        idle = tau == 0
        inverse = np.triu(vectors.T @ vectors, 1)
        inverse[idle], inverse[:, idle] = 0, 0
        np.fill_diagonal(inverse, 1 / np.where(idle, 1, tau))
        factor, info = self._trtri(np.asfortranarray(inverse))
        if info != 0:
            raise np.linalg.LinAlgError(f"trtri returned {info}")
        factor[idle, idle] = 0
        return np.triu(factor)


def _vectors(packed: np.ndarray) -> np.ndarray:
    """Return the Householder vectors V as a unit lower trapezoidal matrix, from the result of LAPACK's geqrf.

    Args:
        packed: Result of geqrf, with R in its upper triangle and V below the diagonal.
    """
    vectors = np.asfortranarray(np.tril(packed[:, : min(packed.shape)], -1))
    np.fill_diagonal(vectors, 1)
    return vectors
