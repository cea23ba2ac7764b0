"""Flip single bits of every kind of file that the suite reads back, and count what its readers notice.

    python tests/faults/bit_flips.py --flips=2000 --seed=0

After each flip the file's reader runs. It must notice: refuse the file by name, or log that it is computed again and
give the right value. Counted are wrong values, silent reads (the reader says nothing), other exceptions, and files that
are left over. Readers run in forked children, so that a crash within a library is counted and ends nothing.
"""

import argparse
import logging
import os
import pickle
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from absl import logging as absl_logging

from kernel_gen.jobs import feature_job, gram_job
from kernel_gen.jobs.job import open_job
from kernel_gen.jobs.partial import PartialShard
from kernel_gen.jobs.runner import computed, run
from linearized.base.directories import KEYS
from linearized.base.errors import UserError
from linearized.base.reading import read_json
from linearized.base.seals import write_json
from linearized.data import DATASETS
from linearized.data import load as load_data
from linearized.data.own import memory
from linearized.data.sources import synth
from linearized.data.sources.anisotropic import SynthRecipe
from linearized.data.sources.patches import PatchFiles, make
from linearized.experiments import theory
from linearized.experiments.fit_results import RidgeFit
from linearized.solvers.checkpoint import Checkpoint
from linearized.storage import results
from linearized.storage.embeddings import open_embedding
from linearized.storage.files import whole_file
from linearized.storage.gram import open_gram

BATCH = 25  # flips in one child
OUTCOMES = ("noticed", "replaced", "silent", "wrong", "error", "leftover", "crash")


class Kind(NamedTuple):
    """A file and what reads it.

    Attributes:
        read: Returns None for a file that it does not use.
        replaces: The reader writes a part of the file without reading it, so that a flip there means nothing.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    replaces: bool = False


class _Heard(logging.Handler):
    """Counts warnings."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def kinds(root: Path, *, with_keras: bool = True) -> list[Kind]:
    """Write a file of every kind below `root` and return them with their readers.

    Args:
        with_keras: Include finished ridges and saved models, whose readers import Keras.
    """
    (root / "directories.txt").write_text("".join(f"{key} storage/{key}\n" for key in KEYS))
    os.environ["DIRECTORIES"] = str(root / "directories.txt")
    values = np.random.default_rng(0).normal(size=(20, 3))
    plain = [*_run_files(root / "run", values), *_theory(root / "theory", values), *_shards(), *_data(root / "data"),
             *_own_data(values)]  # fmt: skip
    return [*plain, *_keras_files(root / "model", values)] if with_keras else plain


def _run_files(run: Path, values: np.ndarray) -> list[Kind]:
    entry = {"index": 0, "ridge": 0.1, "converged": True, "diverged": False, "iterations": 3, "test_loss": 0.25}
    record = {
        "title": "a run", "settings": {"model": "NN", "dataset": "DIGITS", "noise_ind": 0}, "ridges": [entry],
        "data": {"name": "DIGITS", "fingerprint": "f00d", "dim": 64, "n_train": 20}, "model": {"hidden_layers": 1},
        "solver": {"name": "sgd", "step": "epoch", "history": "loss"}, "seconds": 1.5,
        "chosen": {"position": 0, "index": 0, "by": "test accuracy"},
    }  # fmt: skip
    results.save(run, record, {"predictions/test": values, "history/000": values[:, 0]})
    state = Checkpoint(run / "unfinished", key="k")
    state.save("training", {"x": values, "state": np.array("{}")})
    with whole_file(run / "comparison.json") as path:
        write_json(path, {"title": "models", "rows": [{"label": "NN", "test_accuracy": 0.5}]})
    return [
        Kind("result.json", run / "result.json", lambda: results.load(run)),
        Kind("arrays.h5", run / "arrays.h5", lambda: results.load_arrays(run)),
        Kind("checkpoint.npz", run / "unfinished" / "training.npz", lambda: state.load("training")),
        Kind("comparison.json", run / "comparison.json", lambda: read_json(run / "comparison.json")),
    ]


def _theory(run: Path, values: np.ndarray) -> list[Kind]:
    theory._save(run, {"title": "a curve", "curves": [{"n": 20, "risk": 0.25}]}, {"eigenvalues": values[:, 0] ** 2})
    return [
        Kind("theory.json", run / theory.NAME, lambda: theory.load(run)),
        Kind("theory.h5", run / theory.ARRAYS, lambda: theory.load_arrays(run)),
    ]


