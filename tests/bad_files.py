"""Every reader of files with a small good input for it, and the ways in which a file can be bad.

`tests/bad_inputs.py` runs readers and commands on damaged files in processes of their own; `tests/data/test_fuzz.py`
runs the readers under Hypothesis. A new reader is one entry in `TARGETS`.
"""

import gzip
import importlib.util
import json
import os
import pickle
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import h5py
import numpy as np
import pandas as pd
import scipy.io
from PIL import Image
from sklearn.datasets import dump_svmlight_file

from kernel_gen.import_npy import Stack
from kernel_gen.jobs.partial import PartialShard, partial_path, share_done
from kernel_gen.jobs.tiles import divide, divide_features, tiles
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.data.images import read_image
from linearized.data.own.readers.keras import KERAS
from linearized.data.sources import glue, image_folder, keras_cache, synth
from linearized.data.sources.anisotropic import SynthRecipe
from linearized.data.sources.cifar2 import CatsAndAirplanes
from linearized.data.sources.cifar10 import CifarFiles
from linearized.data.sources.fmnist import FILES, FashionFiles
from linearized.data.sources.wordpiece import SPECIAL
from linearized.data.transforms import cache
from linearized.launch.plan import plan
from linearized.settings.command import guarded
from linearized.settings.data_settings import DataSettings
from linearized.solvers.checkpoint import Checkpoint
from linearized.storage import embeddings, manifest, results, shards
from linearized.storage.array_files import read_idx, read_npy, read_npz
from linearized.storage.files import whole_file
from linearized.storage.gram import open_gram
from linearized.storage.manifest import Manifest


class Target(NamedTuple):
    """A reader or a command.

    Attributes:
        make: Writes a good input into a folder and returns the files that may be damaged.
        read: Reads that folder. Returns what was read; a command returns its exit code.
        checked: The file's bytes are covered by checksums: what is read is right, or it is refused.
        hdf5: The file goes to the HDF5 library before its bytes are checked, and changed bytes may end the process.
        command: `read` returns an exit code.
        keras: `read` computes with Keras, so that a process that forks must not have called it.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    checked: bool = False
    hdf5: bool = False
    command: bool = False
    keras: bool = False


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _npy(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", _random().normal(size=(5, 4)))
    return [folder / "a.npy"]


def _npz(folder: Path) -> list[Path]:
    np.savez(folder / "a.npz", x=_random().normal(size=(5, 4)), name=np.array("text"))
    return [folder / "a.npz"]


def _checkpoint(folder: Path) -> list[Path]:
    Checkpoint(folder, key=1).save("state", {"x": _random().normal(size=9), "state": np.array('{"done": 3}')})
    return sorted(folder.rglob("*.npz"))


def _cache(folder: Path) -> list[Path]:
    arrays = {name: _random().normal(size=(6, 2)).astype(np.float32) for name in cache.NAMES}
    cache.write(folder / "cache", arrays, {"made_from": "0123"})
    return sorted((folder / "cache").iterdir())


RECIPE = SynthRecipe(32, 0.5, 0.3, 8)


def _synth(folder: Path) -> list[Path]:
    shapes = {"X_train": (8, 32), "y_train": (8, 1), "X_test": (4, 32), "y_test": (4, 1)}
    for key, name in synth.file_names(RECIPE, 3).items():
        np.save(folder / name, _random().normal(size=shapes[key]).astype(np.float32))
    return sorted(folder.glob("*.npy"))


def _read_synth(folder: Path) -> Any:
    parts = synth.read_files(RECIPE, 3, folder) or ()
    return [np.array(values) for part in parts for values in (part.x, part.y)]


def _matrix(kind: manifest.Kind = manifest.GRAM) -> tuple[Manifest, Callable]:
    rows = {"train": 12, "test": 5}
    settings = {"kernel": "NTK", "dataset": "DIGITS", "noise_ind": 0}
    bands, dim = (divide(rows, 2, 4), 0) if kind is manifest.GRAM else (divide_features(rows, 2), 7)
    described = Manifest(settings, "f00d", "float32", "stax", rows, 4, bands, f"python -m {kind.module}", dim)

    def entries(band):
        values = _random().normal(size=described.shape(band))
        if band.block == "train" and kind is manifest.GRAM:
            square = values[:, : len(values)]
            values[:, : len(values)] = square + square.T
        return values

    return described, entries


def _gram(folder: Path) -> list[Path]:
    return _shards(folder, manifest.GRAM)


def _shards(folder: Path, kind: manifest.Kind) -> list[Path]:
    described, entries = _matrix(kind)
    manifest.save_once(folder, described)
    for shard in range(2):
        shards.write_shard(folder, described, shard, entries)
    return [folder / kind.file, *sorted(folder.glob("*.h5"))]


def _read_gram(folder: Path) -> Any:
    gram = open_gram(folder)
    return [gram.to_memory(), gram.test.to_memory()]


def _embedding(folder: Path) -> list[Path]:
    return _shards(folder, manifest.FEATURES)


def _read_embedding(folder: Path) -> Any:
    opened = embeddings.open_embedding(folder)
    return [rows[: len(rows)] for rows in opened.splits.values()]


def _partial(folder: Path) -> list[Path]:
    described, _ = _matrix()
    with PartialShard(described.path(folder, 0), described, 0, tiles(described, 0)):
        pass
    return [partial_path(described.path(folder, 0))]


def _read_partial(folder: Path) -> Any:
    described, _ = _matrix()
    path = described.path(folder, 0)
    share_done(path)
    with PartialShard(path, described, 0, tiles(described, 0)) as partial:
        return len(partial.todo)


def record() -> dict[str, Any]:
    """Return what a finished run's result.json holds."""
    scores = {f"{split}_{metric}": 0.5 for split in ("train", "test") for metric in ("loss", "accuracy")}
    entry = {"index": 0, "ridge": 0.1, "converged": True, "diverged": False, "iterations": 3, "residual": 1e-5,
             "message": "", **scores}  # fmt: skip
    return {
        "title": "RF on DIGITS", "settings": {"model": "RF", "dataset": "DIGITS", "noise_ind": 0, "num_units": 8},
        "data": {"name": "DIGITS", "fingerprint": "0" * 16, "dim": 64, "n_train": 9, "n_test": 4, "noise": "τ = 0"},
        "model": {"name": "RF", "num_parameters": 90, "hidden_layers": 1},
        "solver": {"name": "lanczos", "reason": "a small basis", "step": "iteration", "history": "residual"},
        "ridge_unit": "λ", "ridges": [entry], "chosen": {"position": 0, "index": 0, "by": "test accuracy"},
        "seconds": 1.0,
    }  # fmt: skip


