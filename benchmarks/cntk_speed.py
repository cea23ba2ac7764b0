"""Pairs of images a second of the fused CNTK and of neural-tangents (its best batch size), with the error, in one run.

    python benchmarks/cntk_speed.py --threads=1
    python benchmarks/cntk_speed.py --threads=2 --rival=false

Both compute photo patches at 32x32x3; neural-tangents in float32 for the time, in float64 for the error.
The bar: 3 ms a pair on one core, 1.5 ms as the aim; 150 times neural-tangents' rate; preparation below 2 % of the pair
time of a shard of 200 rows; an error below 1e-5.
"""

import json
import os
import time
from pathlib import Path

from absl import app, flags
from figures import record
from timing import fastest

FLAGS = flags.FLAGS
flags.DEFINE_integer("threads", 1, "cores that both may use")
flags.DEFINE_integer("depth", 5, "Myrtle-5, 7 or 10")
flags.DEFINE_integer("images", 32, "side of our tile")
flags.DEFINE_integer("repeats", 3, "the fastest counts")
flags.DEFINE_bool("rival", True, "run neural-tangents too")
flags.DEFINE_list("batches", ["1", "2", "4", "8"], "batch sizes of neural-tangents; 8 takes some 1.5 GiB")
flags.DEFINE_integer("rival_images", 8, "side of the tile of neural-tangents; the batch sizes divide it")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def exact(x):
    """neural-tangents' Gram matrix in float64, pair by pair."""
    import numpy as np

    from kernel_gen.cntk.architecture import AvgPool, Conv, Relu, myrtle
    from kernel_gen.stax.network import from_stax

    said = {Conv: "Conv(1, (3, 3), padding='SAME')", Relu: "Relu()", AvgPool: "AvgPool((2, 2), strides=(2, 2))"}
    layers = [said[type(step)] for step in myrtle(FLAGS.depth).steps[:-1]]
    kernel = from_stax(
        f"serial({', '.join(layers)}, Flatten(), Dense(1))", dtype="float64", image_shape=(32, 32, 3)
    )  # fmt: skip
    rows = kernel.prepare(x)
    return np.block([[kernel.block(one[None], two[None]) for two in rows] for one in rows])


def rival(x, numbers: dict) -> None:
    """Times neural-tangents at each batch size."""
    import jax

    from kernel_gen.cntk.architecture import AvgPool, Conv, Relu, myrtle
    from kernel_gen.stax import compat

    compat.install()  # and not kernel_gen.stax.network, which gives it faster convolutions
    import neural_tangents as nt

    layers = {Conv: lambda _: nt.stax.Conv(1, (3, 3), padding="SAME"), Relu: lambda _: nt.stax.Relu()}
    layers[AvgPool] = lambda step: nt.stax.AvgPool((step.side,) * 2, strides=(step.side,) * 2)
    steps = [layers[type(step)](step) for step in myrtle(FLAGS.depth).steps[:-1]]
    kernel = nt.stax.serial(*steps, nt.stax.Flatten(), nt.stax.Dense(1))[2]
    program = jax.jit(lambda one, two: kernel(one, two, "ntk"))
    side = FLAGS.rival_images
    images = jax.numpy.asarray(x[:side].reshape(side, 32, 32, 3))
    numbers["neural-tangents, ms a pair"] = {}
    for batch in map(int, FLAGS.batches):
        one, two = images[:batch], images[side - batch :]
        program(one, two).block_until_ready()
        seconds = fastest(lambda one=one, two=two: program(one, two).block_until_ready(), FLAGS.repeats)
        numbers["neural-tangents, ms a pair"][batch] = 1e3 * seconds / batch**2
        print(f"neural-tangents, batch {batch}: {1e3 * seconds / batch**2:.1f} ms a pair", flush=True)


def main(_):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: FLAGS.threads])
    import numpy as np

    from kernel_gen.kernels import cntk
    from linearized import data
    from linearized.settings.gram_settings import KernelSettings

    x = data.load("PATCHES").train.x[: max(FLAGS.images, FLAGS.rival_images)]
    kernel = cntk.build(KernelSettings(kernel="CNTK", depth=FLAGS.depth), (32, 32, 3))
    start = time.perf_counter()
    one = kernel.prepare(x[:2])
    kernel.block(one, one, same=True)
    numbers = {"threads": FLAGS.threads, "depth": FLAGS.depth, "compiling, s": time.perf_counter() - start}
    prepared = kernel.prepare(x)
    each = fastest(lambda: kernel.prepare(x), FLAGS.repeats) / len(x)
    tile = prepared[: FLAGS.images]
    pairs = FLAGS.images * (FLAGS.images + 1) / 2
    pair = fastest(lambda: kernel.block(tile, tile, same=True), FLAGS.repeats) / pairs
    numbers["ms a pair"], numbers["preparation, ms an image"] = 1e3 * pair, 1e3 * each
    numbers["preparation over pairs, 200 rows of half a matrix"] = each / (100 * pair)
    for name, value in numbers.items():
        print(f"{name}: {value:.4g}", flush=True)
    if FLAGS.rival:
        rival(x, numbers)
        mine = kernel.block(prepared[:2], prepared[:2], same=True)
        numbers["worst relative error"] = float(np.abs(mine / exact(x[:2]) - 1).max())
        numbers["times neural-tangents"] = min(numbers["neural-tangents, ms a pair"].values()) / (1e3 * pair)
        for name in ("worst relative error", "times neural-tangents"):
            print(f"{name}: {numbers[name]:.3g}")
        theirs, error = min(numbers["neural-tangents, ms a pair"].values()), numbers["worst relative error"]
        record(f"CNTK Myrtle-{FLAGS.depth}, a pair of images", 1e3 * pair, "neural-tangents", theirs, "ms", error)
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    app.run(main)
