"""What settings alone decide is refused before data and frameworks; a busy folder ends with code 75 at once."""

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest

import kernel_gen
from kernel_gen import __main__ as generate
from kernel_gen import embed
from kernel_gen.jobs import runner
from linearized import data
from linearized.base.errors import TryLater, UserError
from linearized.experiments import compare, finetune, finetune_settings, needs, train
from linearized.experiments import krr as kernel_fit
from linearized.launch.launch_settings import LaunchSettings
from linearized.settings import memory
from linearized.settings.command import guarded
from linearized.settings.config import parse
from linearized.storage.files import Busy, claimed, held, refuse_busy, refuse_claimed
from linearized.storage.manifest import kind_of, load_manifest

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ("tensorflow", "keras", "jax", "numba", "pandas", "matplotlib")

UNFIT = [
    (train, ["--model=CNN", "--dataset=SYNTH"], "CNN needs images"),
    (train, ["--model=LAMBDA_RESNET", "--dataset=SYNTH", "--num_units=8"], "needs images"),
    (train, ["--model=NN", "--dataset=SYNTH", "--loss=cross_entropy"], "--loss=square"),
    (train, ["--noise_ind=15"], "0..14"), (train, ["--noise_ind=0,3,99"], "0..14"),
    (train, ["--noise_ind=0:99999999999"], "0..14"), (train, ["--noise_ind=x"], "0,3,6"),
    (train, ["--reg_index=20"], "0..19"), (train, ["--reg_index=5:99999999999"], "0..19"),
    (train, ["--model=CNN", "--reg_index=10"], "0..9"), (train, ["--num_train=1438"], "1437 train rows"),
    (train, ["--num_train=50", "--validation=50"], "takes all"), (train, ["--validation=1437"], "takes all"),
    (train, ["--num_train=50", "--validation=0.001"], "is none"), (train, ["--validation=1.5"], "whole count"),
    (train, ["--model=NN", "--augment_crop=8"], "below the sides of the images, 8x8"),
    (train, ["--model=NN", "--augment_flip", "--dataset=SYNTH"], "rows of SYNTH are none"),
    (train, ["--model=KERV_CNN", "--kervolution_gamma=1"], "gaussian"),
    (train, ["--model=LAMBDA_RESNET", "--num_units=6"], "multiple of --lambda_heads"),
    (train, ["--model=NN", "--depth=7"], "read by --model=CNN, KERV_CNN"),
    (train, ["--drop_rate=0.1"], "read by --model=NN, SNNK_MLP"),
    (train, ["--synth_dim=32"], "--dataset=SYNTH"),
    (kernel_fit, ["--kernel=CNTK", "--dataset=SYNTH"], "CNTK needs images"),
    (kernel_fit, ["--kernel=CNTK"], "cannot take images of 8x8"), (kernel_fit, ["--depth=7"], "read by --kernel=CNTK"),
    (kernel_fit, ["--kernel=CNTK", "--dataset=PATCHES", "--depth=6"], "5, 7 or 10"),
    (kernel_fit, ["--features=CNTK", "--dataset=SYNTH"], "CNTK needs images"),
    (kernel_fit, ["--ridges=1e308"], "at most 1e\\+30"), (kernel_fit, ["--ridges=1,-1"], "at least 0"),
    (kernel_fit, ["--ridges=1,nan"], "finite"), (kernel_fit, ["--noise_ind=99"], "0..14"),
    (kernel_fit, ["--scheduler=foo"], "tcp://127.0.0.1:8786"), (kernel_fit, ["--scheduler=tcp://a:99999"], "address"),
    (kernel_fit, ["--solver=eigh", "--scheduler=tcp://a:1"], "or by --solver=block_lanczos, cg, auto"),
    (kernel_fit, ["--features=RF", "--scheduler=tcp://a:1"], "with no --features"),
    (kernel_fit, ["--features=NTK", "--gram=x"], "no --gram"), (kernel_fit, ["--embedding_dim=64"], "--features"),
    (generate, ["--kernel=CNTK", "--dataset=SYNTH"], "CNTK needs images"), (generate, ["--noise_ind=99"], "0..14"),
    (train, ["--model=NN", "--num_layers=401"], "up to --num_layers=400"),
    (train, ["--model=NN", "--num_layers=201", "--drop_rate=0.1"], "up to --num_layers=400"),
    (generate, ["--kernel=STAX"], "needs an architecture"),
    (generate, ["--kernel=STAX", "--architecture=serial(Dence(1))"], "no layer 'Dence'"),
    (generate, ["--kernel=STAX", "--architecture=serial(Dense(1)"], "Cannot read"),
    (generate, ["--kernel=STAX", "--architecture=Dense(1, width=3)"], "refuses the arguments of Dense"),
    (generate, ["--kernel=STAX", "--architecture=Dense(1)", "--activation=gelu"], "has no Elementwise"),
    (generate, ["--kernel=STAX", "--architecture=Conv(1, (3, 3))"], "End it with Flatten"),
    (kernel_fit, ["--kernel=STAX", "--dataset=SYNTH", "--architecture=GlobalAvgPool()"], "takes images"),
    (generate, ["--kernel=EMPIRICAL"], "needs a saved Keras model"),
    (kernel_fit, ["--kernel=EMPIRICAL", "--model=NN"], "--model: a saved Keras model is a .keras file"),
    (kernel_fit, ["--kernel=EMPIRICAL", "--model=absent.keras"], "absent.keras does not exist"),
    (kernel_fit, ["--model=NN"], "--model: a saved Keras model is a .keras file"),
    (kernel_fit, ["--kernel=STAX", "--architecture=repeat(Dense(1), 99999999)"], "n of at most 1000"),
    (generate, ["--kernel=RF", "--law=sphere"], "with --num_units"),
    (embed, ["--features=CNTK"], "cannot take images of 8x8"), (embed, ["--terms=3"], "--method=sketch"),
    (compare, ["--models=CNN,RF", "--dataset=SYNTH"], "CNN needs images"),
    (compare, ["--noise_ind=0,3"], "one noise level"),
    (compare, ["--snnk_features=8"], "read by none"),
]  # fmt: skip


