"""Kernel ridge regression on centres, and with K computed in every product, against the exact solution.

    python benchmarks/kernel_ridge_centres.py --n=5000 --centres=500,1000,2000
    python benchmarks/kernel_ridge_centres.py --n=60000 --centres=5000 --workers=2

Fits the whole grid of ridges by the exact solver (K in memory, band), on centres chosen in both ways, and by solvers
that multiply by tiles of K. Tells for each the CPU seconds, K included, the largest difference of its test predictions
from the exact ones relative to their root mean square, over all ridges and at the best one, the best test accuracy,
and the share of the trace of K that centres lose. Where Fashion-MNIST is not found smooth random images stand in.

With --workers it instead fits on uniform centres in this process, on one worker and on that many, of one core each, and
tells the seconds, the CPU seconds of all workers and of this process, the largest difference from the fit in this
process, and how much faster the workers are than one.
"""

import time

import numpy as np
from absl import app, flags
from kernel_ridge_streamed import images

from kernel_gen import gram
from kernel_gen.kernels.ntk import FullyConnected
from linearized.base.blocks import at_most, cores
from linearized.cluster.tiles import OnWorkers, places
from linearized.kernel_ridge.centre_choice import CentreChoice
from linearized.kernel_ridge.centre_tiles import Centres, equations
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.kernel_ridge.nystrom import CentreRegression
from linearized.kernel_ridge.ridge_path import fit
from linearized.kernel_ridge.row_passes import RowPasses

FLAGS = flags.FLAGS
flags.DEFINE_integer("test", 1000, "test rows")
flags.DEFINE_list("centres", ["500", "1000", "2000"], "numbers of centres")
flags.DEFINE_list("solvers", ["block_lanczos", "rpcholesky"], "solvers of K that is computed in every product")
flags.DEFINE_integer("workers", 0, "compare a fit on centres in this process, on one worker and on so many; 0: do not")


def seconds_on_workers(x, new, targets, ridges, kernel, double) -> None:
    """Compare fits on centres in this process and on workers of one core each."""
    count, memory, wall, exact = int(FLAGS.centres[0]), int(FLAGS.memory * 2**30), {}, None
    few = x[:10], targets[:10]

    def warm() -> None:
        equations(Centres(kernel, few[0], np.eye(10, dtype=kernel.dtype, order="F")), *few, 0)

    for number in (0, 1, FLAGS.workers):
        with places(number) as place, at_most(1):
            place = OnWorkers(place.client) if number else place
            of_workers = place.client.run if number else lambda function: {}
            of_workers(warm)  # imports, before anything is timed
            before, began, start = of_workers(time.process_time), time.process_time(), time.perf_counter()
            of = CentreRegression(kernel, double, x, targets, CentreChoice(count), memory=memory,
                                  passes=RowPasses(place=place))  # fmt: skip
            passed = time.perf_counter() - start
            found = of.completed(of.solve(ridges)).predict(of.cross("test", new))
            wall[number], own = time.perf_counter() - start, time.process_time() - began
            theirs = sum(of_workers(time.process_time).values()) - sum(before.values())
        exact = found if exact is None else exact
        print(f"  {count} centres, {number} workers: {wall[number]:.1f} s ({passed:.1f} s to the normal equations), "
              f"CPU {theirs:.1f} s of workers and {own:.1f} s of this process, difference "
              f"{np.abs(found - exact).max():.1e}", flush=True)  # fmt: skip
    print(f"  {FLAGS.workers} workers are {wall[1] / wall[FLAGS.workers]:.2f} times as fast as one")


def main(_):
    n = FLAGS.n
    x, y, source = images(n + FLAGS.test)
    x, new, targets, labels = x[:n], x[n:], y[:n], y[n:].argmax(axis=1)
    ridges = np.logspace(-1, 5, FLAGS.ridges)
    kernel, double = (FullyConnected(2, dtype=dtype, scale="input") for dtype in (FLAGS.dtype, "float64"))
    gram(kernel, x[:10]), gram(double, x[:10])  # compiled before anything is timed
    print(f"{source}, n={n}, {FLAGS.test} test rows, {FLAGS.ridges} ridges, {FLAGS.dtype}, {cores()} core(s)")
    if FLAGS.workers:
        seconds_on_workers(x, new, targets, ridges, kernel, double)
        return
    exact = None

    def tell(name: str, predict) -> None:
        nonlocal exact
        began = time.process_time()
        path, found, note = predict()
        seconds = time.process_time() - began
        exact = found if exact is None else exact
        accuracies = (found.argmax(axis=2) == labels).mean(axis=1)
        scale = np.sqrt(np.square(exact).mean(axis=(1, 2)))
        errors = np.sqrt(np.square(found - exact).mean(axis=(1, 2))) / scale
        unsolved = sum(not one.converged for one in path.solutions)
        note += f", {unsolved} ridges unsolved" if unsolved else ""
        best = accuracies.argmax()
        print(f"  {name:28} {seconds:7.1f} s, error at most {errors.max():.1e} and {errors[best]:.1e} at "
              f"the best ridge, accuracy {accuracies[best]:.4f}{note}", flush=True)  # fmt: skip

    def full():
        path = fit(gram(kernel, x), targets, ridges, solver="band", overwrite=True)
        return path, path.predict(CrossKernel(kernel, new, kernel.prepare(x))), ""

    def on_centres(count: int, by: str):
        of = CentreRegression(kernel, double, x, targets, CentreChoice(count, by), memory=int(FLAGS.memory * 2**30))
        path = of.completed(of.solve(ridges))
        return path, path.predict(of.cross("test", new)), f", {100 * of.lost:.2f} % of the trace lost"

    def computed(solver: str):
        path = fit(ComputedGram(kernel, x), targets, ridges, solver=solver, rtol=FLAGS.rtol, memory=0)
        steps = max(one.iterations for one in path.solutions)
        return path, path.predict(CrossKernel(kernel, new, kernel.prepare(x))), f", {steps} products"

    with at_most(FLAGS.cores or cores()):
        tell("exact, K in memory, band", full)
        for count in map(int, FLAGS.centres):
            for by in ("uniform", "rpcholesky"):
                tell(f"{count} centres, {by}", lambda count=count, by=by: on_centres(count, by))
        for solver in FLAGS.solvers:
            tell(f"K on the fly, {solver}", lambda solver=solver: computed(solver))


if __name__ == "__main__":
    FLAGS.set_default("n", 5000)
    app.run(main)
