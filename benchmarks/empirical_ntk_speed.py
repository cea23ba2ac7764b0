"""Empirical NTKs of an MLP and a CNN: ours, neural-tangents' best, and contracted Jacobians, with errors, in one run.

    KERAS_BACKEND=jax python benchmarks/empirical_ntk_speed.py --rows=64
    python benchmarks/empirical_ntk_speed.py --rows=256 --rivals=false

The MLP is 784-1024-1024-10, the CNN three convolutions of 32 channels on 28x28 images. Rivals on JAX are
neural_tangents.empirical_ntk_fn by structured derivatives and by Jacobian contraction, on networks with the same
weights; on TensorFlow, tape.jacobian of all outputs. Differences are from our kernel, relative to its largest entry.
Each time is the fastest of some calls after the first, which compiles; a call of more than 3 s is made once. The last
column is the time over that of the kernel's multiplications at the rate of NumPy's sgemm on matrices of 1,024 rows.
"""

import json
import os
from pathlib import Path

from absl import app, flags
from figures import record
from networks import models
from timing import fastest

FLAGS = flags.FLAGS
flags.DEFINE_integer("rows", 64, "n")
flags.DEFINE_integer("repeats", 3, "the fastest of this many counts, at least 2", lower_bound=2)
flags.DEFINE_bool("rivals", True, "run the rivals too")
flags.DEFINE_list("networks", ["MLP", "CNN"], "MLP and CNN")
flags.DEFINE_list("outputs", ["trace", "full"], "trace and full")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def jax_rivals(model, x, full):
    """neural-tangents' structured derivatives and Jacobian contraction of the Keras model's own function."""
    import jax

    from kernel_gen.stax.network import neural_tangents

    nt = neural_tangents()

    def apply(values, rows):
        outputs, _ = model.stateless_call(values, model.non_trainable_variables, rows, training=False)
        return outputs

    values = [variable.value for variable in model.trainable_variables]
    axes = {"trace_axes": () if full else (-1,)}
    found = {}
    for name in ("STRUCTURED_DERIVATIVES", "JACOBIAN_CONTRACTION"):
        way = getattr(nt.NtkImplementation, name)
        kernel = jax.jit(nt.empirical_ntk_fn(apply, vmap_axes=0, implementation=way, **axes))
        found[name.lower()] = lambda kernel=kernel: jax.block_until_ready(kernel(x, None, values)) * (1 if full else 10)
    return found


def tensorflow_rivals(model, x, full):
    """The Jacobian of all outputs by one tape, contracted."""
    import tensorflow as tf

    @tf.function(jit_compile=False)
    def kernel(rows):
        with tf.GradientTape() as tape:
            outputs = model(rows, training=False)
        total = 0
        for one in tape.jacobian(outputs, model.trainable_variables):
            flat = tf.reshape(one, (len(x), 10, -1))
            total += tf.einsum("nkp,mlp->nmkl" if full else "nkp,mkp->nm", flat, flat)
        return total

    return {"tape.jacobian": lambda: kernel(tf.constant(x)).numpy()}


def multiplications(name, n, full):
    """Those of the factors: one forward and ten backward passes, row gradients of convolutions, pairs of rows."""
    k = 10
    pairs = n * n / 2 * (k * k if full else k)
    if name == "MLP":
        layers = [(784, 1024), (1024, 1024), (1024, k)]
        backward = k * sum(a * b for a, b in layers[1:])
        return n * (sum(a * b for a, b in layers) + backward) + sum(n * n / 2 * a + pairs * b for a, b in layers)
    positions, first, later = 28 * 28, 9 * 32, 9 * 32 * 32
    dense = positions * 32 * k
    forward = positions * (first + 2 * later) + dense
    rows = n * (forward + k * positions * 2 * later + dense + k * positions * (first + 2 * later))
    return rows + pairs * (first + 2 * later + k) + n * n / 2 * positions * 32


def sgemm_rate():
    """Multiplications a second."""
    import numpy as np

    one = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    two = one + 1
    return 1024**3 / fastest(lambda: one @ two, 7)


def main(_):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import numpy as np

    from linearized.tangents.tangent_kernel import TangentKernel

    rate = sgemm_rate()
    numbers = {"backend": keras.backend.backend(), "rows": FLAGS.rows, "sgemm_gflops": 2e-9 * rate}
    print(f"sgemm {2e-9 * rate:.0f} GFLOP/s")
    for name, (model, x) in models(FLAGS.rows).items():
        if name not in FLAGS.networks:
            continue
        for outputs in FLAGS.outputs:
            kernel = TangentKernel(model, x, outputs=outputs)

            def ours(kernel=kernel, x=x):
                prepared = kernel.prepare(x)
                return kernel.block(prepared, prepared)

            rivals = {}
            if FLAGS.rivals:
                made = jax_rivals if keras.backend.backend() == "jax" else tensorflow_rivals
                rivals = made(model, x, outputs == "full")
            answers = {way: np.asarray(call()) for way, call in {"ours": ours, **rivals}.items()}
            seconds = {}
            for way, call in {"ours": ours, **rivals}.items():
                seconds[way] = fastest(call, 1)
                if seconds[way] < 3:
                    seconds[way] = min(seconds[way], fastest(call, FLAGS.repeats - 1))
            counted = multiplications(name, len(x), outputs == "full") / rate
            for way, answer in answers.items():
                gap = float(np.abs(answer - answers["ours"]).max() / np.abs(answers["ours"]).max())
                ratio = seconds[way] / seconds["ours"]
                over = seconds[way] / counted
                numbers[f"{name} {outputs} {way}"] = {
                    "seconds": seconds[way], "ratio": ratio, "difference": gap, "over_arithmetic": over,
                }  # fmt: skip
                print(f"{name} {outputs:5} {way:24} {seconds[way]:8.3f} s {ratio:7.2f} x ours  difference {gap:.1e}  "
                      f"{over:.2f} x arithmetic", flush=True)  # fmt: skip
            if rivals:
                best = min(rivals, key=seconds.get)
                record(f"empirical NTK of {len(x)} rows, {name}, {outputs}", seconds["ours"], best, seconds[best],
                         error=numbers[f"{name} {outputs} {best}"]["difference"])  # fmt: skip
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    app.run(main)
