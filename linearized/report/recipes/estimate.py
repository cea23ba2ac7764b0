"""About how long a run takes and how much disk, from its operation count; right within a factor of a few.

Measured on one Zen core: a process with its framework starts in SECONDS, large float32 products run at RATE
multiply-adds a second and a fused pair of Myrtle-5 at 32x32x3 in PAIR seconds.
"""

from collections.abc import Mapping
from typing import Any

from linearized.report.recipes.figure_recipe import Run, shape

SECONDS, RATE, PAIR = 8.0, 2e10, 1.6e-3
GRID = 20  # ridges of a whole grid
EIGH = 9  # operations of an eigendecomposition of n rows, in n³
SEARCHED = 10  # metrics of --rfm_search, with those that it takes to the Gaussian kernel
PASSES = 400  # over K, in float64, and the inner products between them


def seconds(run: Run) -> float:
    """Of one run on one core."""
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
    """Return the seconds of all metrics and iterations: the kernel, its ridge path, gradients and their products."""
    n, m, d, k = shape(flags)
    at, learned = flags.get("rfm_sample") or n, flags.get("iterations", 5)
    learned *= SEARCHED if flags.get("rfm_search") else 1
    solve = (n * (n + 1) / 2 + n * m) * 2 * d + n**3 + 100 * n**2 * k
    return 2 * SECONDS + ((1 + learned) * solve + learned * (2 * at * n * d * k + 2 * at * d**2 * k)) / RATE


def _theory(flags: Mapping[str, Any]) -> float:
    """Return the seconds of a pool's kernel, its decomposition and the fits on draws of its rows."""
    n, m, d, k = shape(flags)
    pairs = (n * (n + 1) / 2 + n * m) * (PAIR if flags.get("kernel") == "CNTK" else 2 * d / RATE)
    sizes = [int(size) for size in flags.get("sizes", "0").split(",")]
    draws = flags.get("draws", 5) * sum(EIGH * size**3 + size * (n + m) * GRID * k for size in sizes)
    return 2 * SECONDS + pairs + (EIGH * n**3 + draws) / RATE


def _tangents(flags: Mapping[str, Any], d: int) -> float:
    """Return the seconds of the measurements of one run, and of the kernel of infinite width on their rows."""
    train, test = map(int, flags["tangent_rows"].split(","))
    pairs, units = train * (train + test), flags["num_units"]
    convolutional = flags["model"] == "CNN"
    tangent = 10 * 27 * units**2 if convolutional else d + 10 * units
    infinite = PAIR if convolutional else 2 * d / RATE
    return len(flags["tangent_at"].split(",")) * (pairs * tangent / RATE + SECONDS) + pairs * infinite


def disk_bytes(run: Run) -> float:
    """Gram matrices of the kernels, float32, which a feature machine keeps in memory; a result takes some 100 kB."""
    if run.program == "train" or run.flags.get("kernel") == "RFM":
        return 2e5
    n, m, _, _ = shape(run.flags)
    return 2e5 + 4 * (n * (n + 1) / 2 + n * m)
