"""Generator of SYNTH: rows whose first few coordinates are large, and a target that depends on these coordinates alone.

The first d₁ = int(d^η) of the d coordinates of a row lie on a sphere of radius r = d^((η+κ)/2), the others on a sphere
of radius √d. The target is the sum of three forms (homogeneous polynomials) f_k(x) = Σ_j β_k[j]·x_j⋯x_{j+k-1}, k = 2,
3, 4, on the first d₁ coordinates, each divided by its RMS over the whole train set. The coefficients β_k are drawn from
the exponential distribution with mean 1. Rows are drawn as in the code of Ghorbani et al. (arXiv 2006.13409), by
NumPy's legacy generator with the seeds 145 for the train rows, 2 for the test rows and 14 for β.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from absl import logging

from linearized.base.blocks import for_each_drawn, row_blocks
from linearized.base.errors import UserError
from linearized.base.shapes import Float32, Float64

TRAIN_SEED, TEST_SEED, BETA_SEED = 145, 2, 14
VERSION = 1  # version of the meaning of the rows; part of every fingerprint


@dataclasses.dataclass(frozen=True)
class SynthRecipe:
    """The parameters of the data set SYNTH.

    Attributes:
        dim: Number of coordinates d.
        eta: η; the first int(d^η) coordinates are large, and the target depends on them.
        kappa: κ; the norm of the large coordinates is d^((η+κ)/2).
        rows: Number of rows of the whole train set, over which the RMS of each of the three forms of the target is
            computed.

    Raises `UserError` unless 4 <= int(d^η) < d and 0 < η < 1.
    """

    dim: int
    eta: float
    kappa: float
    rows: int

    def __post_init__(self):
        if self.rows < 1 or self.dim < 1 or not 0 < self.eta < 1:
            raise UserError(
                "SYNTH needs --synth_n >= 1, --synth_dim >= 1 and --synth_eta between 0 and 1. "
                f"Received: {self.rows}, {self.dim}, {self.eta}."
            )
        if not 4 <= self.effective < self.dim:
            raise UserError(
                f"SYNTH's target has degree 4, so int(d^η) must be 4 to d - 1. Received: d={self.dim}, "
                f"η={self.eta}, int(d^η)={self.effective}. Raise --synth_dim or --synth_eta."
            )

    @property
    def effective(self) -> int:
        """Number of large coordinates, d₁ = int(d^η)."""
        return int(self.dim**self.eta)

    @property
    def radius(self) -> float:
        """Norm of the large coordinates of every row, r = d^((η+κ)/2)."""
        return self.dim ** ((self.eta + self.kappa) / 2)

    def scaled(self, drawn: Float64[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Scale normal rows so that their first d₁ coordinates have the norm r, and the others the norm √d.

        Args:
            drawn: Rows of independent N(0, 1) numbers.
        """
        rows = drawn.astype(np.float32)
        for columns, radius in ((slice(self.effective), self.radius), (slice(self.effective, None), self.dim**0.5)):
            part = rows[:, columns]
            part *= radius / np.sqrt(np.einsum("ni,ni->n", part, part, dtype=float))[:, None]
        return rows

    def forms(self, rows: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "n 3"]:
        """Return the three forms of the target, f₂, f₃ and f₄, of each row, not yet divided by their RMS.

        f_k(x) = Σ_j β_k[j]·x_j⋯x_{j+k-1} has the degree k.
        """
        random = np.random.RandomState(BETA_SEED)
        large = rows[:, : self.effective]
        products, values = large, []
        for degree in (2, 3, 4):
            products = products[:, :-1] * large[:, degree - 1 :]
            beta = random.exponential(scale=1.0, size=self.effective - degree + 1)
            values.append(products.astype(float) @ beta)
        return np.stack(values, axis=1)


def generate(
    recipe: SynthRecipe, seed: int, rows: int, keep: Callable[[slice, np.ndarray], None]
) -> Float64[np.ndarray, "rows 3"]:
    """Draw rows of SYNTH block by block; return the three forms f₂, f₃, f₄ of the target, not yet divided by their RMS.

    Costs one normal draw per number (about 15 ns); logs its progress every ten seconds.

    Args:
        recipe: Parameters of the rows.
        seed: Random-number seed.
        rows: Number of rows.
        keep: Function that receives the rows, so that they need not fit in memory: it is called with the slice of row
            indices of a block and its float32 rows (m, d), from several threads in no fixed order.
    """
    forms = np.empty((rows, 3))
    clock = {"start": time.monotonic(), "said": time.monotonic()}

    def work(where: slice, drawn: np.ndarray) -> None:
        block = recipe.scaled(drawn)
        forms[where] = recipe.forms(block)
        keep(where, block)
        now = time.monotonic()
        if now - clock["said"] > 10:
            clock["said"] = now
            left = (now - clock["start"]) * (rows / where.stop - 1)
            logging.info("SYNTH: %d of %d rows drawn, about %.0f s left.", where.stop, rows, left)

    blocks = row_blocks(rows, 8 * recipe.dim)
    for_each_drawn(np.random.RandomState(seed), blocks, lambda where: (where.stop - where.start, recipe.dim), work)
    return forms


def labels(forms: Float64[np.ndarray, "n 3"], divisors: Float64[np.ndarray, " 3"]) -> Float32[np.ndarray, "n 1"]:
    """Return the target of each row: the sum of its three forms, each divided by its RMS over the whole train set.

    Args:
        forms: f₂, f₃ and f₄ of each row, as `generate` returns them.
        divisors: The RMS of each form.
    """
    return (forms / divisors).sum(axis=1, keepdims=True).astype(np.float32)


def rms(forms: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, " 3"]:
    """Return the root mean square over the rows of each of the three forms, which `generate` returns."""
    return np.sqrt((forms**2).mean(axis=0))
