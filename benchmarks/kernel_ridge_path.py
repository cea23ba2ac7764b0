"""All 20 ridges of kernel ridge regression with 10 outputs, against SciPy and scikit-learn once per ridge.

    python benchmarks/kernel_ridge_path.py --n=10000 --dtype=float64 --threads=1 --out=path.json
    python benchmarks/kernel_ridge_path.py --n=10000 --dtype=float32 --source=shards --solvers=band,block_lanczos

K is the two-layer ReLU NTK of smooth random images. Every solver runs in a process of its own, after a small run that
loads its libraries, and tells

- seconds of the clock and of the processor, and how often the latter go into those of scipy.linalg.solve per ridge:
  with assume_a="gen" (`scipy_gen`, the published way: SciPy's default before 1.15), as it comes (`scipy`, which finds
  out that K is positive definite), and told so (`scipy_pos`);
- the same for the best that a few lines of SciPy can do: a Cholesky factor for each ridge, in place of one copy of K
  (`potrf`), and that with one step of refinement, whose residual is computed in float64 (`refined`);
- the peak of its memory in units of K: beyond K where K is handed over as an array (of which band, cholesky and eigh
  make a copy to work in), in all where it is read from shards;
- the worst relative error over the ridges of predictions on other images. The reference is the eigendecomposition in
  float64 of K as it is stored, so float32's rounding of K is no solver's error.

`band:1e-3` runs band with rtol = 1e-3, where a float32 factor mostly needs no refinement. K, its shards and the
reference are kept in --folder for the next run.
"""

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.linalg
from absl import app, flags
from figures import record
from threadpoolctl import threadpool_limits

from kernel_gen import gram
from kernel_gen.jobs.tiles import divide, good_number
from linearized.problems import GramProblem
from linearized.solvers import GRAM_SOLVERS
from linearized.storage.files import whole_file
from linearized.storage.gram import Gram, open_gram
from linearized.storage.manifest import Band, Manifest, save_once
from linearized.storage.shards import write_shard

FACTORED = ("potrf", "refined")
FLAGS = flags.FLAGS
flags.DEFINE_integer("n", 2000, "train images")
flags.DEFINE_enum("dtype", "float64", ["float32", "float64"], "of K")
flags.DEFINE_integer("threads", 1, "threads of BLAS")
flags.DEFINE_enum("source", "memory", ["memory", "shards"], "where our solvers find K; the rivals have it in memory")
flags.DEFINE_list(
    "solvers", ["scipy_gen", "scipy", "scipy_pos", "sklearn", *FACTORED, "eigh", "cholesky", "band:1e-3", "band",
     "block_lanczos"],
    "what runs, in this order; a tolerance may follow a colon (1e-7 without)",
)  # fmt: skip
flags.DEFINE_integer("rival_ridges", 0, "ridges that the rivals solve, their time scaled to all; 0: all")
flags.DEFINE_string("folder", "kernel_ridge_path", "where K, its shards and the reference are kept")
flags.DEFINE_string("out", "", "a JSON file for the numbers")

RIDGES, OUTPUTS, TEST, MEMORY = np.logspace(-1, 5, 20), 10, 1000, 2**31
ASSUMED = {"scipy_gen": "gen", "scipy": None, "scipy_pos": "pos"}
RIVALS = (*ASSUMED, "sklearn", *FACTORED)
ROWS = 512  # rows of K that are converted to float64 at once