def settings_of(module):
    """Return the settings class that the module's `run` or `main` takes."""
    return (getattr(module, "run", None) or module.main).__annotations__["config"]


@pytest.mark.parametrize(
    "module, flags, word", UNFIT, ids=lambda value: "".join(value) if isinstance(value, list) else None
)
def test_settings_that_cannot_work_are_refused_when_they_are_read(module, flags, word):
    with pytest.raises(UserError, match=word):
        parse(settings_of(module), flags)


def test_refusals_need_no_framework_and_leave_nothing(directories):
    """The same refusals in a process of its own, where nothing else has imported a framework."""
    code = (
        "import sys, time; start = time.process_time()\n"
        "from linearized.settings.config import parse; from linearized.base.errors import UserError\n"
        "from kernel_gen import __main__, embed\n"
        "from linearized.experiments import compare, krr, train\n"
        f"cases = {[(module.__name__, flags) for module, flags, _ in UNFIT]!r}\n"
        "for name, flags in cases:\n"
        "    module = sys.modules[name]; function = getattr(module, 'run', None) or module.main\n"
        "    try: parse(function.__annotations__['config'], flags)\n"
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
    one = parse(train.TrainSettings, SMALL)
    two = parse(kernel_fit.KernelFitSettings, SMALL)
    three = parse(compare.CompareSettings, [*SMALL, "--models=RF,NT", "--num_units=8"])
    second = list(three.runs().values())[1].folder()
    kernel_folder = directories / "rkhs_dir" / two.exp_name / two.run_name()
    (directories.parent / "model.keras").write_bytes(b"only its digest is needed before the claim")
    four = finetune_settings.FinetuneSettings(model=str(directories.parent / "model.keras"), dataset="DIGITS")
    digest = hashlib.blake2b((directories.parent / "model.keras").read_bytes(), digest_size=4).hexdigest()
    tuned = directories / "nn_dir" / four.exp_name / four.run_name(digest)
    return [(one, train.run, one.folder()), (two, kernel_fit.run, kernel_folder), (three, compare.run, second),
            (four, finetune.run, tuned)]  # fmt: skip


@pytest.mark.parametrize("place", range(4), ids=["train", "kernel_fit", "compare", "finetune"])
def test_a_busy_run_folder_is_code_75_before_data_are_loaded(directories, no_data, place, capsys):
    config, run, folder = busy_folders(directories)[place]
    start = time.monotonic()
    with claimed(folder):
        code = guarded(lambda: run(config))
    assert code == TryLater.code == 75
    assert time.monotonic() - start < 15  # it waited half a minute once; loading data and Keras takes longer too
    err = capsys.readouterr().err
    assert err.startswith("error: Another process is at work in") and err.count("\n") == 1
    assert not list(directories.rglob("result.json")) and not folder.exists()


@pytest.mark.parametrize("module", [generate, embed], ids=["kernel_gen", "embed"])
def test_busy_shards_are_code_75_before_data_are_loaded(directories, monkeypatch, module):
    flags = [*SMALL, "--num_shards=2"] + (["--embedding_dim=16"] if module is embed else [])
    config = parse(settings_of(module), [*flags, "--shard=0"])
    runner.run(config)
    manifest = load_manifest(config.path(), kind_of(config.path()))
    monkeypatch.setattr(data, "load", lambda *_args, **_settings: pytest.fail("data are loaded"))
    with held(manifest.path(config.path(), 1).with_suffix(".lock")):
        for words in (flags, [*flags, "--shard=1"]):
            with pytest.raises(Busy, match="being made"):
                runner.run(parse(settings_of(module), words))


@pytest.mark.parametrize("flags", [["--num_units=100000000"], ["--model=NN", "--num_units=9999999", "--num_layers=9"]])
def test_models_beyond_memory_are_refused_before_data_are_loaded(directories, no_data, flags):
    with pytest.raises(UserError, match=r"GiB of memory at least.*Lower --num_units"):
        train.run(parse(train.TrainSettings, flags))
    assert not directories.exists()


BEYOND_MEMORY = [
    (kernel_fit, ["--dataset=SYNTH", "--solver=band", "--num_train=1000000"], "block_lanczos, which streams K"),
    (kernel_fit, ["--dataset=SYNTH", "--solver=cholesky"], r"1,048,576 train rows needs 4,\d\d\d GiB"),
    (kernel_fit, ["--dataset=SYNTH", "--solver=eigh", "--num_train=40000"], "eigh takes at most 32766 rows"),
    (kernel_fit, ["--dataset=SYNTH", "--synth_n=4000000000", "--ridges=1,2,3,4,5,6,7"], "Lower --num_train"),
    (kernel_fit, ["--kernel=RF", "--num_units=100000000", "--block=0"], "Give a --block"),
    (kernel_fit, ["--features=NTK", "--embedding_dim=200000"], "Lower --embedding_dim"),
    (embed, ["--method=landmarks", "--embedding_dim=200000", "--dataset=SYNTH"], "--embedding_dim=200000 needs"),
    (generate, ["--kernel=RF", "--num_units=100000000", "--block=0"], "--num_units=100000000 --block=0 needs"),
    (generate, ["--kernel=RF", "--num_units=99999999", "--block=90000000"], "Lower --block"),
    (embed, ["--embedding_dim=10000000", "--dense_layers=3"], "--embedding_dim=10000000 needs"),
    (embed, ["--embedding_dim=10000000", "--features=RF", "--dtype=float64"], "Lower --embedding_dim"),
    (embed, ["--embedding_dim=1000000", "--embedding_width=500000", "--dense_layers=4"], "or --embedding_width"),
    (embed, ["--embedding_dim=8000000", "--features=CNTK", "--dataset=PATCHES"], "Lower --embedding_dim"),
]  # fmt: skip


@pytest.mark.parametrize(
    "module, flags, word", BEYOND_MEMORY, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_fits_draws_and_embeddings_beyond_memory_are_refused_before_data_are_loaded(
    directories, no_data, monkeypatch, module, flags, word
):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=24 * 2**30, available=2**34))
    start = time.monotonic()
    with pytest.raises(UserError, match=word):
        getattr(module, "run", runner.run)(parse(settings_of(module), flags))
    assert time.monotonic() - start < 30  # allocating or drawing them takes longer
    assert not list(directories.rglob("*"))