def _own_data(values: np.ndarray) -> list[Kind]:
    """Copies of arrays and of a data frame from Python that are kept for other processes."""
    frame = pd.DataFrame({"width": values[:, 0], "kind": ["a", None, "b", "c"] * 5, "count": np.arange(20)})
    made = []
    for name, x in (("kept arrays", values), ("kept data frame", frame)):
        text = memory.register(x, np.arange(20) % 3, class_names=("one", "two", "three"))
        memory.keep(text)
        del memory._registered[text]  # as in another process
        made.append(Kind(name, memory._path(text), lambda text=text: memory.contents(memory._found(text))))
    return made


def _fields(done: RidgeFit | None) -> dict[str, Any] | None:
    return None if done is None else vars(done)


def _shards() -> list[Kind]:
    small = {"dataset": "DIGITS", "num_train": 60, "num_test": 20}
    gram = gram_job.GramJobSettings(kernel="POLYNOMIAL", num_shards=2, **small)
    begun = gram_job.GramJobSettings(kernel="POLYNOMIAL", degree=3, num_shards=1, **small)
    embedded = feature_job.EmbedSettings(features="RF", embedding_dim=32, num_shards=1, **small)
    run(gram)
    run(embedded)
    job = open_job(begun)
    with PartialShard(job.path(0), job.manifest, 0, job.tiles(0)) as part:
        for tile, block in computed(job, part.todo[:-1], 1):
            part.write(tile, block)

    def matrix(config: gram_job.GramJobSettings) -> list[np.ndarray]:
        opened = open_gram(config.path(), check=True)
        return [opened.to_memory(), opened.test.to_memory()]

    def resumed() -> list[np.ndarray]:
        run(begun)
        return matrix(begun)

    def features() -> list[np.ndarray]:
        return [rows[:] for rows in open_embedding(embedded.path()).splits.values()]

    return [
        Kind("gram.json", gram.path() / "gram.json", lambda: matrix(gram)),
        Kind("Gram shard", gram.path() / "shard_0001.h5", lambda: matrix(gram)),
        Kind("shard in the making", begun.path() / "shard_0000.part", resumed, replaces=True),
        Kind("embedding.json", embedded.path() / "embedding.json", features),
        Kind("embedding shard", embedded.path() / "shard_0000.h5", features),
    ]


def _data(root: Path) -> list[Kind]:
    def noisy() -> list[np.ndarray]:
        dataset = load_data("DIGITS", 3, num_train=30, num_test=10)
        return [dataset.train.x, dataset.train.y, dataset.test.x, dataset.test.y]

    recipe = SynthRecipe(64, 0.4, 0.3, 20)
    noisy()
    [folder] = (path.parent for path in DATASETS.load("DIGITS").folder(None).rglob("DIGITS_noise3_*/meta.json"))
    synth.NUM_TEST, usual = 12, synth.NUM_TEST
    synth.write_files(recipe, 3, root / "synth")
    synth.NUM_TEST = usual
    synth._keep_divisors(recipe, root, np.array([1.5, 2.5, 3.5]))
    make(root / "patches", 10, 5)

    def rows() -> list[np.ndarray]:
        return [array for split in synth.read_files(recipe, 3, root / "synth") for array in (split.x, split.y)]

    return [
        *(Kind(f"cache {name}", folder / name, noisy) for name in ("meta.json", "x_train.npy", "y_test.npy")),
        Kind("SYNTH's files", root / "synth" / synth.file_names(recipe, 3)["X_train"], rows),
        Kind("SYNTH's labels", root / "synth" / synth.file_names(recipe, 3)["y_test"], rows),
        Kind("SYNTH's scale", synth._divisors_file(recipe, root), lambda: synth._known_divisors(recipe, root)),
        Kind("photo patches", root / "patches" / "data_batch_2", lambda: list(PatchFiles().read(root / "patches"))),
    ]


