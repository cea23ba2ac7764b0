"""K = Q B Qᵀ with B of half-width b, in the space of K: blocked Householder reflections, all BLAS-3.

What lies b rows below the diagonal is cleared b columns at a time. With A₂₁ = H R, H = I - V T Vᵀ (the compact WY form:
Schreiber & Van Loan, SIAM J. Sci. Stat. Comput. 10, 1989), the rest becomes Hᵀ A₂₂ H = A₂₂ - V Wᵀ - W Vᵀ, where
W = P - ½ V Tᵀ(Vᵀ P) and P = A₂₂ V T: one symmetric product and one symmetric update of rank 2b. (The first stage of
Bischof, Lang & Sun, ACM TOMS 26, 2000.)

One triangle of the array is worked on. V and R stay where the columns were cleared, and the other triangle keeps K.
"""

from collections.abc import Mapping

import numpy as np
import scipy.linalg

from linearized.base.shapes import Float, Float64
from linearized.solvers.linear.blas import symmetric_product, symmetric_update

WIDTH = 96
SLAB = 512  # columns that a saved state holds in one array


class BandReduction:
    """The state of the reduction: 4/3 n³ operations in n/b steps, n · b numbers beside K.

    Args:
        array: K (n, n), C-ordered and symmetric. Its upper triangle is worked on; the strict lower one keeps K.
        width: b.

    Attributes:
        lower: The array transposed: to BLAS a matrix with K's reduction in the lower triangle, ordered by columns.
        factors: T of each step so far.
    """

    def __init__(self, array: Float[np.ndarray, "n n"], width: int = WIDTH):
        self.lower, self.n = array.T, len(array)
        self.width = max(1, min(width, self.n - 1))
        self.factors: list[np.ndarray] = []
        self._geqrf, self._trtri = scipy.linalg.get_lapack_funcs(("geqrf", "trtri"), dtype=array.dtype)

    @property
    def steps(self) -> int:
        """How many there are in all."""
        return len(range(self.width, self.n - 1, self.width))

    @property
    def done(self) -> bool:
        """Whether B is reached."""
        return len(self.factors) == self.steps

    @property
    def work(self) -> float:
        """The share of the operations that is done."""
        return 1 - (1 - len(self.factors) / max(self.steps, 1)) ** 3 if self.steps else 1.0

    def step(self) -> None:
        """Clears b columns more."""
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
        """B as LAPACK stores it: row i is the i-th diagonal below the main one."""
        band = np.zeros((self.width + 1, self.n))
        for i, row in enumerate(band):
            row[: self.n - i] = np.diagonal(self.lower, -i)
        return band

    def forward(self, y: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Qᵀ y, in K's dtype: 2 n² operations a column."""
        y = np.array(y, self.lower.dtype)
        for j, factor in enumerate(self.factors):
            vectors, first = self._stored_vectors(j)
            y[first:] -= vectors @ (factor.T @ (vectors.T @ y[first:]))
        return y

    def backward(self, x: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Q x, likewise."""
        x = np.array(x, self.lower.dtype)
        for j, factor in reversed(list(enumerate(self.factors))):
            vectors, first = self._stored_vectors(j)
            x[first:] -= vectors @ (factor @ (vectors.T @ x[first:]))
        return x

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` needs: the triangle in slabs of columns, and the factors."""
        slabs = {f"slab{j}": self.lower[j:, j : j + SLAB] for j in range(0, self.n, SLAB)}
        return slabs | {f"factor{j}": factor for j, factor in enumerate(self.factors)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from a saved state of the same matrix."""
        for j in range(0, self.n, SLAB):
            slab, into = arrays[f"slab{j}"], self.lower[j:, j : j + SLAB]
            square = slice(0, into.shape[1])
            into[into.shape[1] :] = slab[into.shape[1] :]
            np.copyto(into[square], slab[square], where=np.tri(into.shape[1], dtype=bool))
        self.factors = [arrays[f"factor{j}"] for j in range(sum(name.startswith("factor") for name in arrays))]

    def _panel(self, j: int) -> np.ndarray:
        return self.lower[(j + 1) * self.width :, j * self.width : (j + 1) * self.width]

    def _stored_vectors(self, j: int) -> tuple[np.ndarray, int]:
        """V of step j, and the first row that it touches."""
        panel = self._panel(j)
        return _vectors(panel), self.n - len(panel)

    def _wy_factor(self, vectors: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """T, from T⁻¹ + T⁻ᵀ = VᵀV with 1/τ on T⁻¹'s diagonal; a reflection with τ = 0 does nothing."""
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
    """V from geqrf's packed form: unit lower trapezoidal."""
    vectors = np.asfortranarray(np.tril(packed[:, : min(packed.shape)], -1))
    np.fill_diagonal(vectors, 1)
    return vectors
