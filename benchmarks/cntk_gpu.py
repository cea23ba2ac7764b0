"""The CUDA kernel of the CNTK: pairs of images a second, and what the published job takes, from one real shard.

    python benchmarks/cntk_gpu.py

The published job of one noise level is the upper triangle of 50,000 train images and 10,000 x 50,000 test pairs,
Myrtle-5 at 32x32x3. A shard's share of it is timed: `--rows` images against `--columns` others, images to and fro
included. A few entries are compared with the CPU's. Without a GPU a tiny case runs in Numba's simulator.
"""

import json
import os
import sys
import time
from pathlib import Path

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 5, "Myrtle-5, 7 or 10")
flags.DEFINE_integer("rows", 32, "images of the shard's rows")
flags.DEFINE_integer("columns", 1024, "images of its columns")
flags.DEFINE_integer("threads", 256, "threads a pair")
flags.DEFINE_string("out", "", "a JSON file for the numbers")

JOB = 50_000 * 50_001 // 2 + 10_000 * 50_000  # pairs


def main(_):
    from numba import cuda

    if not cuda.is_available() and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # read when Numba is imported, so in a new process
        os.execv(sys.executable, [sys.executable, *sys.argv])
    import numpy as np

    from kernel_gen.cntk.recursion_cuda import CudaEngine
    from kernel_gen.kernels import cntk
    from linearized.settings.gram_settings import KernelSettings

    simulated = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
    settings, size = KernelSettings(kernel="CNTK", depth=FLAGS.depth, device="cpu"), (32, 32, 3)
    rows, columns, threads = FLAGS.rows, FLAGS.columns, FLAGS.threads
    if simulated:
        print("No GPU here: two convolutions on 4x4 images, in the simulator.")
        settings, size, rows, columns, threads = (
            KernelSettings(kernel="CNTK", depth=2, head="gap", device="cpu"),
            (4, 4, 3),
            2,
            2,
            8,
        )
    kernel = cntk.build(settings, size)
    random = np.random.default_rng(0)
    smooth = np.cumsum(random.standard_normal((rows + columns, *size), dtype=np.float32), axis=1)
    prepared = kernel.prepare(smooth.reshape(rows + columns, -1))
    one, two = prepared[:rows], prepared[rows:]
    engine = CudaEngine(
        kernel.stages, size[2], ntk=True, q=kernel.q, beta=kernel.bias / kernel.q, dtype="float32", threads=threads
    )
    few = slice(0, 4)
    worst = np.abs(kernel.readout(engine.block(one[few], two[few], False)) / kernel.block(one[few], two[few]) - 1).max()
    start = time.perf_counter()
    engine.block(one, two, False)
    rate = rows * columns / (time.perf_counter() - start)
    numbers = {"simulated": simulated, "pairs a second": rate, "worst relative difference from the CPU": float(worst)}
    if not simulated:
        numbers |= {"GPU": str(cuda.get_current_device().name), "hours of 50,000 + 10,000 images": JOB / rate / 3600}
    for name, value in numbers.items():
        print(f"{name}: {value}")
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    app.run(main)
