"""How near the products with recomputed features come to the machine's own float32 matrix product, in one run.

    python benchmarks/feature_products.py --threads=1

A product's work is counted as that of making the features, 2 n d N operations a pass, and nothing else: the ReLU and
the products with the columns are overhead. The bar is half of the matrix product's rate. The work of the Gram matrix of
the kernel RF of finite width is that of the features, made once, and of one triangle, n² N; the bar is 80 %.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags
from figures import record
from threadpoolctl import threadpool_limits
from timing import fastest

import kernel_gen
from linearized.problems import FeatureProblem, TangentProblem

FLAGS = flags.FLAGS
flags.DEFINE_integer("threads", 1, "threads of BLAS")
flags.DEFINE_integer("n", 5000, "rows")
flags.DEFINE_integer("dim", 784, "inputs")
flags.DEFINE_integer("units", 8192, "features")
flags.DEFINE_integer("columns", 10, "columns of the products")
flags.DEFINE_integer("repeats", 3, "the fastest counts")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def main(_):
    threadpool_limits(FLAGS.threads)
    n, dim, units, columns = FLAGS.n, FLAGS.dim, FLAGS.units, FLAGS.columns
    random = np.random.default_rng(0)
    x = random.standard_normal((n, dim), dtype=np.float32)
    weights = random.standard_normal((dim, units), dtype=np.float32) / np.float32(np.sqrt(dim))
    y = np.zeros((n, columns), np.float32)
    square = random.standard_normal((4096, 4096), dtype=np.float32)
    out = np.empty_like(square)
    rates = {"sgemm": 2 * 4096**3 / fastest(lambda: np.matmul(square, square, out=out), FLAGS.repeats)}
    problem = FeatureProblem(x, y, weights, mode="recomputed", xp=np)
    u, v = random.standard_normal((n, columns)), random.standard_normal((units + 1, columns))
    work = 2 * n * dim * units
    rates["RF dual product"] = work / fastest(lambda: problem.dual_product(u), FLAGS.repeats)
    rates["RF primal product"] = work / fastest(lambda: problem.primal_product(v), FLAGS.repeats)
    rates["RF forward"] = work / fastest(lambda: problem.forward(v), FLAGS.repeats)
    rates["RF predict"] = work / fastest(lambda: problem.predict(x, v), FLAGS.repeats)
    readout = random.standard_normal((1, units), dtype=np.float32)
    tangent = TangentProblem(x, y[:, :1], weights, readout, mode="recomputed", xp=np)
    u, v = random.standard_normal((n, 1)), random.standard_normal((tangent.params, 1))
    rates["NT dual product"] = 3 * work / fastest(lambda: tangent.dual_product(u), FLAGS.repeats)
    rates["NT primal product"] = 3 * work / fastest(lambda: tangent.primal_product(v), FLAGS.repeats)
    work += n**2 * units
    rates["RF Gram matrix"] = work / fastest(lambda: kernel_gen.gram("RF", x, num_units=units), FLAGS.repeats)
    for name, rate in rates.items():
        print(f"{name:18} {rate / 1e9:8.1f} GFLOP/s {rate / rates['sgemm']:7.0%}")
        if name != "sgemm":
            sizes = f"{name}, n = {n:,}, N = {units:,}, features recomputed"
            record(sizes, rate / 1e9, "sgemm", rates["sgemm"] / 1e9, "GFLOP/s")
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(rates, indent=1))


if __name__ == "__main__":
    app.run(main)
