"""J v and Jᵀu of an MLP and a CNN, in forward passes of the same rows, with the gap of the adjoint, in one run.

    python benchmarks/jacobian_products_speed.py --rows=256
    KERAS_BACKEND=jax python benchmarks/jacobian_products_speed.py --rows=256

The MLP is 784-1024-1024-10, the CNN three convolutions of 32 channels on 28x28 images. A forward pass is the model's
compiled call in inference mode on the same blocks of rows. The rival of J v on TensorFlow is ForwardAccumulator; the
gap is |⟨u, J v⟩ - ⟨Jᵀu, v⟩| / (‖u‖‖J v‖). Calls take turns, and each time is the fastest of its calls after the first,
which compiles.
"""

import json
import os
from pathlib import Path

from absl import app, flags
from networks import models
from timing import fastest

FLAGS = flags.FLAGS
flags.DEFINE_integer("rows", 256, "n")
flags.DEFINE_integer("repeats", 20, "the fastest counts")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def compiled_forward(model):
    """The model's own call, compiled as the products are."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        state = model.trainable_variables, model.non_trainable_variables
        values = [[variable.value for variable in part] for part in state]
        call = jax.jit(lambda x: model.stateless_call(*values, x, training=False)[0])
        return lambda x: jax.block_until_ready(call(x))
    import tensorflow as tf

    call = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    return lambda x: call(x).numpy()


def accumulator(model):
    """J v by TensorFlow's forward mode."""
    import tensorflow as tf

    values = [variable.value for variable in model.trainable_variables]

    @tf.function(reduce_retracing=True)
    def product(x, direction):
        with tf.autodiff.ForwardAccumulator(values, direction) as forward:
            outputs = model(x, training=False)
        return forward.jvp(outputs)

    return lambda x, direction: product(x, direction).numpy()


def measured(model, x):
    """Return the seconds of each call and its answer."""
    import keras
    import numpy as np

    from linearized.tangents.products import ROWS, JacobianProducts

    products, random = JacobianProducts(model, model.trainable_variables), np.random.default_rng(1)
    v, u = random.standard_normal((products.params, 1)), random.standard_normal((len(x), 10, 1))
    forward, blocks = compiled_forward(model), [x[start : start + ROWS] for start in range(0, len(x), ROWS)]
    calls = {
        "forward": lambda: [forward(block) for block in blocks],
        "J v": lambda: products.forward(x, v),
        "Jᵀu": lambda: products.adjoint(x, u),
    }
    if keras.backend.backend() == "tensorflow":
        rival, parts = accumulator(model), [part.astype(np.float32) for part in products.parts(v[:, 0])]
        calls["J v, ForwardAccumulator"] = lambda: np.concatenate([rival(block, parts) for block in blocks])
    answers = {way: call() for way, call in calls.items()}
    seconds = dict.fromkeys(calls, np.inf)
    for _ in range(FLAGS.repeats):
        seconds = {way: min(seconds[way], fastest(call, 1)) for way, call in calls.items()}
    ours, back = answers["J v"], answers["Jᵀu"]
    gap = abs(np.sum(u * ours) - np.sum(v * back)) / (np.linalg.norm(u) * np.linalg.norm(ours))
    numbers = {"seconds": seconds, "adjoint gap": float(gap)}
    if (theirs := answers.get("J v, ForwardAccumulator")) is not None:
        numbers["difference of the two J v"] = float(np.abs(theirs - ours[..., 0]).max() / np.abs(ours).max())
    return numbers


def main(_):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    numbers = {"backend": keras.backend.backend(), "rows": FLAGS.rows}
    for name, (model, x) in models(FLAGS.rows).items():
        numbers[name] = found = measured(model, x)
        for way, time in found["seconds"].items():
            passes = time / found["seconds"]["forward"]
            print(f"{name} {way:24} {1e3 * time:9.2f} ms  {passes:6.2f} forward passes")
        for what, value in found.items():
            if what != "seconds":
                print(f"{name} {what} {value:.1e}")
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    app.run(main)