def _result(folder: Path) -> list[Path]:
    arrays = {"history/000": np.geomspace(1, 1e-3, 5), "predictions/test": _random().normal(size=(4, 10))}
    results.save(folder / "run", record(), arrays)
    return sorted((folder / "run").iterdir())


def _read_result(folder: Path) -> Any:
    results.load(folder / "run")
    return sorted(results.load_arrays(folder / "run").items())


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes in MNIST's format."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def _fashion(folder: Path, pack: Callable[[bytes], bytes], end: str) -> list[Path]:
    for name, shape in zip(FILES, ((12, 28, 28), (12,), (8, 28, 28), (8,)), strict=True):
        values = _random().integers(0, 10, shape)
        (folder / (name.removesuffix(".gz") + end)).write_bytes(pack(idx(values)))
    return sorted(folder.iterdir())


def _idx(folder: Path) -> list[Path]:
    (folder / "a.idx").write_bytes(idx(_random().integers(0, 256, (4, 3, 2))))
    return [folder / "a.idx"]


def batch(rows: int, start: int) -> dict[bytes, Any]:
    """Return a batch of CIFAR-10 as its Python version pickles it."""
    data = np.random.default_rng(start).integers(0, 256, (rows, 3072)).astype(np.uint8)
    return {b"data": data, b"labels": [(start + row) % 10 for row in range(rows)], b"batch_label": b"batch"}


def _pickle(folder: Path, pack: Callable[[bytes], bytes], end: str) -> list[Path]:
    """Write train, validation and test rows as mnist.pkl.gz holds them."""
    pairs = tuple((_random().random((rows, 9), np.float32), np.arange(rows) % 3) for rows in (12, 6, 6))
    (folder / f"mnist.pkl{end}").write_bytes(pack(pickle.dumps(pairs, protocol=2)))
    return [folder / f"mnist.pkl{end}"]


