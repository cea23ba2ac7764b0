"""Speed of this machine in seconds per operation (its rates), for estimates of a solver's cost before it runs.

The rates are measured once per machine, which takes a few seconds, and stored in `rates.json` in the cache folder.
They are measured again if the processor, the number of threads or the BLAS library differs, or if the file is damaged.

The seconds are CPU seconds of the measuring thread, which takes part in the products of BLAS and waits for the other
threads of BLAS. Wall-clock seconds would not be comparable when other processes use the processor: a long measurement
is then interrupted, but a short one, within a time slice of the scheduler, is not.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from linearized.base.blocks import blas_libraries, cores
from linearized.base.directories import cache
from linearized.base.platforms import processor
from linearized.base.reading import Absent, Unreadable, read_json
from linearized.base.seals import write_json
from linearized.storage.files import whole_file

FILE = "rates.json"
SIDE = 1280  # side of the matrices whose products are measured
SHORT, ROWS, TILES = 4096, 40, 100  # length and number of rows of a tile of narrow products, and number of tiles
NARROW = (4, 16)  # numbers of columns at which narrow products are measured
STEPS = (4, 12)  # numbers of steps of block Lanczos whose difference is measured
REPEATS = 3  # runs of each measurement, of which the fastest counts, because other processes share the caches


class Rates(NamedTuple):
    """Speed of a machine: the seconds per operation, for the kinds of operations in the solvers.

    Attributes:
        single: Seconds per multiply-add in a product of large float32 matrices.
        double: Seconds per multiply-add in a product of large float64 matrices.
        square: Seconds per multiply-add in TᵀT for a float32 matrix T, including the addition of TᵀT to a float64 sum.
            TᵀT is symmetric, so only half of its multiply-adds are made and counted.
        read, column: The two products T u and Tᵀ(T u) of a float32 matrix T and u with c columns together take
            read + c · column seconds per entry of T.
        reduced, reduction: The band reduction of a matrix of side s takes s² · reduced + s³ · reduction seconds.
        factor: Seconds per row of the matrix for one banded factorisation and one solution with it.
        step, turned: A step of block Lanczos takes step + e · turned seconds for blocks of e entries, in addition to
            the products with the problem's matrix and with the basis.
    """

    single: float
    double: float
    square: float
    read: float
    column: float
    reduced: float
    reduction: float
    factor: float
    step: float
    turned: float


class _Diagonal:
    """Least-squares problem with a diagonal AᵀA, for timing a solver: its products take almost no time.

    Args:
        side: Number of rows and columns of A.
    """

    dual, rounding, columns, block, spare = False, float(np.finfo(np.float64).eps), 1, NARROW[0], 0

    def __init__(self, side: int):
        self.params = self.rows = self.n = side
        self.targets, self.values = np.ones((side, 1)), np.linspace(0, 1, side)[:, None]

    def moment(self) -> np.ndarray:
        return self.targets

    def primal_product(self, v: np.ndarray) -> np.ndarray:
        return self.values * v

    def evaluate(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return v, self.targets - self.values * v

    def prediction_bound(self, residual: float, ridge: float) -> float:
        return residual


def machine_rates() -> Rates:
    """Return the rates of this machine from the cache folder, or measure and store them if they are not there.

    If the file cannot be written, a warning is logged, and the next process measures again.
    """
    machine, path = identity(), cache() / FILE
    stored = _stored(path, machine)
    if stored is not None:
        return stored
    logging.info("Measuring the speed of this machine once, in a few seconds.")
    rates = measured_rates()
    try:
        with whole_file(path) as aside:
            write_json(aside, {"machine": machine, "rates": rates._asdict()})
    except OSError as error:
        logging.warning("Cannot keep the measured speed in %s (%s): it will be measured again.", path, error.strerror)
    return rates


def identity() -> dict[str, Any]:
    """Return what determines the rates: the processor, the cores of this process, and BLAS libraries and threads."""
    return {"processor": processor(), "cores": cores(), "blas": blas_libraries()}


def _stored(path: Any, machine: dict[str, Any]) -> Rates | None:
    """Return the rates in a file; None if the file is absent, unreadable (a warning is logged) or of another machine.

    Args:
        path: Path of the JSON file.
        machine: Result of `identity` on this machine.
    """
    try:
        record = read_json(path)
    except Absent:
        return None
    except Unreadable as error:
        logging.warning("The speed of this machine is measured again: %s", error)
        return None
    rates = record.get("rates")
    if record.get("machine") != machine or not isinstance(rates, dict) or set(rates) != set(Rates._fields):
        return None
    if not all(isinstance(rate, float) and math.isfinite(rate) and rate >= 0 for rate in rates.values()):
        return None
    return Rates(**rates)


def measured_rates() -> Rates:
    """Measure the rates of this machine, which takes one to four seconds on one core."""
    from linearized.solvers.linear.band import banded  # imports scipy.linalg, which stored rates do not need

    random = np.random.default_rng(0)
    single = random.standard_normal((SIDE, SIDE), np.float32)
    double, total = single[:1024, :1024].astype(np.float64), np.zeros((SIDE, SIDE))

    def square() -> None:
        np.add(total, single.T @ single, out=total)

    narrow = [_narrow(random, columns) for columns in NARROW]
    column = max(narrow[1] - narrow[0], 0.0) / (NARROW[1] - NARROW[0])
    spectral = single @ single.T
    sides, seconds = (SIDE // 2, SIDE), []
    for side in sides:
        seconds.append(min(_reduction(spectral[:side, :side])[0] for _ in range(2)))
    cubic = max((seconds[1] / sides[1] ** 2 - seconds[0] / sides[0] ** 2) / (sides[1] - sides[0]), 0.0)
    band = _reduction(spectral)[1]

    def factor() -> None:
        banded.solve(banded.factor(band, float(SIDE)), np.ones((SIDE, 1)))

    read = max(narrow[0] - NARROW[0] * column, 0.0)
    lengths = (SHORT // 16, SHORT)
    each = [_lanczos_step(length) for length in lengths]
    turned = max(each[1] - each[0], 0.0) / (lengths[1] - lengths[0]) / NARROW[0]
    return Rates(
        single=_fastest(lambda: single @ single) / SIDE**3,
        double=_fastest(lambda: double @ double) / len(double) ** 3,
        square=_fastest(square) / (SIDE**3 / 2),
        read=read,
        column=column,
        reduced=max(seconds[1] / sides[1] ** 2 - cubic * sides[1], 0.0),
        reduction=cubic,
        factor=_fastest(factor) / SIDE,
        step=max(each[0] - lengths[0] * NARROW[0] * turned, 0.0),
        # Products with the basis are counted by themselves: 2 (m² - l²)/(m - l) for each number, from step l to m.
        turned=max(turned - 2 * sum(STEPS) * (read + column * NARROW[0]), 0.0),
    )


def _fastest(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of the fastest of 3 calls of `work`, after one call that loads libraries and caches."""
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.thread_time()
        work()
        seconds.append(time.thread_time() - began)
    return min(seconds)


