"""Fully connected kernels against neural-tangents jitted; the finite RF Gram matrix against the machine's own sgemm.

    python benchmarks/ntk_speed.py --n=4096 --dim=784 --out=ntk_speed.json

Each pair runs in turns in this process, on the same inputs and cores; the best of `--repeats` counts, and the worst
relative error against neural-tangents in float64 on `--checked` rows is recorded with it. A busy machine blurs it all.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from figures import record

from kernel_gen import gram
from kernel_gen.kernels.rf import FiniteFeatures
from kernel_gen.stax.network import neural_tangents

FLAGS = flags.FLAGS
flags.DEFINE_integer("n", 4096, "rows on either side")
flags.DEFINE_integer("dim", 784, "columns")
flags.DEFINE_integer("repeats", 5, "timings of each, of which the best counts")
flags.DEFINE_integer("checked", 500, "rows of the accuracy check")
flags.DEFINE_integer("units", 200000, "features of the finite RF Gram matrix; 0 leaves it out")
flags.DEFINE_integer("rf_rows", 4096, "rows of the finite RF Gram matrix")
flags.DEFINE_string("out", "", "a JSON file for the numbers")


def main(_):
    random = np.random.default_rng(0)
    x, z = (random.standard_normal((FLAGS.n, FLAGS.dim), dtype=np.float32) for _ in range(2))
    results = []
    for name, num_layers, kind in (("NTK", 2, "ntk"), ("NTK", 3, "ntk"), ("NTK", 6, "ntk"), ("RF", 2, "nngp")):
        for dtype in ("float32", "float64"):
            results.append(against_neural_tangents(name, num_layers, kind, dtype, x, z))
            print(results[-1], flush=True)
            told = results[-1]
            record(f"{name} of {num_layers} dense layers ({kind}), {FLAGS.n:,} x {FLAGS.n:,}, {dtype}", told["ours"],
                     "neural-tangents", told["neural_tangents"], error=told["error"])  # fmt: skip
    if FLAGS.units:
        results.append(against_sgemm(random))
        print(results[-1], flush=True)
        work, told = f"Gram matrix of a finite RF, N = {FLAGS.units:,}, n = {FLAGS.rf_rows:,}", results[-1]
        record(work, told["gflops"], "sgemm", told["sgemm"], "GFLOP/s")
    if FLAGS.out:
        Path(FLAGS.out).write_text(json.dumps(results, indent=1))


def against_neural_tangents(name: str, num_layers: int, kind: str, dtype: str, x: np.ndarray, z: np.ndarray) -> dict:
    """Seconds of both for the whole matrix, and the worst relative error of ours."""
    stax = neural_tangents().stax
    layers = [stax.Dense(1), *[layer for _ in range(num_layers - 1) for layer in (stax.Relu(), stax.Dense(1))]]
    kernel_fn = stax.serial(*layers)[2]
    settings = {"dtype": dtype} | ({"dense_layers": num_layers, "kind": kind} if name == "NTK" else {})
    jitted = jax.jit(lambda x, z: kernel_fn(x, z, kind))

    def theirs() -> np.ndarray:
        with jax.enable_x64(dtype == "float64"):
            return np.asarray(jitted(x.astype(dtype), z.astype(dtype)))

    def ours() -> np.ndarray:
        return gram(name, x, z, **settings)

    seconds = fastest({"ours": ours, "neural_tangents": theirs})
    with jax.enable_x64(True):
        exact = np.asarray(kernel_fn(*(a[: FLAGS.checked].astype(np.float64) for a in (x, z)), kind))
    error = float(np.abs(gram(name, x[: FLAGS.checked], z[: FLAGS.checked], **settings) / exact - 1).max())
    ratio = seconds["neural_tangents"] / seconds["ours"]
    return {
        "kernel": name,
        "layers": num_layers,
        "kind": kind,
        "dtype": dtype,
        **seconds,
        "ratio": ratio,
        "error": error,
    }


def against_sgemm(random: np.random.Generator) -> dict:
    """The rate of a block of the finite Gram matrix, draws included, beside that of one large product."""
    one, two = (random.standard_normal((FLAGS.rf_rows, FLAGS.dim), dtype=np.float32) for _ in range(2))
    left, right = (random.standard_normal((4096, 4096), dtype=np.float32) for _ in range(2))
    sgemm = 2 * 4096**3 / fastest({"sgemm": lambda: left @ right})["sgemm"]
    kernel = FiniteFeatures(FLAGS.units)
    start = time.perf_counter()
    kernel.block(kernel.prepare(one), kernel.prepare(two))
    seconds = time.perf_counter() - start
    rate = 2 * FLAGS.rf_rows * FLAGS.units * (2 * FLAGS.dim + FLAGS.rf_rows) / seconds
    again = 2 * 4096**3 / fastest({"sgemm": lambda: left @ right})["sgemm"]
    best = max(sgemm, again)
    return {"kernel": "RF", "units": FLAGS.units, "seconds": seconds, "gflops": rate / 1e9, "sgemm": best / 1e9,
            "share": rate / best}  # fmt: skip


def fastest(calls: dict[str, Callable[[], np.ndarray]]) -> dict[str, float]:
    """The least seconds of each call, taken in turns after one warm-up."""
    seconds = dict.fromkeys(calls, np.inf)
    for call in calls.values():
        call()
    for _ in range(FLAGS.repeats):
        for name, call in calls.items():
            time.sleep(0.2)  # until the threads of the one before have gone to sleep
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    app.run(main)