def _cifar(folder: Path, version: str) -> list[Path]:
    for start, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        values = batch(10, start)
        if version == "bin":
            labels = np.array(values[b"labels"], np.uint8)[:, None]
            (folder / f"{name}.bin").write_bytes(np.concatenate([labels, values[b"data"]], axis=1).tobytes())
        elif version == "mat":
            from scipy.io import savemat

            savemat(folder / f"{name}.mat", {"data": values[b"data"], "labels": np.array(values[b"labels"])[:, None]})
        else:
            (folder / name).write_bytes(pickle.dumps(values, protocol=2))
    if version != "tar.gz":
        return sorted(folder.iterdir())
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as tar:
        for path in sorted(folder.glob("*_batch*")):
            tar.add(path, arcname=path.name)
            path.unlink()
    return [folder / "cifar-10-python.tar.gz"]


FORMATS = {
    "png": "L",
    "jpg": "RGB",
    "gif": "P",
    "bmp": "RGB",
    "webp": "RGB",
    "tif": "I;16",
    "pgm": "I;16",
    "ppm": "RGB",
}


def _picture(folder: Path, suffix: str) -> list[Path]:
    values = _random().integers(0, 256, (9, 9)).astype(np.uint8)
    if FORMATS[suffix] == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(values).convert(FORMATS[suffix])
    image.save(folder / f"a.{suffix}")
    return [folder / f"a.{suffix}"]


def _photos(folder: Path) -> list[Path]:
    for split, count in (("train", 3), ("test", 1)):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(_random().integers(0, 256, (5, 5)).astype(np.uint8)).save(
                    folder / split / name / f"{number}.png"
                )
    return sorted(folder.rglob("*.png"))


def _texts(folder: Path, label: Callable[[int], str], column: str) -> list[Path]:
    for name, count in (("train.tsv", 20), ("dev.tsv", 6)):
        lines = [f"index\tsentence1\tsentence2\t{column}"]
        lines += [f"{row}\ta tree\tno stone {row % 2}\t{label(row)}" for row in range(count)]
        (folder / name).write_text("\n".join(lines) + "\n")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, "a", "tree", "no", "stone", "0", "##1"]) + "\n")
    return sorted(folder.iterdir())


def _read_texts(folder: Path) -> Any:
    dataset = glue.load(folder, 12, 4000, folder / "vocab.txt")
    return [dataset.train.x, dataset.train.y, dataset.test.x, dataset.test.y]


def _directories(folder: Path) -> list[Path]:
    (folder / "directories.txt").write_text("# folders\ndata_dir data\nnn_dir ~/nn  # results\nrf_dir $HOME/rf\n")
    return [folder / "directories.txt"]


def _read_directories(folder: Path) -> Any:
    before = os.environ.get("DIRECTORIES")
    os.environ["DIRECTORIES"] = str(folder / "directories.txt")
    try:
        return directory("nn_dir")
    finally:
        os.environ.pop("DIRECTORIES") if before is None else os.environ.update(DIRECTORIES=before)


def _commands(folder: Path) -> list[Path]:
    (folder / "commands.txt").write_text("python train.py --model=RF  # one\n\npython train.py --exp_name='two'\n")
    return [folder / "commands.txt"]


def _comparison(folder: Path) -> list[Path]:
    row = {"label": "RF", "trained_parameters": 90, "examples_per_second": 5.0, "memory_gib": 1.0, "test_accuracy": 0.5}
    about = {"title": "two models", "columns": {name: name for name in row if name != "label"}, "rows": [row, row]}
    (folder / "comparison.json").write_text(json.dumps(about))
    return [folder / "comparison.json"]


def _run(module: str, *arguments: str) -> int:
    """Run a command in this process and return its exit code."""
    from linearized.settings.command import run_command

    command = importlib.import_module(module)
    return run_command(command.main.__annotations__["config"], "", command.main, list(arguments))


def _own(kind: str) -> Callable[[Path], list[Path]]:
    """Return what writes a small input of one format of --data that is made of rows."""
    x, y = _random().normal(size=(12, 3)).astype(np.float32), np.arange(12) % 2

    def make(folder: Path) -> list[Path]:
        if kind == "npz":
            np.savez_compressed(folder / "a.npz", x=x, y=y)
        elif kind == "npy":
            np.save(folder / "x.npy", x)
            np.save(folder / "y.npy", y)
        elif kind in ("csv", "tsv", "parquet"):
            table = pd.DataFrame(x, columns=list("abc")).assign(target=np.array(["no", "yes"])[y])
            if kind == "parquet":
                table.to_parquet(folder / "a.parquet")
            else:
                table.to_csv(folder / f"a.{kind}", index=False, sep="," if kind == "csv" else "\t")
        elif kind == "h5":
            with h5py.File(folder / "a.h5", "w") as file:
                file["x"], file["y"] = x, y
        elif kind == "mat":
            scipy.io.savemat(folder / "a.mat", {"X": x, "y": y})
        elif kind == "mat of version 7.3":
            with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
                file["X"], file["y"] = x.T, y[None]
            with (folder / "a.mat").open("r+b") as stored:
                stored.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
        else:
            dump_svmlight_file(x, y, str(folder / "a.libsvm"), zero_based=False)
        return sorted(folder.iterdir())

    return make