def _narrow(random: np.random.Generator, columns: int) -> float:
    """Measure the products T u and Tᵀ(T u) of float32 tiles T that are together larger than the caches.

    Args:
        random: Generator of u.
        columns: Number of columns of u.

    Returns:
        Seconds per entry of T.
    """
    tiles = np.ones((TILES, ROWS, SHORT), np.float32)
    u, total = random.standard_normal((SHORT, columns), np.float32), np.zeros((columns, SHORT))

    def work() -> None:
        for tile in tiles:
            np.add(total, (tile @ u).T @ tile, out=total)

    return _fastest(work) / tiles.size


def _lanczos_step(length: int) -> float:
    """Measure one step of block Lanczos for 20 ridges, on a problem with products that take almost no time.

    Args:
        length: Length of the vectors.

    Returns:
        Seconds per step.
    """
    from linearized.solvers.linear import block_lanczos

    problem, ridges = _Diagonal(length), np.logspace(-3, 3, 20)

    def steps(count: int) -> float:
        return _fastest(lambda: block_lanczos.solve(problem, ridges, rtol=1e-12, atol=0.0, max_iterations=count))

    return max(steps(STEPS[1]) - steps(STEPS[0]), 0.0) / (STEPS[1] - STEPS[0])


def _reduction(matrix: np.ndarray) -> tuple[float, np.ndarray]:
    """Reduce a symmetric matrix to a banded matrix; return the CPU seconds of the reduction, and the banded matrix."""
    from linearized.solvers.linear.band.reduction import BandReduction

    reduction = BandReduction(np.array(matrix))
    began = time.thread_time()
    while not reduction.done:
        reduction.step()
    return time.thread_time() - began, reduction.band()
