"""Names of settings: other names that are accepted, the one count of layers, what 0.1 wrote, groups of --help."""

import re
import subprocess
import sys
import time

import pytest

from kernel_gen.jobs import gram_job
from linearized.base.errors import UserError
from linearized.experiments import compare, finetune_settings, krr, train
from linearized.kernel_ridge.gram_source import settings_of
from linearized.settings.config import parse
from linearized.settings.help import help_text
from linearized.storage import results
from linearized.storage.manifest import Band, Manifest, load_manifest, save_once


def test_epochs_and_lr_are_other_names():
    made = parse(train.TrainSettings, ["--model=NN", "--epochs=7", "--lr=0.5"])
    assert (made.max_cg_iters, made.learning_rate) == (7, 0.5)
    assert made.key() == train.TrainSettings(model="NN", max_cg_iters=7, learning_rate=0.5).key()
    assert parse(finetune_settings.FinetuneSettings, ["--model=x", "--data=y", "--lr=0.5"]).learning_rate == 0.5
    runs = parse(compare.CompareSettings, ["--models=RF,NN", "--lr=0.5"]).runs()
    assert (runs["NN"].learning_rate, runs["RF"].learning_rate) == (0.5, 1e-3)  # RF by CG reads none


@pytest.mark.parametrize("words, message", [
    (["--epochs=7"], "lanczos has iterations. Give --max_cg_iters"),
    (["--lr=0.5"], "--learning_rate is read by --solver"),
    (["--epochz=7"], "Did you mean --epochs"), (["--model=NN", "--lr=x"], "takes one number"),
])  # fmt: skip
def test_other_names_are_refused_where_they_mislead(words, message):
    with pytest.raises(UserError, match=message):
        parse(train.TrainSettings, words)


def test_num_layers_counts_hidden_layers_and_dense_layers_one_more():
    hidden, dense = parse(krr.KernelFitSettings, ["--num_layers=2"]), parse(krr.KernelFitSettings, ["--dense_layers=3"])
    assert hidden == dense and hidden.num_layers == 2 and hidden.label() == "NTK3_ntk"
    assert parse(krr.KernelFitSettings, ["--dense_layers=2"]) == krr.KernelFitSettings()
    assert parse(train.TrainSettings, ["--model=NN", "--num_layers=2"]).num_layers == 2
    with pytest.raises(UserError, match=r"--dense_layers=3 is --num_layers=2\. Received also: --num_layers=3"):
        parse(krr.KernelFitSettings, ["--num_layers=3", "--dense_layers=3"])
    with pytest.raises(UserError, match="--dense_layers is read by --kernel=NTK"):
        parse(krr.KernelFitSettings, ["--kernel=RF", "--dense_layers=2"])


def test_shards_of_version_0_1_are_read_with_their_count_of_layers(tmp_path):
    """0.1 counted the readout, and kept settings that the kernel does not read."""
    settings = gram_job.GramJobSettings(num_layers=2).identity()
    assert settings.pop("hidden_layers") == 2
    settings |= {"num_layers": 3, "law": "sphere"}
    save_once(tmp_path, Manifest(settings, "f00d", "float32", "stax", {"train": 4}, 4, ((Band("train", 0, 4),),), "x"))
    old = settings_of(tmp_path)
    assert (old.num_layers, old.law, old.label()) == (2, "gaussian", "NTK3_ntk")
    assert load_manifest(tmp_path).current_settings()["hidden_layers"] == 2


@pytest.mark.parametrize("settings, layers", [
    ({"kernel": "NTK", "num_layers": 3}, 2), ({"kernel": "NTK", "num_layers": 3, "dense_layers": None}, 3),
    ({"model": "NN", "num_layers": 3}, 3),
])  # fmt: skip
def test_results_of_version_0_1_are_read_with_their_count_of_layers(tmp_path, settings, layers):
    entry = {"index": 0, "ridge": 1.0, "converged": True, "diverged": False, "iterations": 3, "residual": 1e-5,
             "message": "", "test_loss": 2.0, "test_accuracy": None}  # fmt: skip
    record = {
        "title": "", "settings": {"dataset": "DIGITS", "noise_ind": 0, **settings}, "seconds": 1.0, "ridges": [entry],
        "data": {"name": "DIGITS", "fingerprint": "f00d", "dim": 64, "n_train": 10, "n_test": 5, "noise": ""},
        "model": {"hidden_layers": 2}, "solver": {"name": "cg", "step": "iteration", "history": "residual"},
        "chosen": {"position": 0, "index": 0, "by": "test loss"},
        "made_by": {"version": "1.0", "commit": "f00d", "machine": {"cores": 2}, "seeds": {}},
    }  # fmt: skip
    results.save(tmp_path, record, {})
    assert results.load(tmp_path)["settings"]["num_layers"] == layers


def test_help_groups_flags_and_names_what_reads_them():
    text = help_text(train.TrainSettings, "Trains.")
    titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert titles[:4] == ["Data", "Model", "Solver", "Run"]
    assert {"Model RF, NT", "Model SNNK_MLP", "Solver lanczos, cg, band", "Data SYNTH"} <= set(titles)
    groups = dict(zip(titles, re.split(r"^\w.*:$", text, flags=re.MULTILINE)[1:], strict=True))
    assert "--law=sphere" in groups["Model RF, NT"] and "--num_train=" in groups["Data"]
    assert "--learning_rate=" in groups["Solver sgd, adam, adamw"] and "--lr=" in groups["Solver sgd, adam, adamw"]
    assert re.findall(r"^(\w.*):$", help_text(krr.KernelFitSettings, ""), re.MULTILINE)[:5] == [
        "Data", "Kernel", "Features", "Solver", "Run"]  # fmt: skip


HELP = (
    "train",
    "krr",
    "theory",
    "gram",
    "embed",
    "status",
    "data",
    "launch",
    "compare",
    "finetune",
    "report",
    "reproduce",
)


def test_no_help_imports_what_it_does_not_need():
    code = (
        "import sys\n"
        "from linearized.cli import main\n"
        f"for command in {HELP}:\n"
        "    assert main([command, '--help']) == 0\n"
        "    heavy = {'keras', 'tensorflow', 'jax', 'numba', 'pandas', 'matplotlib', 'scipy.linalg', 'h5py'}\n"
        "    assert not heavy & set(sys.modules), (command, heavy & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("command", ["train", "krr"])
def test_help_is_quick_and_imports_no_framework(command):
    code = (
        "import sys, time; start = time.process_time()\n"
        "from linearized.cli import main\n"
        f"code = main(['{command}', '--help'])\n"
        "heavy = ('keras', 'tensorflow', 'jax', 'numba', 'pandas', 'matplotlib', 'scipy.linalg', 'h5py')\n"
        "print([name for name in heavy if name in sys.modules], time.process_time() - start, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, seconds = done.stderr.rsplit("]", 1)
    assert found == "[", found
    assert float(seconds) < 2 and time.monotonic() - start < 60  # 0.35 s on a free core: with room for busy ones