def _svhn(folder: Path) -> list[Path]:
    for name, rows in (("train_32x32.mat", 12), ("test_32x32.mat", 6)):
        images = _random().integers(0, 256, (32, 32, 3, rows)).astype(np.uint8)
        labels = (np.arange(rows) % 10 + 1).astype(np.uint8)[:, None]
        scipy.io.savemat(folder / name, {"X": images, "y": labels})
    return sorted(folder.iterdir())


def _cifar100(cifar: Path) -> list[Path]:
    """Write a few rows of CIFAR-100 into a folder."""
    cifar.mkdir(exist_ok=True)
    for name, rows in (("train", 12), ("test", 4)):
        values = {b"data": batch(rows, 0)[b"data"], b"fine_labels": list(range(rows))}
        (cifar / name).write_bytes(pickle.dumps(values, protocol=2))
    names = [f"class {number}".encode() for number in range(100)]
    (cifar / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=2))
    return sorted(cifar.iterdir())


def _cache_of_keras(folder: Path) -> list[Path]:
    """Write MNIST and CIFAR-100, a few rows of each, as Keras keeps them below `$KERAS_HOME`."""
    (folder / "datasets").mkdir()
    images, y = _random().integers(0, 256, (12, 28, 28)).astype(np.uint8), np.arange(12) % 10
    np.savez(folder / "datasets" / "mnist.npz", x_train=images, y_train=y, x_test=images[:4], y_test=y[:4])
    return [folder / "datasets" / "mnist.npz", *_cifar100(folder / "datasets" / "cifar-100-python")]


def _read_own(text: str) -> Any:
    splits = DataSettings(data=text).described().load().splits()
    return [np.array(values) for split in splits.values() for values in (split.x, split.y)]


def _read_cache_of_keras(folder: Path, names: tuple[str, ...]) -> Any:
    def no_network(name: str) -> None:
        raise UserError(f"Keras could not download {name} (no network).")

    with patch.dict(os.environ, KERAS_HOME=str(folder)), patch.object(keras_cache, "download", no_network):
        arrays = [KERAS.fetch(name) for name in names]  # `read` would keep those of the first call
    return [part for one in arrays for part in (one.x, one.y, one.x_test, one.y_test)]


def _own_target(make: Callable[[Path], list[Path]], *names: str, hdf5: bool = False) -> Target:
    """Return the target of a format whose text of --data are `names` below the folder; without names, the folder."""
    return Target(make, lambda folder: _read_own(",".join(str(folder / name) for name in names or (".",))), hdf5=hdf5)


PYARROW = importlib.util.find_spec("pyarrow") is not None
OWN = {
    **{kind: _own_target(_own(kind), f"a.{kind}", hdf5=kind == "h5")
       for kind in ("npz", "csv", "tsv", "parquet", "h5", "mat", "libsvm") if kind != "parquet" or PYARROW},
    "npy": _own_target(_own("npy"), "x.npy", "y.npy"),
    "mat of version 7.3": _own_target(_own("mat of version 7.3"), "a.mat", hdf5=True),
    "pickle": _own_target(lambda folder: _pickle(folder, bytes, ""), "mnist.pkl"),
    "pickle, gzipped": _own_target(lambda folder: _pickle(folder, gzip.compress, ".gz"), "mnist.pkl.gz"),
    "CIFAR-10": _own_target(lambda folder: _cifar(folder, "py")),
    "CIFAR-10, binary": _own_target(lambda folder: _cifar(folder, "bin")),
    "CIFAR-10, Matlab": _own_target(lambda folder: _cifar(folder, "mat")),
    "CIFAR-10, archive": _own_target(lambda folder: _cifar(folder, "tar.gz"), "cifar-10-python.tar.gz"),
    "CIFAR-100": _own_target(_cifar100),
    "SVHN": _own_target(_svhn),
    "idx": _own_target(lambda folder: _fashion(folder, gzip.compress, ".gz")),
    "idx, unzipped": _own_target(lambda folder: _fashion(folder, bytes, "")),
    "folder of pictures": _own_target(_photos),
    "Keras' cache": Target(_cache_of_keras, lambda folder: _read_cache_of_keras(folder, ("mnist", "cifar100"))),
}  # fmt: skip


