"""Embeddings against the exact kernels: seconds, bytes, accuracy, and errors against degree, dimension and n.

    python benchmarks/embedding_speed.py --out=embeddings.json --figure=embeddings.png
    python benchmarks/embedding_speed.py --parts=fit --num_train=0 --exact_train=60000      hours: the exact way in full

Parts, each of which can be asked for alone:

- fit: a two-layer gelu NTK of Fashion-MNIST, features and ridge path, random and by landmarks, beside the exact Gram
  matrix with its fastest solver on `--exact_train` rows; the exact way's time at `--num_train` is that times
  (n/n_exact)², which is too little.
- myrtle: Myrtle-5 features an image on one core, their error on photo patches, and the fused exact CNTK's time a pair.
- degree, dim, rows: error of the sketch against its degree, of all methods against m, and time against n.

Seconds are of the processor, all threads together, and of the clock. A busy machine blurs both: BLAS threads that wait
for each other count as busy.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from kernel_gen import gram
from linearized import data
from linearized.base.blocks import at_most
from linearized.experiments.grids import kernel_grid
from linearized.kernel_ridge.embedded_fit import fit_embedding
from linearized.kernel_ridge.ridge_path import fit
from linearized.settings.embedding_settings import FEATURES, EmbeddedRows
from linearized.storage.files import whole_file

FLAGS = flags.FLAGS
flags.DEFINE_list("parts", ["fit", "myrtle", "degree", "dim", "rows"], "which to run")
flags.DEFINE_string("dataset", "FMNIST", "for all parts but myrtle")
flags.DEFINE_integer("num_train", 60000, "rows that are embedded")
flags.DEFINE_integer("exact_train", 10000, "rows of the exact way")
flags.DEFINE_integer("embedding_dim", 4096, "m")
flags.DEFINE_integer("myrtle_dim", 4096, "m of Myrtle-5")
flags.DEFINE_integer("myrtle_images", 24, "of photo patches, whose kernel is compared")
flags.DEFINE_string("out", "", "a JSON file for the numbers")
flags.DEFINE_string("figure", "", "a picture of the parts degree, dim and rows")


def features(name: str, dataset, dim: int, **settings) -> Callable[[np.ndarray], np.ndarray]:
    """φ for the rows of a dataset, with its train rows as landmarks if it takes any."""
    made = EmbeddedRows(features=name, embedding_dim=dim, **settings)
    return FEATURES.load(name).build(made, dataset.image_shape, dataset.dim).on(dataset.train.x)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` gives, processor seconds, and the clock's."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def relative(phi: np.ndarray, exact: np.ndarray) -> float:
    """Relative Frobenius error of the products of features."""
    return float(np.linalg.norm(phi @ phi.T - exact) / np.linalg.norm(exact))


def accuracies(predicted: np.ndarray, dataset) -> list[float]:
    """On the test rows, at every ridge."""
    return [float((one.argmax(axis=1) == dataset.test.y).mean()) for one in predicted]


def fit_part() -> dict:
    """Both ways to a table of ridges; accuracy at the ridge that GCV chooses, and the best."""
    network, found = {"num_layers": 1, "activation": "gelu"}, {}
    ways = (
        ("embedded", FLAGS.num_train), ("embedded_small", FLAGS.exact_train), ("landmarks", FLAGS.exact_train),
        ("exact", FLAGS.exact_train),
    )  # fmt: skip
    for way, n in ways:
        dataset = data.load(FLAGS.dataset, num_train=n)
        y, ridges = (
            dataset.targets(dataset.train, centred=True),
            kernel_grid(dataset.family, stax_scale=True, own_scale=False),
        )
        rows = len(dataset.train)
        if way == "exact":
            gram("NTK", dataset.train.x[:64], **network)  # compiles
            k, made, made_wall = timed(lambda: gram("NTK", dataset.train.x, **network))  # noqa: B023
            path, solved, solved_wall = timed(lambda: fit(k, y, ridges))  # noqa: B023
            test, size = gram("NTK", dataset.test.x, dataset.train.x, **network), 4 * rows**2
        else:
            method = "landmarks" if way == "landmarks" else "random"
            phi = features("NTK", dataset, FLAGS.embedding_dim, method=method, **network)
            phi(dataset.train.x[:64])
            k, made, made_wall = timed(lambda: phi(dataset.train.x))  # noqa: B023
            path, solved, solved_wall = timed(lambda: fit_embedding(k, y, ridges))  # noqa: B023
            test, size = phi(dataset.test.x), k.nbytes
        told = accuracies(path.predict(test), dataset)
        gcv = int(np.argmin([np.inf if one.gcv is None else one.gcv for one in path.solutions]))
        found[way] = {
            "n": rows, "kernel_cpu": made, "solve_cpu": solved, "cpu": made + solved, "wall": made_wall + solved_wall,
            "bytes": size, "solver": path.solver, "accuracy_gcv": told[gcv], "accuracy_best": max(told),
        }  # fmt: skip
        print(way, json.dumps(found[way]), flush=True)
    whole, small, exact = found["embedded"], found["embedded_small"], found["exact"]
    scale = whole["n"] / exact["n"]
    found["told"] = {
        "time_of_exact_at_least": exact["cpu"] * scale**2, "share_of_time": whole["cpu"] / (exact["cpu"] * scale**2),
        "share_of_bytes": whole["bytes"] / (4 * whole["n"] ** 2),
        "points_lost_at_exact_n": 100 * (exact["accuracy_gcv"] - small["accuracy_gcv"]),
        "points_lost_by_landmarks": 100 * (exact["accuracy_gcv"] - found["landmarks"]["accuracy_gcv"]),
    }  # fmt: skip
    print(json.dumps(found["told"]), flush=True)
    return found


def myrtle_part() -> dict:
    """On one core."""
    dataset = data.load("PATCHES")
    x = dataset.train.x[: FLAGS.myrtle_images]
    with at_most(1):
        gram("CNTK", x[:2], image_shape=dataset.image_shape)
        exact, seconds, _ = timed(lambda: gram("CNTK", x, image_shape=dataset.image_shape))
        pair = seconds / (len(x) * (len(x) + 1) / 2)
        errors, phi = [], None
        for seed in range(3):
            phi = features("CNTK", dataset, FLAGS.myrtle_dim, embedding_seed=seed)
            found = phi(x)
            errors.append(relative(found, exact))
        _, seconds, _ = timed(lambda: phi(x))
    image = seconds / len(x)
    return {"pair_ms": 1e3 * pair, "image_ms": 1e3 * image, "exact_image_ms_at_10000": 1e3 * pair * 5000,
            "times_faster": pair * 5000 / image, "errors": errors, "dim": FLAGS.myrtle_dim}  # fmt: skip


def curves(part: str) -> list[dict]:
    """Of the parts degree and dim: errors on 200 rows; of rows: seconds."""
    dataset = data.load(FLAGS.dataset, num_train=4000)
    x, network, found = dataset.test.x[:200], {"num_layers": 1, "activation": "gelu"}, []
    exact = gram("NTK", x, dtype="float64", **network)
    if part == "degree":
        for terms in (0, 1, 2, 4, 6, 8, 12, 16):
            phi = features("NTK", dataset, 16384, method="sketch", terms=terms, **network)(x)
            found.append({"degree": terms, "error": relative(phi, exact)})
    elif part == "dim":
        for dim in (256, 1024, 4096, 16384):
            for method in ("random", "sketch", "landmarks"):
                phi = features("NTK", dataset, dim, method=method, **network)(x)
                found.append({"dim": dim, "method": method, "error": relative(phi, exact)})
    else:
        phi = features("NTK", dataset, FLAGS.embedding_dim, **network)
        for n in (500, 1000, 2000, 4000):
            rows = dataset.train.x[:n]
            for way, work in (("embedded", lambda: phi(rows)), ("exact", lambda: gram("NTK", rows, **network))):  # noqa: B023
                work()
                found.append({"n": n, "way": way, "cpu": timed(work)[1]})
    return found


def main(_):
    record = {}
    for part in FLAGS.parts:
        record[part] = {"fit": fit_part, "myrtle": myrtle_part}.get(part, lambda: curves(part))()  # noqa: B023
        if part != "fit":
            print(part, json.dumps(record[part], indent=1), flush=True)
    if FLAGS.out:
        with whole_file(FLAGS.out) as path:
            Path(path).write_text(json.dumps(record, indent=1), encoding="utf-8")
    if FLAGS.figure:
        from linearized.report.embedding_plots import embedding_curves
        from linearized.report.style import save_figure

        save_figure(embedding_curves(record), FLAGS.figure)


if __name__ == "__main__":
    app.run(main)
