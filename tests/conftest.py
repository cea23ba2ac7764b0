"""What many tests share: folders of their own, and a tiny Fashion-MNIST and CIFAR-10 in the real file formats."""

import atexit
import gzip
import os
import pickle
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # TensorFlow convolves channels first on a CPU by oneDNN alone

# XLA, in this process and in commands that tests start, compiles in 40 % of the time without optimisation. The suite
# spends longer on compiling small programs than on running them. XLA_FLAGS="" tests the code that users run.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0")

if "LINEARIZED_CACHE" not in os.environ:  # the speed of this machine is measured once for all tests and commands
    os.environ["LINEARIZED_CACHE"] = tempfile.mkdtemp(prefix="linearized-cache-")
    atexit.register(shutil.rmtree, os.environ["LINEARIZED_CACHE"], ignore_errors=True)

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from linearized.base.directories import KEYS

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: more BLAS threads would wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of commands that tests start
    threadpool_limits(1, "blas")


def write_idx(path, array):
    """Writes uint8 `array` in the gzipped idx format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def blobs(random, labels, shape):
    """Images that show their label: a bright square whose place depends on it, on uneven ground."""
    images = random.integers(0, 60, (len(labels), *shape))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[2 + 6 * row : 7 + 6 * row, 2 + 6 * column : 7 + 6 * column] += 150
    return images.astype(np.uint8)


def pytest_xdist_make_scheduler(config, log):
    """A worker that is done takes from the other's list: tests take from a millisecond to a minute."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture
def directories(tmp_path, monkeypatch):
    """A `directories.txt` of the test's own; gives the folder that all keys lie in. No home, so no cache of Keras'."""
    root = tmp_path / "storage"
    file = tmp_path / "directories.txt"
    file.write_text("".join(f"{key} storage/{key}\n" for key in KEYS))
    monkeypatch.setenv("DIRECTORIES", str(file))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return root


@pytest.fixture
def small_directories(directories):
    """As `directories`, with 100 + 50 images in the formats of Fashion-MNIST and CIFAR-10."""
    random = np.random.default_rng(0)
    fashion, cifar = directories / "data_dir" / "fashion-mnist", directories / "data_dir" / "cifar-10-batches-py"
    fashion.mkdir(parents=True)
    cifar.mkdir()
    for name, count in (("train", 100), ("t10k", 50)):
        labels = random.permutation(np.arange(count) % 10)
        write_idx(fashion / f"{name}-images-idx3-ubyte.gz", blobs(random, labels, (28, 28)))
        write_idx(fashion / f"{name}-labels-idx1-ubyte.gz", labels)
    for name, count in (*((f"data_batch_{i}", 20) for i in range(1, 6)), ("test_batch", 50)):
        labels = random.permutation(np.arange(count) % 10)
        rows = blobs(random, labels, (32, 32, 3)).transpose(0, 3, 1, 2).reshape(count, -1)
        (cifar / name).write_bytes(pickle.dumps({b"data": rows, b"labels": labels.tolist()}, protocol=2))
    return directories