def test_estimates_count_what_is_held(directories):
    """Bytes by hand: copies of K, α and K α, one draw and its float32 copy, ΦᵀΦ and the solver's copies of it."""
    rows = parse(
        kernel_fit.KernelFitSettings, ["--dataset=SYNTH", "--num_train=1000", "--validation=0.1", "--ridges=1,2"]
    )
    assert rows.row_counts()["train"] == 900
    for solver, copies in (("auto", 0), ("cg", 0), ("block_lanczos", 0), ("band", 1), ("cholesky", 1), ("eigh", 3)):
        config = dataclasses.replace(rows, solver=solver)
        for kernel in ("NTK", "RFM"):
            config = dataclasses.replace(config, kernel=kernel)
            assert needs.fit_bytes(config, 900) == copies * 900**2 * 4 + 2 * 900 * 2 * 8
    assert parse(kernel_fit.KernelFitSettings, ["--validation=37"]).row_counts()["train"] == 1400
    assert memory.draw_bytes(64, 1000, 300, 4) == 64 * 300 * 12 and memory.draw_bytes(64, 1000, 0, 8) == 64 * 1000 * 8
    config = parse(kernel_fit.KernelFitSettings, ["--features=NTK", "--embedding_dim=101", "--solver=eigh"])
    assert needs.equations_bytes(config, memory.fewest_features(config, config.dim(), 0)) == 4 * 8 * 100**2


