"""A new model, kernel or data set is one file and one line: it runs, is tabled, documented and refused like others."""

import importlib
import json
import sys

import numpy as np
import pytest

from linearized.settings.data_settings import DATASETS
from linearized.settings.gram_settings import KERNELS
from linearized.storage import results

MODEL = '''
"""TOY: a tanh layer and a fixed factor."""
import dataclasses
from linearized.models.declaration import Declaration
from linearized.settings.config import Settings, setting
from linearized.settings.reads import reads

@dataclasses.dataclass(frozen=True)
class ToySettings(Settings):
    """Settings of TOY."""

    toy_factor: float = setting(1.0, "factor of the outputs", minimum=0.5)

DECLARED = Declaration(
    reads("num_units", "seed", "toy_factor"), groups=(ToySettings,), units=3, ridges=(0.5, 0.25, 0.125), batches=(4, 8)
)

def build(config, dataset, ridge=0.0):
    import keras
    inputs = keras.Input((dataset.dim,), name="x")
    x = keras.layers.Dense(config.num_units, "tanh", name="hidden")(inputs)
    x = keras.layers.Dense(dataset.num_outputs, name="readout")(x)
    return keras.Model(inputs, keras.layers.Rescaling(config.toy_factor, name="factor")(x), name="TOY")
'''
KERNEL = '''
"""TOY: a product of rows plus a constant."""
import numpy as np
from kernel_gen.kernel import Kernel
from linearized.settings.reads import reads

READS = reads("offset")

class Toy(Kernel):
    tile, scale, dtype = 64, "stax", np.dtype("float32")

    def __init__(self, offset):
        self.offset = offset

    def prepare(self, x):
        return x.astype(np.float32)

    def block(self, one, two, *, same=False):
        return one @ two.T + np.float32(self.offset)

def build(settings, image_shape=None):
    return Toy(settings.offset)
'''
DATASET = '''
"""TOYS: sixty squares, bright on the left or on the right."""
import numpy as np
from linearized.data.source import STRENGTHS, Found, ImageSource, Raw

class Squares:
    def find(self, directory):
        return Found(directory, [str(directory)], "Nothing to get.", made_on_load=True)

    def fetch(self, directory):
        return directory

    def digest(self, place):
        return "squares"

    def read(self, place):
        labels = np.arange(60) % 2
        images = np.zeros((60, 4, 4, 1), np.uint8)
        images[labels == 0, :, :2], images[labels == 1, :, 2:] = 200, 200
        images += np.random.default_rng(0).integers(0, 40, images.shape, dtype=np.uint8)
        return Raw(images[:40], labels[:40], images[40:], labels[40:])

TOYS = ImageSource(name="TOYS", title="squares", noise_name="tau", noise_levels=STRENGTHS, task="classes",
                   num_classes=2, image_shape=(4, 4, 1), family="FMNIST", noise="high_frequency", raw=Squares(),
                   rows=(40, 20))
'''


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Write a module and its one line in a registry, for the time of a test."""

    def add(registry, name, path, text):
        folder = tmp_path / "modules"
        folder.mkdir()
        (folder / f"{path.partition(':')[0]}.py").write_text(text)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setitem(registry._paths, name, path)

    yield add
    for name in ("toy_model", "toy_kernel", "toy_data"):
        sys.modules.pop(name, None)


def fresh(monkeypatch, *names):
    """Import modules again, as a new process would, and put the former ones back after the test."""
    for name in names:
        importlib.import_module(name)
        parent, _, child = name.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], child, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
    return [importlib.import_module(name) for name in names]


def only_result(folder):
    [path] = folder.rglob("result.json")
    return json.loads(path.read_text())


def test_a_model_is_one_file_and_one_line(register, directories, monkeypatch, capsys):
    from linearized.models import MODELS
    from linearized.solvers.training import sgd

    register(MODELS, "TOY", "toy_model", MODEL)
    batches = []
    fit = sgd.fit
    monkeypatch.setattr(sgd, "fit", lambda *a, **b: batches.append(b["batch_size"]) or fit(*a, **b))
    modules = ("experiments.train_settings", "experiments.train", "cli.train")
    *_, cli = fresh(monkeypatch, *(f"linearized.{name}" for name in modules))
    flags = ["--model=TOY", "--num_train=40", "--num_test=20", "--epochs=2", "--exp_name=toy", "--toy_factor=2"]
    assert cli.command(flags) == 0
    assert "TOY, N = 3, on DIGITS" in capsys.readouterr().out
    record = only_result(directories / "nn_dir" / "toy")
    assert record["model"] == {"num_parameters": 235, "trained_parameters": 235, "hidden_layers": 1}
    assert record["solver"]["name"] == "adam"
    assert [entry["ridge"] for entry in record["ridges"]] == [0.125]
    assert batches == [(4, 8)]
    table = results.summary(directories / "nn_dir")
    assert list(table["model"]) == ["TOY"]
    cli.command(["--help"])
    text = capsys.readouterr().out
    assert "Model TOY:\n  --toy_factor=1.0" in text and "TOY 3" in text and "LAMBDA_RESNET, TOY" in text
    for refused, words in (
        (["--model=TOY", "--depth=7"], "--depth is read by --model=CNN, KERV_CNN"),
        (["--model=NN", "--toy_factor=2"], "--toy_factor is read by --model=TOY"),
        (["--model=TOY", "--toy_factor=0"], "--toy_factor must be at least 0.5"),
        (["--model=TOY", "--reg_index=3"], "this grid has 3 ridges"),
        (["--model=TOY", "--solver=lanczos"], "--solver=lanczos fits RF, NT"),
    ):
        assert cli.command(refused) == 2
        assert words in capsys.readouterr().err


def test_a_kernel_is_one_file_and_one_line(register, directories, capsys):
    from kernel_gen.jobs import gram_job
    from linearized.cli import gram, krr

    register(KERNELS, "TOY", "toy_kernel", KERNEL)
    flags = ["--kernel=TOY", "--num_train=40", "--num_test=20", "--offset=3"]
    assert gram.command(flags) == 0
    assert krr.command([*flags, "--exp_name=toy", "--ridges=0.1,1,10"]) == 0
    assert "TOY" in capsys.readouterr().out
    record = only_result(directories / "rkhs_dir" / "toy")
    assert record["model"]["name"] == "TOY kernel" and record["settings"]["offset"] == 3.0
    assert gram_job.GramJobSettings(kernel="TOY").key() != gram_job.GramJobSettings(kernel="TOY", offset=3.0).key()
    krr.command(["--help"])
    assert "MATERN, PATCH, EMPIRICAL, RFM, TOY (also: gp, poly, rbf)" in capsys.readouterr().out
    assert krr.command(["--kernel=TOY", "--degree=3"]) == 2
    assert "--degree is read by --kernel=POLYNOMIAL" in capsys.readouterr().err
    assert krr.command(["--offset=3"]) == 2
    assert "--offset is read by --kernel=POLYNOMIAL, TOY" in capsys.readouterr().err


def test_a_data_set_is_one_file_and_one_line(register, directories, capsys):
    from linearized.cli import data, train

    register(DATASETS, "TOYS", "toy_data:TOYS", DATASET)
    assert train.command(["--dataset=TOYS", "--num_units=32", "--noise_ind=0,1", "--exp_name=toys"]) == 0
    assert "on TOYS" in capsys.readouterr().out
    folders = sorted((directories / "nn_dir" / "toys").iterdir())
    assert len(folders) == 2
    accuracy = [entry["test_accuracy"] for entry in results.load(folders[0])["ridges"]]
    assert np.max(accuracy) > 0.9  # of two classes that a linear function tells apart
    data.command([])
    assert "TOYS" in capsys.readouterr().out
    assert train.command(["--dataset=TOYS", "--num_train=41"]) == 2
    assert "TOYS has 40 train rows" in capsys.readouterr().err
    assert train.command(["--dataset=TOYS", "--noise_ind=15"]) == 2
    assert "TOYS has 15 noise levels" in capsys.readouterr().err
