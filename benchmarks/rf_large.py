"""RF far beyond memory: peak memory and the time of a few steps of block Lanczos, extrapolated to a whole run.

    python benchmarks/rf_large.py --n=60000 --units=321126 --steps=2

Ten classes and random images; features are recomputed. Time goes into products, whose number does not depend on the
values but for when it is enough: `--expected` steps are assumed, and two passes at the end.
"""

import json
import resource
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from threadpoolctl import threadpool_limits

from linearized.base.weights import weight_blocks
from linearized.problems import FeatureProblem
from linearized.solvers.linear import block_lanczos

FLAGS = flags.FLAGS
flags.DEFINE_integer("threads", 0, "threads of BLAS; 0 takes all")
flags.DEFINE_integer("n", 10000, "rows")
flags.DEFINE_integer("units", 32000, "features")
flags.DEFINE_integer("steps", 3, "Lanczos steps to take")
flags.DEFINE_integer("expected", 60, "steps that a whole run is expected to take")
flags.DEFINE_integer("num_ridges", 20, "ridges")
flags.DEFINE_integer("memory_gb", 8, "the budget of the features and the basis")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def main(_):
    threadpool_limits(FLAGS.threads or None)
    random = np.random.default_rng(0)
    x = random.standard_normal((FLAGS.n, 784), dtype=np.float32)
    y = np.eye(10, dtype=np.float32)[random.integers(0, 10, FLAGS.n)]
    blocks = weight_blocks(784, FLAGS.units, block=min(FLAGS.units, 20000))
    weights = np.empty((784, FLAGS.units), np.float32)
    for i, block in enumerate(blocks):
        weights[:, i * 20000 : i * 20000 + block.shape[1]] = block
    problem = FeatureProblem(x, y, weights, memory=FLAGS.memory_gb * 2**30, mode="recomputed", xp=np)
    times = [time.perf_counter()]

    def progress(iteration, _, residuals, left):
        times.append(time.perf_counter())
        print(
            f"step {iteration}: {times[-1] - times[-2]:.1f} s, {left} ridges left, worst {max(residuals):.1e}",
            flush=True,
        )

    ridges = FLAGS.n * np.logspace(-5, 3, FLAGS.num_ridges)
    block_lanczos.solve(problem, ridges, max_iterations=FLAGS.steps, progress=progress)
    step, end = float(np.median(np.diff(times))), time.perf_counter() - times[-1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rate = 2 * FLAGS.n * 784 * FLAGS.units / step
    whole = FLAGS.expected * step + end
    print(f"n={FLAGS.n}, N={FLAGS.units}, a block of {problem.block} columns, {FLAGS.num_ridges} ridges")
    print(f"a step {step:.1f} s ({rate / 1e9:.0f} GFLOP/s of making features), the end {end:.1f} s")
    print(f"a whole run of {FLAGS.expected} steps: {whole / 3600:.2f} h; peak memory {peak / 2**30:.2f} GiB")
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps({"step": step, "end": end, "whole": whole, "peak": peak}, indent=1))


if __name__ == "__main__":
    app.run(main)