def _saved_model(folder: Path, *, sealed: bool) -> list[Path]:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
    if sealed:
        with whole_file(folder / "model.keras", sealed=True) as path:
            model.save(path)
    else:
        model.save(folder / "model.keras")
    return [folder / "model.keras"]


def _read_model(folder: Path) -> Any:
    from linearized.models.common import load

    return load(folder / "model.keras").get_weights()


TARGETS: dict[str, Target] = {
    **{f"--data, {name}": target for name, target in OWN.items()},
    "model of this suite": Target(lambda folder: _saved_model(folder, sealed=True), _read_model, checked=True,
                                  keras=True),
    "model saved by Keras": Target(lambda folder: _saved_model(folder, sealed=False), _read_model, hdf5=True,
                                   keras=True),
    "npy": Target(_npy, lambda folder: read_npy(folder / "a.npy")),
    "npz": Target(_npz, lambda folder: sorted(read_npz(folder / "a.npz").items()), checked=True),
    "checkpoint": Target(_checkpoint, lambda folder: Checkpoint(folder, key=1).load("state")),
    "cache": Target(_cache, lambda folder: cache.read(folder / "cache")),
    "SYNTH": Target(_synth, _read_synth),
    "matrix to import": Target(_npy, lambda folder: Stack([folder / "a.npy"], "float64")[slice(0, 5), slice(0, 4)]),
    "Gram matrix": Target(_gram, _read_gram, hdf5=True),
    "embedding": Target(_embedding, _read_embedding, hdf5=True),
    "shard in the making": Target(_partial, lambda folder: guarded(lambda: _read_partial(folder)),
                                  hdf5=True, command=True),
    "result": Target(_result, _read_result, hdf5=True),
    "Fashion-MNIST": Target(lambda folder: _fashion(folder, gzip.compress, ".gz"), FashionFiles().read, checked=True),
    "Fashion-MNIST, unzipped": Target(lambda folder: _fashion(folder, bytes, ""), FashionFiles().read),
    "idx": Target(_idx, lambda folder: read_idx(folder / "a.idx")),
    "CIFAR10": Target(lambda folder: _cifar(folder, "py"), CifarFiles().read),
    "CIFAR10, binary": Target(lambda folder: _cifar(folder, "bin"), CifarFiles().read),
    "CIFAR10, Matlab": Target(lambda folder: _cifar(folder, "mat"), CifarFiles().read),
    "CIFAR10, archive": Target(lambda folder: _cifar(folder, "tar.gz"),
                               lambda folder: CifarFiles().read(folder / "cifar-10-python.tar.gz")),
    "CIFAR2": Target(lambda folder: _cifar(folder, "py"), CatsAndAirplanes().read),
    **{f"picture, {suffix}": Target(lambda folder, suffix=suffix: _picture(folder, suffix),
                                    lambda folder, suffix=suffix: read_image(folder / f"a.{suffix}", (4, 4, 3)))
       for suffix in FORMATS},
    "folder of pictures": Target(_photos, lambda folder: image_folder.load(folder, (4, 4, 1)).train.x),
    "GLUE, classes": Target(lambda folder: _texts(folder, lambda row: "ab"[row % 2], "label"), _read_texts),
    "GLUE, scores": Target(lambda folder: _texts(folder, lambda row: f"{row / 7:.2f}", "score"), _read_texts),
    "directories.txt": Target(_directories, _read_directories),
    "commands": Target(_commands, lambda folder: plan((), False, str(folder / "commands.txt"))),
    "linearized report": Target(
        _result, lambda folder: _run("linearized.cli.report", f"--directory={folder}", f"--out={folder}/report.html"),
        hdf5=True, command=True),
    "python -m linearized.report.comparison": Target(
        _comparison,
        lambda folder: _run("linearized.report.comparison", f"--directory={folder}", f"--out={folder}/models.png"),
        command=True),
    "python -m kernel_gen.status": Target(
        _gram, lambda folder: _run("kernel_gen.status", f"--folder={folder}"), hdf5=True, command=True),
}  # fmt: skip


