"""Kernel ridge regression by block Lanczos on shards larger than the memory it may take.

    python benchmarks/kernel_ridge_streamed.py --n=50000 --memory=3 --folder=/scratch

Makes the two-layer NTK of n images in a folder of its own, in another process, so that the peak memory told is that of
solving. First, at --small rows: K @ V from shards and in memory against NumPy's, and all ridges from shards against
scipy.linalg.solve, once per ridge, in one run. Then all ridges at n rows: time, passes, the share of reading, peak
memory and residuals. Where Fashion-MNIST is not found smooth random images stand in.
"""

import concurrent.futures
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.linalg
from absl import app, flags
from timing import fastest

from kernel_gen.jobs.tiles import divide, good_number
from kernel_gen.kernels.ntk import FullyConnected
from linearized import data
from linearized.base.blocks import at_most, cores
from linearized.base.errors import UserError
from linearized.problems import GramProblem
from linearized.solvers.linear import block_lanczos
from linearized.storage.gram import Gram, open_gram
from linearized.storage.manifest import Manifest, save_once
from linearized.storage.shards import write_shard

FLAGS = flags.FLAGS
flags.DEFINE_integer("n", 20_000, "train rows")
flags.DEFINE_integer("small", 4_000, "train rows of the comparison; 0 makes none")
flags.DEFINE_integer("ridges", 20, "from 1e-1 to 1e5")
flags.DEFINE_float("rtol", 1e-4, "residual to reach")
flags.DEFINE_float("memory", 1.0, "GiB for the solver")
flags.DEFINE_integer("cores", 0, "cores; 0 takes all")
flags.DEFINE_string("dtype", "float32", "of K")
flags.DEFINE_string("folder", "", "where the temporary shards lie; the system's if empty")