def _keras_files(root: Path, values: np.ndarray) -> list[Kind]:
    import keras

    from linearized.experiments import gradient_fit
    from linearized.models.common import load

    ridge = root / "ridge_000.h5"
    done = RidgeFit(0, 0.1, {"test": values}, [values, values[0]], {"converged": True}, values[:, 0], 1.5)
    gradient_fit._save(ridge, done, "k")

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    with whole_file(root / "model.keras", sealed=True) as path:
        model.save(path)
    return [
        Kind("finished ridge", ridge, lambda: _fields(gradient_fit._load(ridge, "k"))),
        Kind("model.keras", root / "model.keras", lambda: load(root / "model.keras").get_weights()),
    ]


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal, arrays within them entry by entry."""
    if isinstance(ours, np.ndarray):
        return isinstance(theirs, np.ndarray) and ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def outcome(kind: Kind, place: int, expected: Any) -> tuple[str, str]:
    """Flip one bit, read, put everything back. Returns one of `OUTCOMES`, and words for it."""
    around = kind.path.parent
    before = {path: path.read_bytes() for path in around.rglob("*") if path.is_file()}
    content = bytearray(before[kind.path])
    content[place // 8] ^= 1 << place % 8
    kind.path.write_bytes(content)
    heard = _Heard()
    absl_logging.get_absl_logger().addHandler(heard)
    try:
        found = kind.read()
        right = found is None or same(expected, found)
        unheard = "replaced" if kind.replaces else "silent"
        result = "wrong" if not right else "noticed" if found is None or heard.count else unheard
        said = ""
    except UserError as error:
        result, said = ("noticed", "") if kind.path.name in str(error) else ("error", f"names no file: {error}")
    except Exception:  # noqa: BLE001 - whatever else a reader raises is what this script looks for
        result, said = "error", traceback.format_exc()[-500:]
    finally:
        absl_logging.get_absl_logger().removeHandler(heard)
    left = [path for path in around.rglob("*") if path.name.startswith(".writing-") or path.suffix == ".lock"]
    _put_back(around, before)
    return ("leftover", str(left)) if left and result == "noticed" else (result, said)


def flip(root: Path, flips: int, seed: int = 0, *, with_keras: bool = True) -> tuple[Counter, list[str]]:
    """Flip bits, the kinds of files in turn. Returns the number of each (kind, outcome), and what went wrong."""
    every = kinds(root, with_keras=with_keras)
    chance, counts, words = random.Random(seed), Counter(), []
    plan = [(every[number % len(every)], chance.random()) for number in range(flips)]
    for start in range(0, len(plan), BATCH):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                for kind, share in plan[start : start + BATCH]:
                    if kind.name not in _EXPECTED:
                        before = {path: path.read_bytes() for path in kind.path.parent.rglob("*") if path.is_file()}
                        _EXPECTED[kind.name] = kind.read()
                        _put_back(kind.path.parent, before)
                    place = int(share * 8 * kind.path.stat().st_size)
                    pickle.dump((kind.name, place, *outcome(kind, place, _EXPECTED[kind.name])), pipe)
                    pipe.flush()
            os._exit(0)
        os.close(writer)
        seen = 0
        with os.fdopen(reader, "rb") as pipe:
            while True:
                try:
                    name, place, result, said = pickle.load(pipe)
                except EOFError:
                    break
                seen += 1
                counts[name, result] += 1
                if result not in ("noticed", "replaced"):
                    words.append(f"{name}, bit {place}: {result} {said}")
        os.waitpid(child, 0)
        for kind, share in plan[start + seen : start + BATCH][:1]:
            counts[kind.name, "crash"] += 1
            words.append(f"{kind.name}, at {share:.4f} of its length: the reader's process died")
    return counts, words


_EXPECTED: dict[str, Any] = {}


def _put_back(folder: Path, before: dict[Path, bytes]) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path not in before:
            path.unlink()
    for path, whole in before.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)


def main() -> int:
    """Run the flips and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the places")
    parser.add_argument("--without_keras", action="store_true", help="leave out ridges and models")
    asked = parser.parse_args()
    began = time.monotonic()
    absl_logging.set_verbosity(absl_logging.WARNING)
    absl_logging.set_stderrthreshold("fatal")
    with tempfile.TemporaryDirectory() as folder:
        counts, words = flip(Path(folder), asked.flips, asked.seed, with_keras=not asked.without_keras)
    print("\n".join(words))
    for name in dict.fromkeys(name for name, _ in counts):
        print(f"{name}: " + ", ".join(f"{counts[name, one]} {one}" for one in OUTCOMES if counts[name, one]))
    total = {one: sum(count for (_, other), count in counts.items() if other == one) for one in OUTCOMES}
    print(f"{asked.flips} flips in {time.monotonic() - began:.0f} s: {total}")
    return int(total["noticed"] + total["replaced"] != asked.flips)


if __name__ == "__main__":
    sys.exit(main())
