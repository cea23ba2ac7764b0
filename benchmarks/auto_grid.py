"""The choice of `--solver=auto` for RF and NT over a grid of sizes, against each of its solvers and against SciPy.

    python benchmarks/auto_grid.py                              # small: a few minutes on one core
    python benchmarks/auto_grid.py --large --out=grid           # hours; writes grid.json and grid.png

The task is the train predictions, and those of `--test` other rows, at every ridge of the published grid or of equally
spaced ridges between its ends. Times are CPU seconds of one thread, features included on both sides. Each solver runs
in the mode that is estimated to be its fastest, and with the accuracy that auto promises. SciPy forms the smaller of
A Aᵀ and AᵀA once (for NT from its closed form) and takes one Cholesky factor for each ridge, in float32 or float64, or
one eigendecomposition in float64, whichever is the fastest that keeps the accuracy.

Errors are those of the train predictions against a float64 eigendecomposition, relative to them, at the worst ridge.
The times of answers whose errors are larger than they claim are not compared: the row shows "wrong", and the script
ends with code 1. A solver that itself reports a larger error is left out of the comparison.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.linalg
from absl import app, flags
from figures import record
from threadpoolctl import threadpool_limits

from linearized import data
from linearized.base.errors import UserError
from linearized.base.weights import first_layer, tangent_layers
from linearized.problems import FeatureProblem, LeastSquares, TangentProblem
from linearized.problems.costs import choose, estimates
from linearized.report import style
from linearized.solvers import SOLVERS
from linearized.solvers.linear.solution import ACCURACY, RTOL
from linearized.solvers.rates import machine_rates

FLAGS = flags.FLAGS
flags.DEFINE_bool("large", False, "sizes up to n = 5,000 and N = 20,000")
flags.DEFINE_list("only", [], "cases to run, such as RF-500-3000-1-20")
flags.DEFINE_list("solvers", ["band", "lanczos", "cg"], "solvers beside auto")
flags.DEFINE_integer("test", 500, "other rows to predict")
flags.DEFINE_string("out", "", "beginning of the names of the numbers (.json) and of the picture (.png)")

ROUNDED = 1.01  # the reference has float64 features, and claims are about those in float32
SHORT = 1.0  # seconds; what takes less is run twice, and the faster run counts
BEYOND = 1.3  # ratio of auto's time to the best that counts as a failure of the choice


class Case(NamedTuple):
    """Sizes of one problem."""

    model: str
    n: int
    units: int
    outputs: int
    ridges: int

    def __str__(self) -> str:
        return "-".join(map(str, self))


SMALL = [
    *(Case("RF", n, units, k, r) for n in (500, 1500) for units in (400, 3000) for k, r in ((1, 20), (10, 20), (1, 3))),
    *(Case("NT", n, 256, k, r) for n, k in ((300, 1), (1000, 1), (300, 3)) for r in (20, 3)),
]
LARGE = [
    *(Case("RF", n, units, k, r) for n in (1000, 2000, 5000) for units in (1000, 5000, 20000) for k in (1, 10)
      for r in (1, 5, 20)),
    *(Case("NT", n, units, k, r) for n in (1000, 2000) for units in (256, 1024) for k in (1, 3) for r in (1, 20)),
]  # fmt: skip


class Answer(NamedTuple):
    """Predictions of every ridge (r, rows, k), the error that they claim, relative, and what took the time."""

    train: np.ndarray
    claimed: float
    about: str


class Inputs(NamedTuple):
    """Arrays of a case; `readout` is None for RF."""

    x: np.ndarray
    y: np.ndarray
    other: np.ndarray
    weights: np.ndarray
    readout: np.ndarray | None
    ridges: np.ndarray


def images(n: int, test: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Train inputs and class numbers, other inputs, and what they are."""
    try:
        dataset = data.load("FMNIST", 0, num_train=n, num_test=test)
        return dataset.train.x, dataset.train.y, dataset.test.x, "Fashion-MNIST"
    except UserError:
        random = np.random.default_rng(0)
        i, j = np.mgrid[:28, :28]
        waves = random.standard_normal((n + test, 28, 28)) / (1 + i**2 + j**2) ** 0.75
        x = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho").reshape(n + test, 784)
        x = (x * 28 / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        return x[:n], np.argmax(x[:n] @ random.standard_normal((784, 10)), axis=1), x[n:], "smooth random images"


def inputs(case: Case) -> Inputs:
    x, labels, other, _ = images(case.n, FLAGS.test)
    y = np.eye(case.outputs)[labels % case.outputs] if case.outputs > 1 else (labels[:, None] >= 5) * 1.0
    ridges = case.n * np.logspace(-5, 3, case.ridges)
    if case.model == "RF":
        return Inputs(x, y, other, first_layer(x.shape[1], case.units), None, ridges)
    return Inputs(x, y, other, *tangent_layers(x.shape[1], case.units, case.outputs), ridges)


def problem_of(given: Inputs) -> LeastSquares:
    if given.readout is None:
        return FeatureProblem(given.x, given.y, given.weights, xp=np)
    return TangentProblem(given.x, given.y, given.weights, given.readout, xp=np)


def by_ours(given: Inputs, solver: str, mode: str | None = None) -> Answer:
    """The answer of a solver, or of auto, as `train.py` computes it."""
    problem = problem_of(given)
    if solver == "auto":
        chosen = choose(problem, given.ridges, rtol=RTOL)
        name = chosen.solver
    else:
        name = solver
        problem.set_mode(mode)
    by_kernel = problem.predicts_by_kernel(len(given.other), len(given.ridges) * problem.columns)
    solutions = SOLVERS.load(name).solve(problem, given.ridges, accuracy=ACCURACY, values=not by_kernel)
    if solutions[0].value is None:
        problem.predict_dual(given.other, np.concatenate([one.dual for one in solutions], axis=1))
    else:
        problem.predict(given.other, np.concatenate([one.value for one in solutions], axis=1))
    train = np.stack([problem.outputs_of(one.predictions) for one in solutions])
    sizes = np.linalg.norm(train, axis=(1, 2)) / np.sqrt(len(given.x))
    bounds = [one.prediction_error / size for one, size in zip(solutions, sizes, strict=True)]
    claimed = ACCURACY if all(one.converged for one in solutions) else max(ACCURACY, *bounds)
    return Answer(train, claimed, f"{name} {problem.mode}")


def features(given: Inputs, x: np.ndarray, dtype: type) -> np.ndarray:
    hidden = np.maximum(x.astype(dtype) @ given.weights.astype(dtype), 0)
    return np.concatenate([hidden, np.ones((len(x), 1), dtype)], axis=1)


def tangent_kernel(given: Inputs, x: np.ndarray, z: np.ndarray, dtype: type) -> np.ndarray:
    """K(x, X) of NT: (m, n) for one output, otherwise (m k, n k)."""
    own = given.x.astype(np.float32) @ given.weights
    common = np.maximum(z, 0).astype(dtype) @ np.maximum(own, 0).astype(dtype).T + 1
    inner = x.astype(dtype) @ given.x.astype(dtype).T
    outputs, gates = len(given.readout), (0.5 * (np.sign(z) + 1)).astype(dtype)
    whole, right = np.empty((len(x), outputs, len(own), outputs), dtype), (0.5 * (np.sign(own) + 1)).astype(dtype)
    for c in range(outputs):
        for e in range(outputs):
            weights = (given.readout[c] * given.readout[e]).astype(dtype)
            whole[:, c, :, e] = inner * ((gates * weights) @ right.T) + (common if c == e else 0)
    return whole.reshape(len(x) * outputs, -1)


def by_scipy(given: Inputs, method: str, dtype: type) -> Answer:
    """The answer of a Gram matrix, or of the normal equations, and one factor for each ridge or one of all."""
    y = given.y.astype(dtype)
    if given.readout is None:
        phi, other = features(given, given.x, dtype), features(given, given.other, dtype)
        dual = len(phi) < phi.shape[1]
        gram, right = (phi @ phi.T, y) if dual else (phi.T @ phi, phi.T @ y)
        left, fresh = (gram, other @ phi.T) if dual else (phi, other)
    else:
        gram = left = tangent_kernel(given, given.x, given.x @ given.weights, dtype)
        right = y.reshape(-1, 1)
        fresh = tangent_kernel(given, given.other, given.other @ given.weights, dtype)
    found = []
    if method == "eigh":
        values, vectors = scipy.linalg.eigh(gram, driver="evd", check_finite=False)
        turned = vectors.T @ right
        found = [vectors @ (turned / (np.maximum(values, 0) + ridge)[:, None]) for ridge in given.ridges]
    for ridge in [] if method == "eigh" else given.ridges:
        shifted = gram.copy(order="F")
        shifted[np.diag_indices_from(shifted)] += dtype(ridge)
        factor = scipy.linalg.cho_factor(shifted, overwrite_a=True, check_finite=False)
        found.append(scipy.linalg.cho_solve(factor, right, check_finite=False))
    stacked = np.concatenate(found, axis=1)
    fresh @ stacked  # the predictions for other rows, which only take their time
    train = np.stack(np.split(left @ stacked, len(found), axis=1)).reshape(len(found), len(y), -1)
    return Answer(train, ACCURACY, f"{method}{np.finfo(dtype).bits}")


RIVALS = {
    "chol32": ("cholesky", np.float32),
    "chol64": ("cholesky", np.float64),
    "eigh64": ("eigh", np.float64),
}


def reference(given: Inputs, cache: dict[str, Any], key: str) -> np.ndarray:
    """Train predictions (r, n, k) in float64 by the eigenvalues of A Aᵀ or AᵀA, which are computed once for `key`."""
    y = given.y.reshape(-1, 1) if given.readout is not None else given.y
    phi = features(given, given.x, np.float64) if given.readout is None else None
    if phi is not None and len(phi) >= phi.shape[1]:
        if key not in cache:
            cache[key] = np.linalg.eigh(phi.T @ phi)
        values, vectors = cache[key]
        basis = phi @ vectors
        turned = vectors.T @ (phi.T @ y)
        found = [basis @ (turned / (np.maximum(values, 0) + ridge)[:, None]) for ridge in given.ridges]
    else:
        if key not in cache:
            z = given.x @ given.weights
            gram = phi @ phi.T if phi is not None else tangent_kernel(given, given.x, z, np.float64)
            cache[key] = np.linalg.eigh(gram)
        values, vectors = cache[key]
        values, turned = np.maximum(values, 0), vectors.T @ y
        found = [vectors @ (turned * (values / (values + ridge))[:, None]) for ridge in given.ridges]
    return np.stack(found).reshape(len(found), len(given.y), -1)


def timed(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """CPU seconds of the faster of two runs, or of one that takes long, and its answer."""
    seconds = []
    while not seconds or (len(seconds) < 2 and seconds[0] < SHORT):
        began = time.process_time()
        answer = work()
        seconds.append(time.process_time() - began)
    return min(seconds), answer


def measure(case: Case, cache: dict[str, Any]) -> dict[str, Any]:
    """Times, errors and verdicts of all methods for one case."""
    given = inputs(case)
    exact = reference(given, cache, f"{case.model}-{case.n}-{case.units}-{case.outputs if case.model == 'NT' else ''}")
    found = estimates(problem_of(given), given.ridges, machine_rates(), RTOL, 750)
    tasks: dict[str, Callable[[], Answer]] = {"auto": lambda: by_ours(given, "auto")}
    expected = {}
    for solver in FLAGS.solvers:
        own = [one for one in found if one.solver == solver]
        mode = own[0].mode if own else problem_of(given).mode
        expected[solver] = own[0].seconds if own else None
        if own or solver != "band":
            tasks[solver] = lambda solver=solver, mode=mode: by_ours(given, solver, mode)
    tasks |= {name: lambda how=how: by_scipy(given, *how) for name, how in RIVALS.items()}
    rows: dict[str, Any] = {}
    for name, work in tasks.items():
        try:
            seconds, answer = timed(work)
        except np.linalg.LinAlgError:  # a float32 factor at a small ridge
            rows[name] = {"verdict": "fails"}
            continue
        errors = np.linalg.norm(answer.train - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))
        error = float(np.max(errors))
        late = "misses" if answer.claimed > ACCURACY else "ok"
        verdict = late if error <= ROUNDED * answer.claimed else "misses" if name in RIVALS else "wrong"
        rows[name] = {"seconds": seconds, "error": error, "claimed": answer.claimed, "about": answer.about,
                      "verdict": verdict, "estimated": expected.get(name)}  # fmt: skip
    return rows


def best(rows: dict[str, Any], names: list[str]) -> str | None:
    """The fastest of the methods that keep the accuracy."""
    fit = [name for name in names if name in rows and rows[name]["verdict"] == "ok"]
    return min(fit, key=lambda name: rows[name]["seconds"], default=None)


def compared(rows: dict[str, Any]) -> dict[str, Any]:
    """auto against the best solver and the best of SciPy; None where the answers cannot be compared."""
    ours, rival = best(rows, FLAGS.solvers), best(rows, list(RIVALS))
    auto = rows["auto"]["seconds"] if rows["auto"]["verdict"] == "ok" else None
    ratios = [auto / rows[name]["seconds"] if auto and name else None for name in (ours, rival)]
    return {"solver": ours, "rival": rival, "over_solver": ratios[0], "over_rival": ratios[1]}


def line(case: Case, rows: dict[str, Any]) -> str:
    """A row of the table."""
    against, auto = compared(rows), rows["auto"]

    def cell(name: str | None) -> str:
        return f"{'-':>16}" if name is None else f"{name:>10}{rows[name]['seconds']:6.2f}"

    def ratio(value: float | None) -> str:
        return f"{'-':>6}" if value is None else f"{value:6.2f}"

    error = f"{auto['error']:7.0e}" if auto["verdict"] == "ok" else f"{auto['verdict']:>7}"
    return (f"{case.model:2}{case.n:5}{case.units:6}{case.outputs:3}{case.ridges:3} {auto['about'][:12]:12}"
            f"{auto['seconds']:6.2f}{cell(against['solver'])[2:]}{ratio(against['over_solver'])}"
            f"{cell(against['rival'])}{ratio(against['over_rival'])}{error}")  # fmt: skip


def record_case(case: Case, rows: dict[str, Any]) -> None:
    """Put the case into the table of all benchmarks, if both answers are as accurate as they claim."""
    rival = compared(rows)["rival"]
    if rival and rows["auto"]["verdict"] == "ok":
        work = (f"{case.model}, n = {case.n:,}, N = {case.units:,}, {case.outputs} outputs, {case.ridges} ridges, "
                f"{rows['auto']['about']}")  # fmt: skip
        other = rows[rival]["seconds"]
        record(work, rows["auto"]["seconds"], f"SciPy, {rival}", other, error=rows["auto"]["error"])


HEAD = (f"{'':2}{'n':>5}{'N':>6}{'k':>3}{'r':>3} {'auto':12}{'s':>6}{'best':>8}{'s':>6}{'ratio':>6}"
        f"{'SciPy':>10}{'s':>6}{'ratio':>6}{'error':>7}")  # fmt: skip


def picture(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw auto's time over that of the best solver and of the best of SciPy, a row for each case."""
    figure, [axes] = style.new_figure(6.4, 1.2 + 0.22 * len(results))
    place, handles = np.arange(len(results))[::-1], {}
    for i, (key, label) in enumerate((("over_solver", "best of its solvers"), ("over_rival", "best of SciPy"))):
        values = [compared(rows)[key] or np.nan for rows in results.values()]
        [handles[label]] = axes.plot(values, place, style.MARKERS[i], color=style.COLOURS[i], alpha=0.85)
    axes.axvline(1, color="0.4", lw=1)
    axes.axvline(BEYOND, color="0.4", lw=1, ls=":")
    axes.set_xscale("log")
    shown = [0.1, 0.2, 0.5, 1, 2, 5]
    axes.set_xticks(shown, [f"{value:g}" for value in shown], minor=False)
    axes.minorticks_off()
    axes.set_yticks(place, list(results))
    axes.set_xlabel(f"CPU time of auto over that of the other; dotted: {BEYOND}")
    axes.set_ylabel("model-n-N-outputs-ridges")
    style.legend_below(figure, handles)
    style.save_figure(figure, path)


def main(_):
    threadpool_limits(1)
    cases = [case for case in (LARGE if FLAGS.large else SMALL) if not FLAGS.only or str(case) in FLAGS.only]
    machine_rates()
    cache: dict[str, Any] = {}
    results: dict[str, dict[str, Any]] = {}
    print(
        f"{images(10, 10)[3]}; error bar {ACCURACY:.0e}; s: CPU seconds of one thread; ratio: auto's over the other's"
    )
    print(HEAD)
    for case in cases:
        results[str(case)] = measure(case, cache)
        print(line(case, results[str(case)]), flush=True)
        record_case(case, results[str(case)])
    for name, rows in results.items():
        for method, row in rows.items():
            if row["verdict"] == "wrong":
                print(f"{name}: {method} claims {row['claimed']:.0e} and is off by {row['error']:.0e}")
    beyond = [name for name, rows in results.items() if (compared(rows)["over_solver"] or 0) > BEYOND]
    print(
        f"auto takes more than {BEYOND} times the best solver in {len(beyond)} of {len(results)}: {', '.join(beyond)}"
    )
    if FLAGS.out:
        Path(f"{FLAGS.out}.json").write_text(json.dumps(results, indent=1))
        picture(results, Path(f"{FLAGS.out}.png"))
    if any(row["verdict"] == "wrong" for rows in results.values() for row in rows.values()):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
