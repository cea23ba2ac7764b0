"""Estimates of the time and disk space of a run from its operation count, accurate within a factor of a few.

The constants were measured on one AMD Zen core. A process with its framework starts in 8 s (SECONDS), large float32
products run at 2e10 multiply-adds per second (RATE), and the CNTK of one pair of 32x32x3 images (Myrtle-5) takes 1.6 ms
(PAIR).
"""

from collections.abc import Mapping
from typing import Any

from linearized.report.recipes.figure_recipe import Run, shape

SECONDS, RATE, PAIR = 8.0, 2e10, 1.6e-3
GRID = 20  # number of ridges of a full grid
EIGH = 9  # operations of an eigendecomposition of n rows, in units of n³
SEARCHED = 10  # variants (sets of options) that --rfm_search tries: 8, and the best 2 again with the Gaussian kernel
PASSES = 400  # cost of block Lanczos, in units of n² k operations: passes over K in float64 and inner products


def seconds(run: Run) -> float:
    """Return the estimated seconds of one run on one core."""
    flags = run.flags
    n, m, d, k = shape(flags)
    if run.program == "theory":
        return _theory(flags)
    if run.program == "krr" and flags["kernel"] == "RFM":
        return _feature_machine(flags)
    if run.program == "krr":
        pairs = n * (n + 1) / 2 + n * m
        make = pairs * (PAIR if flags["kernel"] == "CNTK" else 2 * d / RATE)
        solve = PASSES * n**2 * k if flags.get("solver") == "block_lanczos" else n**3 + 100 * n**2 * k
        return 2 * SECONDS + make + solve / RATE
    units, model = flags["num_units"], flags["model"]
    ridges = GRID if flags.get("reg_index", "all") == "all" else len(flags["reg_index"].split(","))
    if model == "RF":
        return SECONDS + (n + m) * units * d / RATE + min(n, units) * n * (units / 2 + 400) / RATE
    if model == "NT":
        return SECONDS + 300 * n * units * d * 4 / RATE
    measured = _tangents(flags, d) if "tangent_at" in flags else 0.0
    image = 9 * 1024 * (units * d / 1024 + 1.6 * units**2) if model == "CNN" else units * (d + k)
    return SECONDS + measured + ridges * flags["max_cg_iters"] * n * 3 * image / RATE


def _feature_machine(flags: Mapping[str, Any]) -> float:
    """Return the estimated seconds of a run with --kernel=RFM on one core, from its flags.

    The run fits the fixed kernel k(x, z), and in each iteration a kernel k(√M x, √M z) with a learned metric M. Every
    fit costs the kernel matrix and the solutions at all ridges. Every learned metric costs the gradients of the fitted
    function at the sampled train rows, and the mean outer product of these gradients. With --rfm_search the iterations
    are counted for 10 variants, which are combinations of options.
    """
    n, m, d, k = shape(flags)
    at, learned = flags.get("rfm_sample") or n, flags.get("iterations", 5)
    learned *= SEARCHED if flags.get("rfm_search") else 1
    solve = (n * (n + 1) / 2 + n * m) * 2 * d + n**3 + 100 * n**2 * k
    return 2 * SECONDS + ((1 + learned) * solve + learned * (2 * at * n * d * k + 2 * at * d**2 * k)) / RATE


def _theory(flags: Mapping[str, Any]) -> float:
    """Return the estimated seconds of a run of `linearized theory` on one core, from its flags.

    It is the time of three computations: the kernel of the pool's rows with each other and with the test rows, the
    eigendecomposition of the pool's kernel matrix, and the fits to random subsets of the pool's rows.
    """
    n, m, d, k = shape(flags)
    pairs = (n * (n + 1) / 2 + n * m) * (PAIR if flags.get("kernel") == "CNTK" else 2 * d / RATE)
    sizes = [int(size) for size in flags.get("sizes", "0").split(",")]
    draws = flags.get("draws", 5) * sum(EIGH * size**3 + size * (n + m) * GRID * k for size in sizes)
    return 2 * SECONDS + pairs + (EIGH * n**3 + draws) / RATE


def _tangents(flags: Mapping[str, Any], d: int) -> float:
    """Return the estimated seconds that the tangent kernels measured by --tangent_at take in a run, on one core.

    The estimate includes the kernel of the network of infinite width on the same rows.

    Args:
        flags: Flags of the run.
        d: Number of inputs.
    """
    train, test = map(int, flags["tangent_rows"].split(","))
    pairs, units = train * (train + test), flags["num_units"]
    convolutional = flags["model"] == "CNN"
    tangent = 10 * 27 * units**2 if convolutional else d + 10 * units
    infinite = PAIR if convolutional else 2 * d / RATE
    return len(flags["tangent_at"].split(",")) * (pairs * tangent / RATE + SECONDS) + pairs * infinite


def disk_bytes(run: Run) -> float:
    """Return the estimated disk space of a run in bytes.

    It is 200 kB for the result. Runs of fixed kernels also store the Gram matrix of the train rows (one triangle) and
    the kernel between train and test rows, in float32. A feature machine (--kernel=RFM) keeps both in memory.
    """
    if run.program == "train" or run.flags.get("kernel") == "RFM":
        return 2e5
    n, m, _, _ = shape(run.flags)
    return 2e5 + 4 * (n * (n + 1) / 2 + n * m)