@pytest.mark.parametrize("flags", [
    ["--features=RF", "--embedding_dim=9000"], ["--embedding_dim=6000"], ["--embedding_dim=3000", "--dense_layers=4"],
    ["--embedding_dim=3000", "--dense_layers=3", "--kind=nngp"], ["--embedding_width=900", "--dense_layers=4"],
    ["--embedding_dim=500", "--method=sketch", "--terms=1"], ["--features=POLYNOMIAL", "--degree=1"],
    ["--embedding_dim=1200", "--features=CNTK", "--dataset=PATCHES"],
    ["--embedding_dim=900", "--features=CNTK", "--head=gap", "--depth=2"],
], ids=" ".join)  # fmt: skip
def test_estimate_of_an_embedding_is_a_lower_bound_of_its_arrays(directories, flags):
    """Compared with the arrays that the features hold and with one batch of them; no more than eight times too low."""
    config = parse(embed.EmbedSettings, ["--num_train=32", *flags])
    shape = config.described().image_shape
    features = config.build()
    held, seen, left = 0, set(), [features]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            held += one.nbytes if one.base is None else 0
        elif isinstance(one, (list, tuple, dict)):
            left += one.values() if isinstance(one, dict) else one
        elif hasattr(one, "__dict__") and not isinstance(one, (type, types.ModuleType)):
            left += vars(one).values()
        if getattr(one, "__closure__", None):
            left += [cell.cell_contents for cell in one.__closure__]
        if hasattr(one, "__self__"):
            left.append(one.__self__)
    batch = 2 * 32 * features.dim * 4
    estimate = memory.embedding_bytes(config, shape, config.dim(), 32)
    assert estimate <= 3 * held + batch  # a draw is made in float64 and then copied to float32
    assert 8 * estimate >= held


@pytest.mark.parametrize("rows", [["--num_train=90"], []], ids=["some", "all"])
def test_landmarks_are_at_most_the_train_rows(directories, rows):
    """Neither an embedding nor a fit is refused because `embedding_dim` is large, and the bound is that of the rows."""
    flags = ["--features=NTK", "--method=landmarks", "--dataset=DIGITS", *rows, "--embedding_dim=100000"]
    for settings in (kernel_fit.KernelFitSettings, embed.EmbedSettings):
        config = parse(settings, flags)
        train = config.row_counts()["train"]
        assert memory.fewest_features(config, 64, train) == train
        assert memory.embedding_bytes(config, None, 64, train) == train * (8 * train + 4 * 64)
    needs.refuse_large_fit(parse(kernel_fit.KernelFitSettings, flags))
    parse(embed.EmbedSettings, flags).refuse_large()


def test_landmarks_beyond_memory_are_refused_once_the_rows_are_known(monkeypatch):
    phi = kernel_gen.embedding("NTK", 4, method="landmarks", embedding_dim=10**6)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=2**23, available=2**23))
    assert phi.on(np.ones((1000, 4))).dim == 1000
    with pytest.raises(UserError, match="1,100 landmarks needs"):
        phi.on(np.ones((1100, 4)))


def test_library_calls_refuse_draws_and_embeddings_beyond_memory():
    x = np.ones((2, 10_000), np.float32)
    with pytest.raises(UserError, match="Give a --block"):
        kernel_gen.gram("RF", x, num_units=10**8, block=0)
    with pytest.raises(UserError, match="Lower --embedding_dim"):
        kernel_gen.embedding("RF", 10**6, embedding_dim=10**7)


