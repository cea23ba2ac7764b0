"""Grids of ridges (strengths of the L2 penalty), and the selection of the ridges that a run solves.

The grids are those of Ghorbani et al. (arXiv 2006.13409), and others for the user's own data.

The ridge of a model with parameters v and features A of n train rows (`linearized train`) is λ of (1/n)‖Av - y‖² +
λ‖v‖²; for networks, λ multiplies the model's own penalty. The ridge of kernels (`linearized krr`) and of the solvers is
ρ = nλ in kernel ridge regression (K + ρI)α = y with K = AAᵀ.

The user's own data (data sets whose `family` is "OWN") and the user's own kernels have a grid in units of the trace of
K, which is an upper bound of the eigenvalues of K. For ρ, the grid has 19 values from 1e-8 to 10 times the trace. The
models RF and NT have the same grid for λ = ρ/n: 1e-8 to 10 times the mean diagonal of K, see `mean_diagonal`. Networks
that are trained by gradients have the grid of arXiv 2006.13409 for their type, because their penalty does not depend on
the scale of a kernel.
"""

from collections.abc import Sequence

import numpy as np

from linearized.base.errors import UserError
from linearized.base.lists import listed_indices, listed_numbers
from linearized.base.shapes import Float, Float64

OWN = "OWN"  # `Dataset.family` of the user's own data
ROWS = 8192  # number of inputs that are squared at once
LARGEST = 1e30  # largest ridge in a list; above it, a float32 matrix contributes nothing to K + ρI


def _logspace(low: float, high: float, count: int) -> np.ndarray:
    return 10.0 ** np.linspace(low, high, count)


def own_grid() -> Float64[np.ndarray, " ridges"]:
    """Return the 19 relative ridges, from 1e-8 to 10, for the user's own data, kernels and models.

    Multiplied by the trace of the kernel matrix K of n rows, they are values of ρ in (K + ρI)α = y. Multiplied by the
    mean of the diagonal of K, they are values of λ = ρ/n.
    """
    return _logspace(-8, 1, 19)


def grid(
    ridges: str | Sequence[float], family: str, *, num_layers: int = 1
) -> Float64[np.ndarray, " ridges"]:  # fmt: skip
    """Return the grid of λ for a model, in increasing order.

    Args:
        ridges: `Declaration.ridges` of the model: "features" (the grid of RF), "tangents" (NT), "convolutional" (CNN),
            "dense" (NN), "jacobian" (linearized model files), or explicit values.
        family: `Dataset.family`: FMNIST, CIFAR2, CIFAR10, SYNTH or OWN. The grid "jacobian" and, for OWN, the grids
            "features" and "tangents" are relative: they have to be multiplied by the mean diagonal of the model's
            kernel, see `mean_diagonal` and, for "jacobian", `linearized.models.linearized_file.ridge_scale`.
        num_layers: Number of hidden layers; "dense" has a separate grid for two of them on FMNIST.

    Raises:
        ValueError: For an unknown name of a grid.
    """
    if not isinstance(ridges, str):
        return np.sort(np.asarray(ridges, np.float64))
    if ridges == "jacobian":
        return own_grid()
    if ridges in ("features", "tangents"):
        if family == OWN:
            return own_grid()
        if family == "SYNTH":
            return _logspace(-5 if ridges == "features" else -4, 2, 10)
        return _logspace(-5, 3, 20) if family == "FMNIST" else _logspace(-4, 4, 20)
    if ridges == "convolutional":
        return _logspace(-5, -2, 10)
    if ridges != "dense":
        raise ValueError(f"Unknown ridge grid {ridges!r}. Use dense, convolutional, features, tangents, "
                         "jacobian or values.")  # fmt: skip
    if family == "SYNTH":
        return np.concatenate([_logspace(-8, -5, 15), _logspace(-4.8, -4, 5), _logspace(-3.8, -2, 5)])
    if family == "FMNIST" and num_layers == 2:
        return _logspace(-7, -5, 10)
    return _logspace(-6, -2, 20)