def _keep(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.write_bytes(content)


def _truncate(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.write_bytes(content[: random.integers(0, max(1, len(content)))])


def _flip(path: Path, content: bytes, random: np.random.Generator) -> None:
    changed = bytearray(content)
    for place in random.integers(0, len(content), random.integers(1, 4)):
        changed[place] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(changed)


def _flip_head(path: Path, content: bytes, random: np.random.Generator) -> None:
    changed = bytearray(content)
    for place in random.integers(0, min(64, len(content)), random.integers(1, 4)):
        changed[place] = random.integers(0, 256)
    path.write_bytes(changed)


def _noise(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.write_bytes(random.bytes(int(random.integers(0, 2000))))


def _tail(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.write_bytes(content + random.bytes(int(random.integers(1, 100))))


def _hole(path: Path, content: bytes, random: np.random.Generator) -> None:
    start, stop = sorted(random.integers(0, len(content) + 1, 2).tolist())
    path.write_bytes(content[:start] + bytes(stop - start) + content[stop:])


def _cut_out(path: Path, content: bytes, random: np.random.Generator) -> None:
    start, stop = sorted(random.integers(0, len(content) + 1, 2).tolist())
    path.write_bytes(content[:start] + content[stop:])


def _nested(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.write_bytes(b"[" * 100_000)


def _strange_json(path: Path, content: bytes, random: np.random.Generator) -> None:
    """Replace one value of a JSON file by one of another kind, or a file of another format by such a value."""
    strange = [None, [], {}, "", -1, 1e400, True, [[1]], {"a": None}, "\ud800", 10**30][int(random.integers(0, 11))]
    try:
        value = json.loads(content)
        places = [(value, key) for key in value]
        places += [(inner, key) for inner in value.values() if isinstance(inner, dict) for key in inner]
        holder, key = places[int(random.integers(0, len(places)))]
        holder[key] = strange
    except (ValueError, AttributeError, UnicodeDecodeError):
        value = strange
    path.write_text(json.dumps(value))


def _group(path: Path, content: bytes, random: np.random.Generator) -> None:
    """Replace one dataset or attribute of an HDF5 file by a group or by text, or write such a file."""
    path.write_bytes(content)
    try:
        with h5py.File(path, "r+") as file:
            names = []
            file.visit(names.append)
            sets = [name for name in names if isinstance(file[name], h5py.Dataset)]
            name = sets[int(random.integers(0, len(sets)))]
            if random.random() < 0.5:
                del file[name]
                file.create_group(name)
            else:
                keys = [(place, key) for place in (file, file[name]) for key in place.attrs]
                place, key = keys[int(random.integers(0, len(keys)))]
                place.attrs[key] = "text"
    except (OSError, IndexError, ValueError):
        path.unlink()
        with h5py.File(path, "w") as file:
            file.create_group("x")


def _no_text(path: Path, content: bytes, random: np.random.Generator) -> None:
    strange = [
        b"\xff\xfe",
        b"\x00",
        "\u2028".encode(),
        b"\r",
        "é".encode("latin1"),
        b"nan",
        b"~nosuchuser",
        b"\t",
        b"'",
    ]
    place = int(random.integers(0, len(content) + 1))
    path.write_bytes(content[:place] + strange[int(random.integers(0, len(strange)))] + content[place:])


def _pipe(path: Path, content: bytes, random: np.random.Generator) -> None:
    os.mkfifo(path)


def _folder(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.mkdir()


def _socket(path: Path, content: bytes, random: np.random.Generator) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # the address of a socket must be short
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def _endless(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path, content: bytes, random: np.random.Generator) -> None:
    path.symlink_to(path.name)


def _huge(path: Path, content: bytes, random: np.random.Generator) -> None:
    with path.open("wb") as file:  # a sparse file, which takes no space on disk
        file.write(content)
        file.truncate(2**40)


def _gone(path: Path, content: bytes, random: np.random.Generator) -> None:
    """Leave the file out."""


CHANGES = (_truncate, _flip, _flip_head, _noise, _tail, _hole, _cut_out, _nested, _strange_json, _group, _no_text)
KINDS = (_pipe, _folder, _socket, _endless, _loop, _huge, _gone)


def damage(path: Path, kind: Callable, random: np.random.Generator) -> None:
    """Replace a file by a bad one of a kind in `CHANGES` or `KINDS`."""
    content = path.read_bytes()
    path.unlink()
    kind(path, content, random)
