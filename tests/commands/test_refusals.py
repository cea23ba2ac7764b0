"""What settings alone decide is refused before data and frameworks; a busy folder ends with code 75 at once."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import data
from data.command import run_command
from data.config import parse
from data.errors import TryLater, UserError
from data.files import Busy, claimed, held, refuse_busy, refuse_claimed
from data.manifest import load_manifest
from kernel_gen import embed, generate
from launch.settings import LaunchSettings
from linearized import compare, kernel_fit, train

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ("tensorflow", "keras", "jax", "numba", "pandas", "matplotlib")

UNFIT = [
    (train, ["--model=CNN", "--dataset=SYNTH"], "CNN needs images"),
    (train, ["--model=LAMBDA_RESNET", "--dataset=SYNTH", "--num_units=8"], "needs images"),
    (train, ["--model=NN", "--dataset=SYNTH", "--loss=cross_entropy"], "--loss=square"),
    (train, ["--noise_ind=15"], "0..14"), (train, ["--noise_ind=0,3,99"], "0..14"),
    (train, ["--noise_ind=0:99999999999"], "0..14"), (train, ["--noise_ind=x"], "0,3,6"),
    (train, ["--reg_index=20"], "0..19"), (train, ["--reg_index=5:99999999999"], "0..19"),
    (train, ["--model=CNN", "--reg_index=10"], "0..9"), (train, ["--num_train=1438"], "1437 rows"),
    (train, ["--num_train=50", "--validation=50"], "takes all"), (train, ["--validation=1437"], "takes all"),
    (train, ["--num_train=50", "--validation=0.001"], "is none"), (train, ["--validation=1.5"], "whole count"),
    (train, ["--model=NN", "--augment_crop=8"], "below the sides of the images, 8x8"),
    (train, ["--model=NN", "--augment_flip", "--dataset=SYNTH"], "rows of SYNTH are none"),
    (train, ["--model=KERV_CNN", "--kervolution_gamma=1"], "gaussian"),
    (train, ["--model=LAMBDA_RESNET", "--num_units=6"], "multiple of --lambda_heads"),
    (train, ["--model=NN", "--depth=7"], "setting of CNN and KERV_CNN"),
    (train, ["--drop_rate=0.1"], "NN and SNNK_MLP"),
    (train, ["--synth_dim=32"], "--dataset=SYNTH"),
    (kernel_fit, ["--kernel=CNTK", "--dataset=SYNTH"], "CNTK needs images"),
    (kernel_fit, ["--kernel=CNTK"], "cannot take images of 8x8"), (kernel_fit, ["--depth=7"], "NTK does not use depth"),
    (kernel_fit, ["--kernel=CNTK", "--dataset=PATCHES", "--depth=6"], "5, 7 or 10"),
    (kernel_fit, ["--features=CNTK", "--dataset=SYNTH"], "CNTK needs images"),
    (kernel_fit, ["--ridges=1e308"], "at most 1e\\+30"), (kernel_fit, ["--ridges=1,-1"], "at least 0"),
    (kernel_fit, ["--ridges=1,nan"], "finite"), (kernel_fit, ["--noise_ind=99"], "0..14"),
    (kernel_fit, ["--scheduler=foo"], "tcp://127.0.0.1:8786"), (kernel_fit, ["--scheduler=tcp://a:99999"], "address"),
    (kernel_fit, ["--solver=eigh", "--scheduler=tcp://a:1"], "one process"),
    (kernel_fit, ["--features=NTK", "--gram=x"], "neither"), (kernel_fit, ["--embedding_dim=64"], "--features"),
    (generate, ["--kernel=CNTK", "--dataset=SYNTH"], "CNTK needs images"), (generate, ["--noise_ind=99"], "0..14"),
    (generate, ["--kernel=STAX"], "needs an architecture"),
    (generate, ["--kernel=RF", "--law=sphere"], "does not use law"),
    (embed, ["--features=CNTK"], "cannot take images of 8x8"), (embed, ["--terms=3"], "--method=sketch"),
    (compare, ["--dataset=SYNTH"], "CNN needs images"), (compare, ["--noise_ind=0,3"], "one noise level"),
    (compare, ["--snnk_features=8"], "read by none"),
]  # fmt: skip


@pytest.mark.parametrize(
    "module, flags, word", UNFIT, ids=lambda value: "".join(value) if isinstance(value, list) else None
)
def test_settings_that_cannot_work_are_refused_when_they_are_read(module, flags, word):
    with pytest.raises(UserError, match=word):
        parse(module.Config, flags)


def test_refusals_need_no_framework_and_leave_nothing(directories):
    """The same refusals in a process of its own, where nothing else has imported a framework."""
    code = (
        "import sys, time; start = time.process_time()\n"
        "from data.config import parse; from data.errors import UserError\n"
        "from kernel_gen import embed, generate; from linearized import compare, kernel_fit, train\n"
        f"cases = {[(module.__name__, flags) for module, flags, _ in UNFIT]!r}\n"
        "for name, flags in cases:\n"
        "    try: parse(sys.modules[name].Config, flags)\n"
        "    except UserError: continue\n"
        "    sys.exit(f'{flags} is accepted')\n"
        f"found = [name for name in {FRAMEWORKS!r} if name in sys.modules]\n"
        "seconds = time.process_time() - start\n"
        "sys.exit(str(found) if found else f'{seconds:.2f} s' if seconds > 4 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not directories.exists()


SMALL = ["--num_train=40", "--num_test=10"]


@pytest.fixture
def no_data(monkeypatch):
    """A dataset that is loaded fails the test."""

    def loaded(*_args, **_settings):
        raise AssertionError("data are loaded before the refusal")

    monkeypatch.setattr(data, "load", loaded)


def busy_folders(directories):
    """(module, settings, main, folder that another process holds) of commands that make one."""
    one = parse(train.Config, SMALL)
    two = parse(kernel_fit.Config, SMALL)
    three = parse(compare.Config, [*SMALL, "--models=RF,NT", "--num_units=8"])
    second = list(three.runs().values())[1].folder()
    kernel_folder = directories / "rkhs_dir" / two.exp_name / two.run_name()
    return [(one, train.run, one.folder()), (two, kernel_fit.run, kernel_folder), (three, compare.run, second)]


@pytest.mark.parametrize("place", range(3), ids=["train", "kernel_fit", "compare"])
def test_a_busy_run_folder_is_code_75_before_data_are_loaded(directories, no_data, place, capsys):
    config, run, folder = busy_folders(directories)[place]
    start = time.monotonic()
    with claimed(folder):
        flags = [f"--{name}={value}" for name, value in config.to_dict().items() if value not in (None, ())]
        code = run_command(type(config), "", lambda _: run(config), flags[:0])
    assert code == TryLater.code == 75
    assert time.monotonic() - start < 1
    err = capsys.readouterr().err
    assert err.startswith("error: Another process is at work in") and err.count("\n") == 1
    assert not list(directories.rglob("result.json")) and not folder.exists()


@pytest.mark.parametrize("module", [generate, embed], ids=["kernel_gen", "embed"])
def test_busy_shards_are_code_75_before_data_are_loaded(directories, monkeypatch, module):
    flags = [*SMALL, "--num_shards=2"] + (["--embedding_dim=16"] if module is embed else [])
    config = parse(module.Config, [*flags, "--shard=0"])
    module.run(config)
    manifest = (embed.load_manifest if module is embed else load_manifest)(config.path())
    monkeypatch.setattr(data, "load", lambda *_args, **_settings: pytest.fail("data are loaded"))
    with held(manifest.path(config.path(), 1).with_suffix(".lock")):
        for words in (flags, [*flags, "--shard=1"]):
            with pytest.raises(Busy, match="being made"):
                module.run(parse(module.Config, words))


@pytest.mark.parametrize("flags", [["--num_units=100000000"], ["--model=NN", "--num_units=9999999", "--num_layers=9"]])
def test_models_beyond_memory_are_refused_before_data_are_loaded(directories, no_data, flags):
    with pytest.raises(UserError, match=r"GiB of memory at least.*Lower --num_units"):
        train.run(parse(train.Config, flags))
    assert not directories.exists()


def test_claims_leave_no_folder_and_see_one_that_was_made_again(tmp_path):
    with claimed(tmp_path / "a" / "b" / "c"):
        with pytest.raises(Busy):
            refuse_claimed(tmp_path / "a" / "b" / "c")
        refuse_claimed(tmp_path / "a" / "other")
    assert list(tmp_path.iterdir()) == []
    with claimed(tmp_path / "a" / "b"), contextlib.ExitStack() as stack:
        (tmp_path / "a" / "b").rmdir()  # as by a person: the next one makes it anew, and holds the new one
        stack.enter_context(claimed(tmp_path / "a" / "b"))
        with pytest.raises(Busy):
            refuse_claimed(tmp_path / "a" / "b")
    refuse_busy([])


def test_train_takes_lists_of_noise_levels(directories):
    config = parse(train.Config, [*SMALL, "--num_units=8", "--noise_ind=0,3", "--reg_index=5"])
    results = list(train.run_levels(config))
    assert [result.record["settings"]["noise_ind"] for result in results] == [0, 3]
    alone = parse(train.Config, [*SMALL, "--num_units=8", "--noise_ind=3", "--reg_index=5"])
    assert train.run(alone).folder == results[1].folder and not train.run(alone).fresh
    assert train.Config(noise_ind=3).run_name() == train.Config(noise_ind="3").run_name()
    with pytest.raises(UserError, match="one noise level"):
        train.run(config)


def test_launch_asks_again_for_a_command_that_is_busy():
    from launch.commands import MISUSED
    from launch.task import BUSY

    assert Busy.code == BUSY == 75 != MISUSED and LaunchSettings().retries == 3