def mean_diagonal(ridges: str | Sequence[float], units: int, x: Float[np.ndarray, "n d"]) -> float:
    """Return the mean of ‖φ(x)‖² over rows x, in expectation over the random features φ of a model with N hidden units.

    This is the mean diagonal of the kernel φ(x)·φ(z), and relative ridges are multiplied by it. Let s be the mean of
    ‖x‖² over the rows. For random features the result is 1 + N s/(2d), because E relu(w·x)² = ‖x‖²/(2d) for both
    distributions of w (on the sphere and Gaussian). For tangent features N s/2 is added. For other grids the function
    returns 1.

    Args:
        ridges: `Declaration.ridges` of the model: "features" for random features, "tangents" for tangent features.
        units: Number of hidden units, N.
        x: Rows (n, d).
    """
    if ridges not in ("features", "tangents"):
        return 1.0
    starts = range(0, len(x), ROWS)
    square = sum(float(np.sum(np.square(x[start : start + ROWS], dtype=np.float64))) for start in starts) / len(x)
    return 1 + units * square / 2 * (1 / x.shape[1] + (ridges == "tangents"))


GRIDS = ("published", "by_scale")  # values of `--ridge_grid`


def kernel_grid(
    family: str, *, kernel: str = "NTK", dense_layers: int = 2, stax_scale: bool = False, own_scale: bool = True,
    name: str = "published", trace: float = 1.0,
) -> Float64[np.ndarray, " ridges"]:  # fmt: skip
    """Return a grid of ρ for kernel ridge regression (K + ρI)α = y, in increasing order.

    Each family of data sets except FMNIST has one grid. FMNIST (also the family of NFMNIST and the digits) has two
    grids of 20 values each:

    - "published" is the grid of arXiv 2006.13409: from 1e-4 to 1e3 for the NTK of exactly three dense layers, and from
      0.1 to 1e5 for other NTKs, RF and POLYNOMIAL.
    - "by_scale" runs from 1e-4 to 1e3 for kernels of inputs divided by √d, and from 0.1 to 1e5 for kernels of raw
      inputs, whose entries are about d times larger. NTKs of three and more dense layers have inputs divided by √d;
      with ridges above 1e3 they predict hardly more than the mean.

    Kernels that are not in that paper (such as CNTK, or any with another `--scale`) always have the grid "by_scale".

    Args:
        family: `Dataset.family`: FMNIST, CIFAR2, CIFAR10, SYNTH or OWN (also for kernels of the user's own).
        kernel: Name in `linearized.settings.gram_settings.KERNELS`.
        dense_layers: Number of dense layers of the NTK, including the readout.
        stax_scale: Whether the inputs of the kernel are divided by √d.
        own_scale: Whether the kernel has the scale that it has in arXiv 2006.13409.
        name: "published" or "by_scale".
        trace: Trace of K between the train rows; only OWN uses it.
    """
    if family == OWN:
        return trace * own_grid()
    if family == "SYNTH":
        return _logspace(0, 6, 10)
    if family == "CIFAR2":
        return np.concatenate([_logspace(-2, 4, 20), _logspace(4.2, 10, 20)])
    if family == "CIFAR10":
        return _logspace(-6, 1, 20)
    if name == "published" and own_scale and kernel in ("NTK", "RF", "POLYNOMIAL"):
        low = kernel == "NTK" and dense_layers == 3
    else:
        low = stax_scale
    return _logspace(-4, 3, 20) if low else _logspace(-1, 5, 20)


def listed_ridges(text: str) -> Float64[np.ndarray, " ridges"]:
    """Return the ridges of a text such as "0.1,1,10", in its order.

    Raises:
        UserError: If an entry is not a number from 0 to 1e30.
    """
    return np.array(listed_numbers(text, "ridges", least=0.0, most=LARGEST))


def chosen_indices(reg_index: str, size: int, *, default: str) -> list[int]:
    """Return the indices of the ridges of a grid that a run solves.

    Args:
        reg_index: "all", one index, or several ("0,4,9" or "3:8"); "": `default`.
        size: Number of ridges of the grid.
        default: Text that an empty `reg_index` stands for.

    Raises:
        UserError: If `reg_index` has another form, or an index is outside the grid.
    """
    text = (reg_index or default).strip()
    try:
        indices = listed_indices(text, size)
    except ValueError as error:
        raise UserError(f"--reg_index takes all, an index, 0,4,9 or 3:8. Received: {reg_index!r}.") from error
    if not indices or min(indices) < 0 or max(indices) >= size:
        raise UserError(f"--reg_index={reg_index} is out of range: this grid has {size} ridges, 0..{size - 1}.")
    return indices