def test_synth_rows_beyond_memory_are_refused_before_they_are_drawn(directories):
    start = time.monotonic()
    with pytest.raises(UserError, match="--num_train=1000000 --synth_dim=1000000 --synth_n=4294967296 needs"):
        data.load("SYNTH", 0, num_train=10**6, synth_dim=10**6, synth_n=2**32)
    assert time.monotonic() - start < 30  # drawing the rows takes longer


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


def saved_model(path, shape, members=("config.json", "metadata.json", "model.weights.h5")):
    """Write a file with the members of a saved Keras model; only the shape of its input can be read."""
    layers = [{"class_name": "InputLayer", "config": {"batch_shape": shape}}, {"class_name": "Dense", "config": {}}]
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, json.dumps({"class_name": "Functional", "config": {"layers": layers}}))
    return str(path)


def test_finetune_refuses_models_and_data_that_do_not_fit_without_a_framework(directories, tmp_path):
    images, texts = saved_model(tmp_path / "i.keras", [None, 8, 8, 3]), saved_model(tmp_path / "t.keras", [None, 16])
    open_size = saved_model(tmp_path / "o.keras", [None, None, None, 3])
    part = saved_model(tmp_path / "part.keras", [None, 16], ("metadata.json", "model.weights.h5"))
    whole = Path(images).read_bytes()
    (tmp_path / "text.keras").write_text("nothing")
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "data").mkdir()
    cases = [
        ("none.keras", ["--dataset=DIGITS"], "is no file"), (tmp_path, ["--dataset=DIGITS"], "is no file"),
        (tmp_path / "text.keras", ["--dataset=DIGITS"], "not a model that Keras can load"),
        (tmp_path / "half.keras", ["--dataset=DIGITS"], "not a model that Keras can load"),
        (part, ["--dataset=DIGITS"], "it has no config.json"), (images, ["--dataset=DIGITS"], "has images of shape"),
        (open_size, ["--dataset=DIGITS"], "one input of known size"),
        (images, [f"--data={tmp_path / 'nowhere'}"], "is no folder"),
        (images, [f"--data={tmp_path / 'data'}", "--casing=cased"], "--casing is read with texts"),
        (texts, [f"--data={tmp_path / 'data'}", "--augment_flip"], "--augment_flip is read with images"),
        (texts, [f"--data={tmp_path / 'data'}", f"--vocabulary={tmp_path / 'no.txt'}"], "no.txt does not exist"),
        (images, ["--dataset=DIGITS", "--noise_ind=99"], "0..14"),
        (images, ["--dataset=DIGITS", "--bottleneck=3"], "--bottleneck is read with"),
    ]  # fmt: skip
    code = (
        "import sys, time; from linearized.settings.config import parse; from linearized.base.errors import UserError\n"
        "from linearized.experiments import finetune, finetune_settings\n"
        f"for model, flags, word in {[(str(model), flags, word) for model, flags, word in cases]!r}:\n"
        "    start = time.process_time()\n"
        "    try: finetune.run(parse(finetune_settings.FinetuneSettings, [f'--model={model}', *flags]))\n"
        "    except UserError as error:\n"
        "        seconds = time.process_time() - start\n"
        "        if word not in str(error): sys.exit(f'{flags}: {error}')\n"
        "        if seconds > 1: sys.exit(f'{flags}: {seconds:.2f} s')\n"
        "    else: sys.exit(f'{flags} are accepted')\n"
        f"sys.exit(' '.join(name for name in {FRAMEWORKS!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not list(directories.rglob("*"))


def test_train_takes_lists_of_noise_levels(directories):
    config = parse(train.TrainSettings, [*SMALL, "--num_units=8", "--noise_ind=0,3", "--reg_index=5"])
    results = list(train.run_levels(config))
    assert [result.record["settings"]["noise_ind"] for result in results] == [0, 3]
    alone = parse(train.TrainSettings, [*SMALL, "--num_units=8", "--noise_ind=3", "--reg_index=5"])
    assert train.run(alone).folder == results[1].folder and not train.run(alone).fresh
    assert train.TrainSettings(noise_ind=3).run_name() == train.TrainSettings(noise_ind="3").run_name()
    with pytest.raises(UserError, match="one noise level"):
        train.run(config)


def test_launch_asks_again_for_a_command_that_is_busy():
    from linearized.launch.commands import MISUSED
    from linearized.launch.task import BUSY

    assert Busy.code == BUSY == 75 != MISUSED and LaunchSettings().retries == 3
