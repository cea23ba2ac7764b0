"""A user-defined kernel, named as `--kernel=package.module:function`, or passed to `kernel_gen.gram`.

The function takes two arrays of rows, (n1, d) and (n2, d), and returns the kernel between them, (n1, n2). The result is
an array of real numbers of NumPy, of JAX or of any type that NumPy can convert. Rows are float32 (float64 with
`--dtype=float64`), contiguous and read-only; images are flattened. The function is called on blocks of rows. Each entry
must therefore depend on its own two rows alone. K(x, z) must equal K(z, x), and K(x, x) must be above 0. The function
is called from one thread at a time and may use all cores.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from kernel_gen.kernel import Kernel
from kernel_gen.rows import finite_rows, same_width
from linearized.base.array_checks import first_not_finite
from linearized.base.errors import UserError, shown
from linearized.base.own_functions import load_function
from linearized.base.reading import one_line
from linearized.base.shapes import Float
from linearized.settings.gram_settings import KernelSettings

TRACE_GRID = True  # ridges scale with the trace of the Gram matrix, because none are published for a user's kernel
SAMPLE = 16  # rows on which a function is checked before it is used
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}  # tolerances of the checks, relative to the largest entry of the sample


class OwnKernel(Kernel):
    """The kernel k(x, z) that is computed by a user's function of two blocks of rows.

    Args:
        function: The function, which takes rows (n1, d) and (n2, d) and returns an array (n1, n2). The module's
            docstring lists its requirements.
        text: The function's name in messages.
        dtype: Data type of the rows and of the entries, "float32" or "float64".
    """

    tile = 1024
    scale = "input"
    own_threads = True  # the function may not be thread-safe, and its matrix products use all cores

    def __init__(self, function: Callable[[Any, Any], Any], text: str, dtype: str = "float32"):
        self.function, self.text, self.dtype = function, text, np.dtype(dtype)
        self._checked, self._turn = False, threading.Lock()

    def prepare(self, x: np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return the rows (n, d) in the kernel's dtype, read-only.

        The first call checks the function on the first `SAMPLE` rows. Raises `UserError` if it is not a kernel on them,
        and for rows that are not finite.
        """
        rows = finite_rows(x, self.dtype).view()
        rows.flags.writeable = False
        if not self._checked and len(rows):
            self._check(rows[:SAMPLE])
            self._checked = True
        return rows

    def block(
        self, one: Float[np.ndarray, "n1 d"], two: Float[np.ndarray, "n2 d"], *, same: bool = False
    ) -> Float[np.ndarray, "n1 n2"]:
        """Return the result (n1, n2) of the user's function for two sets of rows, in the kernel's dtype.

        Args:
            one: The n1 rows that belong to the rows of the block, as `prepare` returned them.
            two: The n2 rows that belong to its columns, as `prepare` returned them.
            same: Whether `two` contains the rows of `one`.

        Raises `UserError` if the function raises an error or does not return real numbers of shape (n1, n2), and if the
        two sets of rows differ in their numbers of columns.
        """
        two = one if same else two
        same_width(one, two)
        if not len(one) or not len(two):
            return np.empty((len(one), len(two)), self.dtype)
        with self._turn, self._precision():
            try:
                values = np.asarray(self.function(one, two))
            except Exception as error:  # the user's code may raise anything
                raise UserError(f"The kernel {self.text} raised {type(error).__name__}: {one_line(error)}.") from error
        if values.shape != (len(one), len(two)) or values.dtype.kind not in "fiu":
            raise UserError(
                f"The kernel {self.text} must return an array of {(len(one), len(two))} real numbers for rows of shape "
                f"{one.shape} and {two.shape}. Received: {values.dtype} of shape {values.shape}."
            )
        with np.errstate(over="ignore"):  # entries that overflow are refused by row
            return np.array(values, self.dtype)  # a copy: the function may keep what it returned

    def _precision(self) -> contextlib.AbstractContextManager:
        """Return a context in which JAX, if it is loaded, computes in the kernel's data type."""
        jax = sys.modules.get("jax")
        return contextlib.nullcontext() if jax is None else jax.enable_x64(self.dtype == np.float64)

    def _check(self, rows: Float[np.ndarray, "n d"]) -> None:
        """Raise `UserError` unless the user's function is a kernel on a few rows.

        Its entries must be finite, symmetric, above 0 on the diagonal, and the same if the rows are divided into two
        blocks.
        """
        entries = self.block(rows, rows)
        if (where := first_not_finite(entries)) is not None:
            raise UserError(f"The kernel {self.text} is {entries[where]} for rows {where[0]} and {where[1]}.")
        diagonal = np.diagonal(entries)
        if not (diagonal > 0).all():
            row = int(np.argmin(diagonal > 0))
            raise UserError(
                f"The kernel {self.text} must be above 0 for equal rows. It is {diagonal[row]} for row {row}."
            )
        bound = TOLERANCE[self.dtype.name] * float(np.abs(entries).max())
        if (gap := float(np.abs(entries - entries.T).max())) > bound:
            raise UserError(f"The kernel {self.text} must be symmetric. K(x, z) and K(z, x) differ by {gap:.2g}.")
        half = (len(rows) + 1) // 2
        parts = np.vstack([self.block(rows[:half], rows), self.block(rows[half:], rows)])
        if (gap := float(np.abs(parts - entries).max())) > bound:
            raise UserError(
                f"Each entry of the kernel {self.text} must depend on its own two rows alone. Entries differ by "
                f"{gap:.2g} between the block of {len(rows)} rows and its halves."
            )


def own_kernel(function: Callable[[Any, Any], Any], dtype: str = "float32") -> OwnKernel:
    """Return the kernel of a user's function k(x1, x2) of rows (n1, d) and (n2, d), with entries of type `dtype`."""
    return OwnKernel(function, getattr(function, "__name__", None) or shown(function), dtype)


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> OwnKernel:
    """Return the kernel of the user's function to which `settings.kernel`, a `package.module:function`, refers.

    `image_shape` is not used, because images are treated as rows.
    """
    return OwnKernel(load_function(settings.kernel), settings.kernel, settings.dtype)
