"""All 20 ridges of RF on 5,000 images: block Lanczos and multi-shift CG against SciPy's cg, once per ridge.

    python benchmarks/rf_ridge_path.py --threads=1 --out=path.json

One output (is the label at least 5), 20,000 units, the published ridges and tolerances. SciPy multiplies by the same
kept float32 features through NumPy. Times are told with and without making the features, for both sides alike. The
errors are those of the predictions on 2,000 other images, relative, against the float64 eigendecomposition of A Aᵀ.
Without Fashion-MNIST smooth random images stand in.
"""

import json
import time
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.sparse.linalg
from absl import app, flags
from threadpoolctl import threadpool_limits

from linearized import data
from linearized.base.errors import UserError
from linearized.base.weights import first_layer
from linearized.problems import FeatureProblem
from linearized.solvers import SOLVERS

FLAGS = flags.FLAGS
flags.DEFINE_integer("threads", 1, "threads of BLAS")
flags.DEFINE_integer("n", 5000, "train images")
flags.DEFINE_integer("units", 20000, "random features")
flags.DEFINE_bool("scipy", True, "run SciPy's cg too")
flags.DEFINE_string("out", "", "a JSON file for the numbers")

RTOL, ATOL, MAX_ITERATIONS, TEST = 1e-4, 1e-3, 750, 2000


def images(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Train inputs and labels, test inputs, and what they are."""
    try:
        dataset = data.load("FMNIST", 0, num_train=n, num_test=TEST)
        return dataset.train.x, (dataset.train.y[:, None] >= 5).astype(np.float32), dataset.test.x, "Fashion-MNIST"
    except UserError:
        random = np.random.default_rng(0)
        i, j = np.mgrid[:28, :28]
        waves = random.standard_normal((n + TEST, 28, 28)) / (1 + i**2 + j**2) ** 0.75
        x = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho").reshape(n + TEST, 784)
        x *= 28 / np.linalg.norm(x, axis=1, keepdims=True)
        y = (np.sin(x @ random.standard_normal((784, 1)) / 10) > 0).astype(np.float32)
        return x[:n].astype(np.float32), y[:n], x[n:].astype(np.float32), "smooth random images"


def features(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[relu(x W), 1] as one float32 array."""
    product = np.empty((len(x), weights.shape[1] + 1), np.float32)
    np.matmul(x, weights, out=product[:, :-1])
    np.maximum(product, 0, out=product)
    product[:, -1] = 1
    return product


def exact_coefficients(phi: np.ndarray, y: np.ndarray, ridges: np.ndarray) -> np.ndarray:
    """v of every ridge in float64, (p, r): one eigendecomposition of A Aᵀ."""
    gram = np.zeros((len(phi), len(phi)))
    for start in range(0, phi.shape[1], 1000):
        block = phi[:, start : start + 1000].astype(np.float64)
        gram += block @ block.T
    values, vectors = np.linalg.eigh(gram)
    alpha = vectors @ ((vectors.T @ y.astype(np.float64)) / (values[:, None] + ridges))
    blocks = [phi[:, start : start + 1000].T.astype(np.float64) @ alpha for start in range(0, phi.shape[1], 1000)]
    return np.concatenate(blocks)


def by_scipy(phi: np.ndarray, y: np.ndarray, ridges: np.ndarray) -> tuple[np.ndarray, int]:
    """v of every ridge by SciPy's cg on H v = b in the published units, and the iterations in all."""
    n, p = phi.shape
    b = 2 / n * (phi.T @ y[:, 0]).astype(np.float64)
    columns, steps = [], []
    for ridge in ridges:

        def product(v: np.ndarray, ridge: float = ridge) -> np.ndarray:
            return 2 / n * (phi.T @ (phi @ v.astype(np.float32))) + 2 * ridge / n * v

        operator = scipy.sparse.linalg.LinearOperator((p, p), matvec=product, dtype=np.float64)
        v, _ = scipy.sparse.linalg.cg(
            operator, b, rtol=RTOL, atol=ATOL, maxiter=MAX_ITERATIONS, callback=lambda _: steps.append(1)
        )
        columns.append(v)
    return np.stack(columns, axis=1), len(steps)


def main(_):
    threadpool_limits(FLAGS.threads)
    x, y, x_test, source = images(FLAGS.n)
    weights = first_layer(x.shape[1], FLAGS.units)
    ridges = len(x) * np.logspace(-5, 3, 20)
    start = time.perf_counter()
    phi = features(x, weights)
    making = {"scipy": time.perf_counter() - start}
    exact = exact_coefficients(phi, y, ridges)
    phi_test = features(x_test, weights)
    wanted = phi_test @ exact
    rows = {}

    def note(name: str, seconds: float, values: np.ndarray, products: int) -> None:
        errors = np.linalg.norm(phi_test @ values - wanted, axis=0) / np.linalg.norm(wanted, axis=0)
        rows[name] = {"seconds": seconds, "making": making[name], "products": products, "errors": errors.tolist()}

    if FLAGS.scipy:
        start = time.perf_counter()
        values, products = by_scipy(phi, y, ridges)
        note("scipy", time.perf_counter() - start, values, products)
    del phi
    for name in ("lanczos", "cg"):
        start = time.perf_counter()
        problem = FeatureProblem(x, y, weights, mode="kept", xp=np)
        making[name] = time.perf_counter() - start
        start = time.perf_counter()
        solutions = SOLVERS.load(name).solve(problem, ridges, rtol=RTOL, atol=ATOL, max_iterations=MAX_ITERATIONS)
        seconds = time.perf_counter() - start
        note(name, seconds, np.concatenate([s.value for s in solutions], axis=1), max(s.iterations for s in solutions))
        rows[name]["converged"] = all(solution.converged for solution in solutions)
        del problem
    print(f"{source}, n={len(x)}, N={FLAGS.units}, {len(ridges)} ridges, {FLAGS.threads} thread(s)")
    print(
        f"{'':8} {'solve s':>8} {'+ features':>10} {'products':>8} {'ratio':>6} {'+ feat.':>7} "
        f"{'error max':>9} {'median':>8}"
    )
    base = rows.get("scipy", rows["lanczos"])
    for name, row in rows.items():
        whole = row["seconds"] + row["making"]
        row["ratio"] = base["seconds"] / row["seconds"]
        row["ratio_with_features"] = (base["seconds"] + base["making"]) / whole
        print(
            f"{name:8} {row['seconds']:8.2f} {whole:10.2f} {row['products']:8d} {row['ratio']:6.1f} "
            f"{row['ratio_with_features']:7.1f} {max(row['errors']):9.1e} {np.median(row['errors']):8.1e}"
        )
    if FLAGS.scipy:
        nearer = np.sum(np.array(rows["lanczos"]["errors"]) <= np.array(rows["scipy"]["errors"]))
        print(f"lanczos is at least as near to the exact predictions as SciPy at {nearer} of {len(ridges)} ridges")
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps({"source": source, "ridges": ridges.tolist(), **rows}, indent=1))


if __name__ == "__main__":
    app.run(main)