def images(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random images of norm 28, and centred one-hot labels that depend on them."""
    random = np.random.default_rng(0)
    i, j = np.mgrid[:28, :28]
    waves = random.standard_normal((rows, 28, 28)) / (1 + i**2 + j**2) ** 0.75
    x = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho").reshape(rows, 784)
    x *= 28 / np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.argmax(np.sin(x @ random.standard_normal((784, OUTPUTS)) / 10), axis=1)
    return x, np.eye(OUTPUTS)[labels] - 1 / OUTPUTS


def prepare(folder: Path, n: int, dtype: str, threads: int) -> None:
    """K, K_test, Y and the reference predictions into `folder`, if they are not there."""
    if not (folder / "reference.npy").exists():
        with threadpool_limits(threads):
            x, y = images(n + TEST)
            arrays = {
                "gram": gram("NTK", x[:n], num_layers=1, dtype=dtype),
                "gram_test": gram("NTK", x[n:], x[:n], num_layers=1, dtype="float64"),
                "targets": y[:n],
            }
            values, vectors = scipy.linalg.eigh(arrays["gram"].astype(np.float64), driver="evd", overwrite_a=True)
            rotated, test = vectors.T @ y[:n], arrays["gram_test"] @ vectors
            arrays["reference"] = np.stack([test @ (rotated / (values[:, None] + ridge)) for ridge in RIDGES])
        for name, array in arrays.items():
            with whole_file(folder / f"{name}.npy") as path:
                np.save(path, array)


def prepare_shards(folder: Path, n: int, dtype: str) -> None:
    """The shards of K into `folder`/shards, if they are not there."""
    if not (folder / "shards").exists():
        k, k_test = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("gram", "gram_test"))
        rows, tile = {"train": n, "test": TEST}, 256
        shards = divide(rows, good_number(rows, tile, 4), tile)
        manifest = Manifest({}, "benchmark", dtype, "stax", rows, tile, shards, "remove the folder and run it again")
        save_once(folder / "shards", manifest)

        def block(band: Band) -> np.ndarray:
            rows = (k if band.block == "train" else k_test)[band.start : band.stop, band.left :]
            return np.ascontiguousarray(rows, dtype)

        for shard in range(len(shards)):
            write_shard(folder / "shards", manifest, shard, block)


def peak() -> float:
    """The most bytes that this process has held in memory so far."""
    status = Path("/proc/self/status").read_text()
    return 1024 * float(status.split("VmHWM:")[1].split()[0])


def measured(solver: str, folder: Path, threads: int, source: str, rival_ridges: int) -> dict:
    """Seconds, memory, error and evidence of one solver; runs in a process of its own."""
    with threadpool_limits(threads):
        random = np.random.default_rng(0)
        small = random.standard_normal((50, 50))
        run(solver, small @ small.T, random.standard_normal((50, 2)), RIDGES)
        targets = np.load(folder / "targets.npy")
        streamed = source == "shards" and solver not in RIVALS
        k = open_gram(folder / "shards") if streamed else np.load(folder / "gram.npy")
        n, item = len(targets), np.dtype(k.dtype).itemsize
        ridges = RIDGES
        if solver in RIVALS and rival_ridges:
            ridges = RIDGES[:: -(-len(RIDGES) // rival_ridges)]
        before, start, cpu = peak(), time.perf_counter(), time.process_time()
        alpha, evidence = run(solver, k, targets, ridges)
        scale = len(RIDGES) / len(ridges)
        row = {"seconds": scale * (time.perf_counter() - start), "cpu": scale * (time.process_time() - cpu)}
        row["memory"] = (peak() - before) / (n * n * item)
        wanted = np.load(folder / "reference.npy")[np.isin(RIDGES, ridges)]
        got = np.load(folder / "gram_test.npy") @ np.asarray(alpha, np.float64)
        errors = np.linalg.norm(got - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))
        return row | {"errors": errors.tolist(), "ridges": len(ridges)} | evidence


def run(solver: str, k: np.ndarray | Gram, targets: np.ndarray, ridges: np.ndarray) -> tuple[list[np.ndarray], dict]:
    """α of every ridge, and what the solver says of its work."""
    name, _, rtol = solver.partition(":")
    if name in ASSUMED:
        y, eye = targets.astype(k.dtype), np.eye(len(k), dtype=k.dtype)
        shifted = (k + k.dtype.type(ridge) * eye for ridge in ridges)
        return [scipy.linalg.solve(one, y, assume_a=ASSUMED[name]) for one in shifted], {}
    if name == "sklearn":
        from sklearn.kernel_ridge import KernelRidge

        y = targets.astype(k.dtype)
        return [KernelRidge(alpha=ridge, kernel="precomputed").fit(k, y).dual_coef_ for ridge in ridges], {}
    if name in FACTORED:
        return factored(k, targets, ridges, refine=name == "refined"), {}
    solve = GRAM_SOLVERS.load(name).solve
    solutions = solve(GramProblem(k, targets, memory=MEMORY), ridges, rtol=float(rtol or 1e-7), atol=0.0)
    return [solution.value for solution in solutions], {
        "residual": max(solution.residual for solution in solutions),
        "converged": sum(solution.converged for solution in solutions),
        "iterations": max(solution.iterations for solution in solutions),
        "refinements": max(solution.refinements for solution in solutions),
    }


def factored(k: np.ndarray, targets: np.ndarray, ridges: np.ndarray, *, refine: bool) -> list[np.ndarray]:
    """α of every ridge by a Cholesky factor in the place of one copy of K, the best that plain SciPy offers."""
    y, work = np.asfortranarray(targets, k.dtype), np.empty_like(k, order="F")
    found = []
    for ridge in ridges:
        work[...] = k.T  # K is symmetric, and this order is that of LAPACK
        work.flat[:: len(k) + 1] += k.dtype.type(ridge)
        factor = scipy.linalg.cho_factor(work, lower=True, overwrite_a=True, check_finite=False)
        alpha = scipy.linalg.cho_solve(factor, y, check_finite=False).astype(np.float64)
        if refine:
            parts = [k[start : start + ROWS].astype(np.float64) @ alpha for start in range(0, len(k), ROWS)]
            residual = targets - np.concatenate(parts) - ridge * alpha
            alpha += scipy.linalg.cho_solve(factor, np.asfortranarray(residual, k.dtype), check_finite=False)
        found.append(alpha)
    return found


def tell(rows: dict[str, dict]) -> None:
    """Put our solvers into the table of all benchmarks, against the fastest rival with at most 10 times their error."""
    for solver in (name for name in rows if name not in RIVALS):
        row, error = rows[solver], max(rows[solver]["errors"])
        fit = [rival for rival in RIVALS if rival in rows and max(rows[rival]["errors"]) <= 10 * error]
        if fit:
            rival = min(fit, key=lambda name: rows[name]["cpu"])
            work = f"KRR, n = {FLAGS.n:,}, {len(RIDGES)} ridges, {OUTPUTS} outputs, {FLAGS.dtype}, {solver}"
            scaled = f" at {FLAGS.rival_ridges} ridges, scaled," if FLAGS.rival_ridges else ""
            record(work, row["cpu"], rival + scaled, rows[rival]["cpu"], error=error)


def main(_):
    folder = Path(FLAGS.folder) / f"{FLAGS.n}-{FLAGS.dtype}"
    spawn = multiprocessing.get_context("spawn")

    def alone(function, *arguments):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(function, *arguments).result()

    alone(prepare, folder, FLAGS.n, FLAGS.dtype, FLAGS.threads)
    if FLAGS.source == "shards":
        alone(prepare_shards, folder, FLAGS.n, FLAGS.dtype)
    print(
        f"NTK of {FLAGS.n} smooth random images in {FLAGS.dtype} from {FLAGS.source}, {len(RIDGES)} ridges, "
        f"{OUTPUTS} outputs, {FLAGS.threads} thread(s)"
    )
    heads = ("seconds", "CPU s", "/gen", "/scipy", "/pos", "memory", "error", "residual", "steps")
    print(f"{'':14} {''.join(f'{head:>9}' for head in heads)}")
    rows: dict[str, dict] = {}
    for solver in FLAGS.solvers:
        row = alone(measured, solver, folder, FLAGS.threads, FLAGS.source, FLAGS.rival_ridges)
        rows[solver] = row
        ratios = [f"{rows[rival]['cpu'] / row['cpu']:.1f}" if rival in rows else "" for rival in ASSUMED]
        said = [
            f"{row['seconds']:.2f}",
            f"{row['cpu']:.2f}",
            *ratios,
            f"{row['memory']:.2f}",
            f"{max(row['errors']):.1e}",
        ]
        if "residual" in row:
            said += [f"{row['residual']:.1e}", str(row["iterations"])]
            said += [] if row["converged"] == len(RIDGES) else [f"{row['converged']} ridges solved"]
        print(f"{solver:14} {''.join(f'{one:>9}' for one in said)}", flush=True)
    tell(rows)
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps({"n": FLAGS.n, "dtype": FLAGS.dtype, "rows": rows}, indent=1))


if __name__ == "__main__":
    app.run(main)
