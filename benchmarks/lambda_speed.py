"""Trained examples a second, and memory, of the lambda ResNet-50 beside the plain one on images of CIFAR-10's size.

    python benchmarks/lambda_speed.py --out=lambda.json
    python benchmarks/lambda_speed.py --side=64 --stem=small --variants=plain,corrected

The reproduction measured 1.31 times the plain network's examples on a GPU. Each network trains in a process of its own,
so that its peak of resident memory is its own; on a GPU the device's peak is told as well.
"""

import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch", 128, "images a step")
flags.DEFINE_integer("side", 32, "height and width of the images")
flags.DEFINE_integer("depth", 50, "18, 50 or 101")
flags.DEFINE_string("stem", "pooled", "pooled or small")
flags.DEFINE_integer("steps", 8, "timed steps; the median counts")
flags.DEFINE_list(
    "variants", ["plain", "published", "corrected"], "plain, published, corrected, or stages such as CCLL"
)
flags.DEFINE_bool("mixed_precision", False, "compute in bfloat16")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def measure(variant: str, batch: int, side: int, depth: int, stem: str, steps: int, mixed: bool) -> dict:
    """Seconds a training step, parameters and memory of one network."""
    import keras
    import numpy as np

    from linearized.data.dataset import Dataset, Split
    from linearized.experiments.train_settings import TrainSettings
    from linearized.models.common import build
    from linearized.storage.results import peak_memory_gib

    own = {"plain": {}, "published": {"lambda_variant": "published"}, "corrected": {}}
    settings = own.get(variant, {"lambda_stages": variant})
    name = "RESNET" if variant == "plain" else "LAMBDA_RESNET"
    config = TrainSettings(model=name, resnet_depth=depth, resnet_stem=stem, mixed_precision=mixed, **settings)
    random = np.random.default_rng(0)
    x = random.standard_normal((batch, side * side * 3)).astype(np.float32)
    y = random.integers(0, 10, (batch, 1)).astype(np.float32)
    split = Split(x, y)
    dataset = Dataset("RANDOM", 0, split, None, split, "classes", 10, (side, side, 3), "CIFAR10", "0" * 16)
    model = build(config, dataset, 0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    gpu = bool(keras.distribution.list_devices("gpu"))
    model.compile(keras.optimizers.Adam(5e-4), loss, jit_compile=gpu or keras.backend.backend() == "jax")
    times = []
    for _ in range(steps + 2):  # the first two compile and warm up
        start = time.perf_counter()
        model.train_on_batch(x, y)
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[2:])
    told = {"seconds": seconds, "examples_per_second": batch / seconds, "peak_memory_gib": peak_memory_gib()}
    told["parameters"] = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    if gpu and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        told["device_peak_gib"] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30
    return told


def main(_):
    report = {}
    for variant in FLAGS.variants:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            settings = (FLAGS.batch, FLAGS.side, FLAGS.depth, FLAGS.stem, FLAGS.steps, FLAGS.mixed_precision)
            report[variant] = alone.submit(measure, variant, *settings).result()
        told, first = report[variant], report[FLAGS.variants[0]]
        ratio = told["examples_per_second"] / first["examples_per_second"]
        print(
            f"{variant:10} {told['parameters']:>11,} parameters {told['examples_per_second']:8.1f} examples/s "
            f"{ratio:5.2f} times {FLAGS.variants[0]}, {told['peak_memory_gib']:.2f} GiB",
            flush=True,
        )
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    app.run(main)