def images(n: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Inputs, labels of ten classes less 0.1, and what they are."""
    try:
        dataset = data.load("FMNIST", 0, num_train=n, num_test=1)
        return dataset.train.x, dataset.targets(dataset.train).astype(np.float64) - 0.1, "Fashion-MNIST"
    except UserError:
        random = np.random.default_rng(0)
        i, j = np.mgrid[:28, :28]
        waves = random.standard_normal((n, 28, 28), np.float32) / (1 + i**2 + j**2).astype(np.float32) ** 0.75
        x = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho").reshape(n, 784)
        x *= 28 / np.linalg.norm(x, axis=1, keepdims=True)
        scores = np.sin(x @ random.standard_normal((784, 10)).astype(np.float32) / 10)
        return x, np.eye(10)[scores.argmax(axis=1)] - 0.1, "smooth random images"


def make(folder: Path, n: int, dtype: str) -> tuple[np.ndarray, str]:
    """Writes the shards of the NTK of n images. Returns the labels, and what the images are."""
    x, y, source = images(n)
    kernel = FullyConnected(2, dtype=dtype, scale="input")
    rows = {"train": n}
    shards = divide(rows, good_number(rows, kernel.tile, np.dtype(dtype).itemsize), kernel.tile)
    manifest = Manifest({}, "benchmark", dtype, "input", rows, kernel.tile, shards, f"python {Path(__file__).name}")
    save_once(folder, manifest)

    def entries(band) -> np.ndarray:
        here = kernel.prepare(x[band.start : band.stop])
        block = kernel.block(here, kernel.prepare(x[band.left :]))
        block[:, : len(block)] = kernel.block(here, here, same=True)
        return block

    for shard in range(len(shards)):
        write_shard(folder, manifest, shard, entries)
    return y, source


def opened(folder: Path, n: int) -> tuple[Gram, np.ndarray, str]:
    """Shards of n rows, made in another process."""
    folder.mkdir()
    began = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        y, source = pool.submit(make, folder, n, FLAGS.dtype).result()
    gram = open_gram(folder)
    size = sum(path.stat().st_size for path in folder.glob("*.h5"))
    print(f"{source}, n={n}, {FLAGS.dtype}: {size / 1e9:.2f} GB of shards made in {time.perf_counter() - began:.0f} s")
    return gram, y, source


def products(gram: Gram, y: np.ndarray) -> None:
    """K @ V, ten columns, three ways."""
    matrix, v = gram.to_memory(), np.random.default_rng(0).standard_normal((len(y), 10))
    held, streamed = GramProblem(matrix, y), GramProblem(gram, y, memory=0)
    exact = matrix.astype(np.float64) @ v
    for name, product in (
        ("NumPy, in memory", lambda: matrix @ v.astype(matrix.dtype)),
        ("ours, in memory", lambda: held.primal_product(v)),
        ("ours, streamed", lambda: streamed.primal_product(v)),
    ):
        error = np.linalg.norm(product() - exact) / np.linalg.norm(exact)
        print(f"  K @ V, 10 columns: {name:17} {fastest(product):7.4f} s, relative error {error:.0e}")


def against_scipy(gram: Gram, y: np.ndarray, ridges: np.ndarray) -> None:
    """All ridges from shards, and by scipy.linalg.solve once per ridge in K's dtype; errors of Kα against float64."""
    began = time.perf_counter()
    solutions = block_lanczos.solve(GramProblem(gram, y, memory=0), ridges, rtol=FLAGS.rtol, atol=0.0)
    ours, theirs, errors = time.perf_counter() - began, 0.0, []
    matrix = gram.to_memory()
    for solution in solutions:
        began = time.perf_counter()
        shifted = matrix.copy()
        shifted.flat[:: len(matrix) + 1] += solution.ridge
        alpha = scipy.linalg.solve(shifted, y.astype(matrix.dtype), assume_a="pos", overwrite_a=True)
        theirs += time.perf_counter() - began
        exact = matrix.astype(np.float64)
        exact.flat[:: len(matrix) + 1] += solution.ridge
        expected = y - solution.ridge * scipy.linalg.solve(exact, y, assume_a="pos", overwrite_a=True)
        scale = np.linalg.norm(expected)
        errors.append(
            [
                np.linalg.norm(solution.predictions - expected) / scale,
                np.linalg.norm(y - solution.ridge * alpha - expected) / scale,
            ]
        )
    worst = np.max(errors, axis=0)
    print(f"  {len(ridges)} ridges: block Lanczos from shards {ours:.2f} s, error {worst[0]:.0e}")
    print(f"  {len(ridges)} ridges: scipy.linalg.solve        {theirs:.2f} s, error {worst[1]:.0e}")
    print(f"  {theirs / ours:.1f} times faster")


def stream(gram: Gram, y: np.ndarray, ridges: np.ndarray) -> None:
    """All ridges at n rows, from shards."""
    problem = GramProblem(gram, y, memory=int(FLAGS.memory * 2**30))
    before, began = peak(), time.perf_counter()
    solutions = block_lanczos.solve(problem, ridges, rtol=FLAGS.rtol, atol=0.0)
    seconds = time.perf_counter() - began
    print(
        f"  {len(ridges)} ridges, {'streamed' if problem.streamed else 'held in memory'}, {cores()} core(s): "
        f"{seconds:.1f} s, {problem.passes} passes, blocks of {problem.block} columns\n"
        f"  products {problem.seconds_multiplying:.1f} s; reading {problem.seconds_reading:.1f} s side by side with "
        f"them, of which {problem.seconds_waiting:.1f} s were waited for: "
        f"{problem.seconds_waiting / seconds:.0%} of the time\n"
        f"  peak memory {peak():.2f} GiB ({before:.2f} before)\n"
        f"  worst residual {max(solution.residual for solution in solutions):.1e}, "
        f"{sum(solution.converged for solution in solutions)} of {len(ridges)} converged"
    )


def peak() -> float:
    """GiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(_):
    ridges = np.logspace(-1, 5, FLAGS.ridges)
    with tempfile.TemporaryDirectory(dir=FLAGS.folder or None) as name, at_most(FLAGS.cores or cores()):
        gram, y, _ = opened(Path(name) / "large", FLAGS.n)
        stream(gram, y, ridges)  # first, since the peak is that of the process
        if FLAGS.small:
            gram, y, _ = opened(Path(name) / "small", FLAGS.small)
            products(gram, y)
            against_scipy(gram, y, ridges)


if __name__ == "__main__":
    app.run(main)
