"""Forward and backward of kervolutions beside Conv2D's in one run: 32x32 images of 64 channels, 3x3, batch 64.

    python benchmarks/kervolution_speed.py --out=kervolution.json

The bar: polynomial at most 1.3 times and Gaussian at most 2 times the convolution. Times are the median of rounds in
which every layer has one turn, of a call that gives the gradients of inputs and weights. KERAS_BACKEND=jax runs it on
JAX (which always compiles); on TensorFlow it runs with and without XLA.
"""

import json
import statistics
import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags
from figures import record

from linearized.layers.kervolution import KERNELS, Kervolution2D

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch", 64, "images")
flags.DEFINE_integer("side", 32, "their height and width")
flags.DEFINE_integer("channels", 64, "of images and outputs")
flags.DEFINE_integer("repeats", 7, "rounds; the median counts")
flags.DEFINE_list(
    "kernels", [kernel for kernel in KERNELS if kernel != "l1"], "which; l1 takes a minute a round on a CPU"
)
flags.DEFINE_string("precision", "float32", "or mixed_bfloat16")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def step_of(layer, x, slope, *, compiled: bool):
    """A call that gives sum(slope · layer(x)) and its gradients, and waits for them.

    The sum is asked for too: the gradients of a convolution need no forward pass, and a compiler would leave it out.
    """
    if keras.backend.backend() == "jax":
        return _jax_step(layer, x, slope)
    import tensorflow as tf

    @tf.function(jit_compile=compiled)
    def gradients(x, slope):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(layer(x) * slope)
        return value, *tape.gradient(value, [x, *(variable.value for variable in layer.trainable_variables)])

    return lambda: [result.numpy().ravel()[0] for result in gradients(x, slope)]


def _jax_step(layer, x, slope):
    import jax

    def value(weights, x, slope):
        return (layer.stateless_call(weights, [], x)[0] * slope).sum()

    gradients = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))
    weights = [variable.value for variable in layer.trainable_variables]
    return lambda: jax.block_until_ready(gradients(weights, x, slope))


def main(_):
    keras.config.set_dtype_policy(FLAGS.precision)
    random = np.random.default_rng(0)
    shape = (FLAGS.batch, FLAGS.side, FLAGS.side, FLAGS.channels)
    dtype = keras.config.dtype_policy().compute_dtype
    x, slope = (keras.ops.cast(random.standard_normal(shape).astype(np.float32), dtype) for _ in range(2))
    conv = keras.layers.Conv2D(FLAGS.channels, 3, padding="same")
    conv.build(shape)
    layers = {"conv": conv} | {kernel: Kervolution2D.from_conv(conv, kernel) for kernel in FLAGS.kernels}
    report = {"backend": keras.backend.backend(), "devices": keras.distribution.list_devices(), "shape": shape}
    for compiled in (True,) if report["backend"] == "jax" else (False, True):
        steps = {name: step_of(layer, x, slope, compiled=compiled) for name, layer in layers.items()}
        times = {name: [] for name in steps}
        for _ in range(FLAGS.repeats + 1):  # the first round compiles
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - start)
        seconds = {name: statistics.median(turns[1:]) for name, turns in times.items()}
        way = "XLA" if compiled else "no XLA"
        report[way] = seconds
        for name, taken in seconds.items():
            print(f"{way:7} {name:11} {1e3 * taken:9.1f} ms {taken / seconds['conv']:6.2f} times Conv2D", flush=True)
            if name != "conv":
                work = f"{name} kervolution, forward and backward, {report['backend']}, {way}"
                record(work, 1e3 * taken, "Conv2D", 1e3 * seconds["conv"], "ms")
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    app.run(main)
