"""Work that would take years is refused from settings, before data and frameworks; published sizes never are."""

import dataclasses
import types

import numpy as np
import psutil
import pytest

from kernel_gen import __main__ as generate
from kernel_gen import embed, import_npy
from kernel_gen.cntk.architecture import myrtle, plain
from kernel_gen.jobs import runner
from kernel_gen.jobs.gram_job import GramJobSettings, GramWork
from kernel_gen.jobs.tiles import MOST_SHARDS
from linearized import data
from linearized.base.errors import UserError
from linearized.experiments import compare, finetune, krr, needs, train
from linearized.settings import operations
from linearized.settings.config import parse

SYNTH = "--dataset=SYNTH"
ROWS = {name: {"train": n, "test": 10_000} for name, n in
        (("FMNIST", 60_000), ("NFMNIST", 60_000), ("CIFAR10", 50_000), ("CIFAR2", 10_000), ("SYNTH", 2**20),
         ("DIGITS", 1437))}  # fmt: skip
ENDLESS = [
    (generate, ["--kernel=RF", "--num_units=100000000", "--dataset=SYNTH"], "--num_units=100000000 on 5"),
    (krr, ["--kernel=RF", "--num_units=100000000", "--dataset=SYNTH"], "Lower --num_units"),
    (krr, ["--num_layers=999", "--dataset=SYNTH", "--synth_n=50000000"], "Lower --num_layers"),
    (generate, ["--kernel=CNTK", "--head=gap", "--depth=1000", "--dataset=CIFAR10"], "Lower --depth"),
    (embed, ["--embedding_dim=9000", "--num_layers=999", "--dataset=SYNTH", "--synth_n=4000000000"],
     "--embedding_dim=9000 on 4,000,000,000 rows"),
    (krr, ["--features=NTK", "--embedding_dim=9000", "--num_layers=99", "--dataset=SYNTH", "--synth_n=4000000000"],
     "--features=NTK"),
    (train, ["--model=CNN", "--num_units=512", "--max_cg_iters=1000000", "--dataset=FMNIST"], "Lower --max_cg_iters"),
    (train, ["--model=NN", "--num_units=9999", "--num_layers=9", "--max_cg_iters=1000000", "--dataset=SYNTH"], "NN"),
    (compare, ["--models=RF,CNN", "--num_units=512", "--max_cg_iters=1000000", "--dataset=FMNIST"], "CNN with"),
]  # fmt: skip

PLAUSIBLE = [
    (generate, ["--kernel=NTK", "--num_layers=9", "--dataset=FMNIST"]),  # n = 60,000
    (generate, ["--kernel=NTK", "--activation=gelu", "--num_layers=9", "--dataset=FMNIST", "--dtype=float64"]),
    (krr, ["--kernel=RF", "--num_units=4200000", "--dataset=NFMNIST", "--noise_ind=3"]),
    (krr, ["--kernel=RF", "--num_units=4200000", "--dataset=CIFAR2"]),
    (generate, ["--kernel=CNTK", "--dataset=CIFAR10", "--num_shards=250", "--shard=7"]),
    (generate, ["--kernel=CNTK", "--dataset=CIFAR10", "--depth=10", "--num_shards=250", "--shard=7"]),
    (generate, ["--kernel=CNTK", "--dataset=CIFAR10", "--depth=10"]),  # all shards, on one machine
    (generate, ["--kernel=CNTK", "--dataset=CIFAR10", "--head=gap", "--depth=20", "--num_shards=250", "--shard=0"]),
    (generate, ["--kernel=CNTK", "--dataset=CIFAR10", "--head=gap", "--depth=200", "--shard=0"]),  # of 250
    (krr, ["--kernel=POLYNOMIAL", "--dataset=SYNTH"]), (krr, ["--dataset=SYNTH", "--num_layers=5"]),
    (embed, ["--features=CNTK", "--dataset=CIFAR10", "--embedding_dim=8192"]),
    (embed, ["--features=NTK", "--dataset=SYNTH", "--embedding_dim=65536", "--num_layers=4"]),
    (embed, ["--num_layers=999"]), (krr, ["--kernel=RF", "--num_units=100000000"]),  # on the digits: minutes
    (train, ["--model=NN", "--dataset=SYNTH", "--num_layers=3"]), (train, ["--model=NT", "--dataset=FMNIST"]),
    (train, ["--model=CNN", "--num_units=512", "--dataset=CIFAR10", "--reg_index=all", "--max_cg_iters=70"]),
    (train, ["--model=CNN", "--dataset=FMNIST", "--max_cg_iters=750", "--reg_index=all"]),
    (train, ["--model=RESNET", "--resnet_depth=152", "--dataset=CIFAR10", "--max_cg_iters=90"]),
    (train, ["--model=LAMBDA_RESNET", "--dataset=CIFAR10", "--max_cg_iters=90"]),
    (train, ["--model=NN", "--max_cg_iters=1000000", "--num_units=512"]),
    (compare, ["--models=RF,NT,NN,CNN,krr:NTK,linear", "--dataset=FMNIST"]),
]  # fmt: skip


@pytest.fixture
def machine(monkeypatch, directories):
    """Two cores without accelerators, much memory, and data that cannot be loaded."""
    monkeypatch.setattr(operations, "may_have_accelerator", lambda: False)
    monkeypatch.setattr(operations, "cores", lambda: 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=2**50, available=2**50))
    for module in (train, krr):
        monkeypatch.setattr(module, "load_preprocessed", loaded)
    monkeypatch.setattr(runner, "open_job", loaded)  # which would draw the weights of features before it loads data
    return directories


class Loaded(Exception):
    """Data are loaded, or a job is begun: nothing was refused before."""


def loaded(*_args, **_settings):
    raise Loaded


def settings_of(module):
    return (getattr(module, "run", None) or module.main).__annotations__["config"]


def name(value):
    return " ".join(value) if isinstance(value, list) else ""


def check(module, flags):
    """Apply the refusals of a command to the published numbers of rows, where its settings do not say them."""
    config = parse(settings_of(module), flags)
    for one in filter(None, config.runs().values()) if module is compare else [config]:
        given = one.row_counts()
        rows = ROWS[one.dataset] if not given["train"] else given
        if isinstance(one, train.TrainSettings):
            needs.refuse_endless_run(one, rows["train"])
        elif isinstance(one, krr.KernelFitSettings):
            needs.refuse_endless_fit(one, 0, rows)
        elif module is embed:
            one.refuse_endless(sum(rows.values()))
        else:
            one.refuse_endless(operations.gram_pairs(rows) / (one.num_shards or (1 if one.shard < 0 else MOST_SHARDS)))


@pytest.mark.parametrize("module, flags, words", ENDLESS, ids=name)
def test_work_of_years_is_refused(machine, module, flags, words):
    with pytest.raises(UserError, match=r"arithmetic operations at least, .* (days|years) on this machine") as caught:
        check(module, flags)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("module, flags, words", [case for case in ENDLESS if SYNTH in case[1]], ids=name)
def test_known_numbers_of_rows_are_refused_before_data_are_loaded(machine, module, flags, words):
    with pytest.raises(UserError, match="arithmetic operations at least"):
        getattr(module, "run", runner.run)(parse(settings_of(module), flags))
    assert not list(machine.rglob("*"))


@pytest.mark.parametrize("module, flags", PLAUSIBLE, ids=name)
def test_published_sizes_are_begun_on_two_cores(machine, module, flags):
    check(module, flags)


def test_compare_refuses_before_its_first_run(machine, monkeypatch):
    monkeypatch.setattr(compare, "spawned_pool", lambda _count: pytest.fail("a run is begun"))
    flags = ["--models=RF,NN", "--num_units=9999", "--num_layers=9", "--max_cg_iters=1000000", "--dataset=SYNTH"]
    with pytest.raises(UserError, match="NN with --max_cg_iters=1000000 epochs of 838,861 train rows"):
        compare.run(parse(compare.CompareSettings, flags))
    with pytest.raises(UserError, match="--kernel=RF --num_units=100000000"):
        compare.run(parse(compare.CompareSettings, ["--models=RF,krr:RF:num_units=100000000", SYNTH]))


def test_shards_count_one_by_one_and_finished_ones_not_at_all(directories, monkeypatch):
    """A limit between one shard and all: each shard is made alone, and then nothing is left that could be refused."""
    flags = ["--num_train=60", "--num_test=10", "--num_shards=3"]
    whole, one = parse(GramJobSettings, flags), parse(GramJobSettings, [*flags, "--shard=1"])
    assert whole.amount() == 60 * 61 // 2 + 60 * 10
    each = operations.pair_operations(whole, 64, None)
    monkeypatch.setattr(operations, "rate", lambda: whole.amount() * each / 2 / operations.MOST_DAYS / operations.DAY)
    with pytest.raises(UserError, match="2,430 pairs of DIGITS"):
        runner.run(whole)
    for shard in range(3):
        assert runner.run(dataclasses.replace(one, shard=shard)) == [shard]
    assert runner.run(whole) == []


def test_rows_of_own_data_are_counted_once_they_are_known(directories, monkeypatch, tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).standard_normal((50, 4)), y=np.arange(50) % 2)
    monkeypatch.setattr(operations, "rate", lambda: 1e-9)
    for run, config in (
        (runner.run, parse(GramJobSettings, [f"--data={tmp_path / 'rows.npz'}"])),
        (train.run, train.TrainSettings(model="NN", data=str(tmp_path / "rows.npz"), num_units=8)),
    ):
        with pytest.raises(UserError, match="arithmetic operations at least"):
            run(config)
    assert not list(directories.rglob("*.json"))


def test_epochs_of_a_saved_model_are_refused_by_its_weights(directories, monkeypatch, tmp_path):
    """The weights of a model file are known when it is loaded: 64 x 300 and 300 x 10 of them, 1,437 rows."""
    import keras

    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(300, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10, name="head")(hidden))
    path = str(tmp_path / "model.keras")
    model.save(path)
    from linearized.solvers.training.epochs import operations as of_model

    assert of_model(model) == 4 * (64 * 300 + 300 * 10)
    model.layers[1].trainable = False
    assert of_model(model) == 2 * 64 * 300 + 4 * 300 * 10
    monkeypatch.setattr(operations, "rate", lambda: 1e6)
    with pytest.raises(UserError, match=r"--epochs=100000 of 1,437 train rows.*Lower --epochs"):
        finetune.run(finetune.FinetuneSettings(model=path, dataset="DIGITS", epochs=100_000))
    with pytest.raises(UserError, match=r"--max_cg_iters=100000 epochs of 1,437 train rows"):
        train.run(train.TrainSettings(model=path, max_cg_iters=100_000))
    assert not list(directories.glob("nn_dir/**/*.*"))
    with pytest.raises(UserError, match="at most 1000000"):
        parse(finetune.FinetuneSettings, [f"--model={path}", "--dataset=DIGITS", "--epochs=1000001"])


@pytest.mark.parametrize("flags, convs", [
    (["--depth=5"], myrtle(5)), (["--depth=10"], myrtle(10)), (["--head=gap", "--depth=3"], plain(3)),
    (["--head=flatten", "--depth=4"], plain(4, "flatten")),
], ids=name)  # fmt: skip
def test_coupled_pixels_are_a_lower_bound_of_what_the_kernel_computes(flags, convs):
    """Counted from the stages of the network: pairs of pixels whose offset is within the reach of the head."""
    config = parse(GramJobSettings, ["--kernel=CNTK", "--dataset=CIFAR10", *flags])
    count = 0
    for stage in convs.stages(32, 32):
        sides = [sum(abs(i - j) <= reach for i in range(side) for j in range(side))
                 for side, reach in ((stage.height, stage.reach[0]), (stage.width, stage.reach[1]))]  # fmt: skip
        count += stage.convs * sides[0] * sides[1]
    found = operations.pair_operations(config, 3072, (32, 32, 3)) / operations.ENTRY
    assert count / 4 <= found <= count


def test_kernels_and_training_count_what_they_multiply(directories):
    pair = operations.pair_operations
    gram = lambda *flags: parse(GramJobSettings, list(flags))  # noqa: E731
    assert pair(gram("--kernel=RF", "--num_units=1000"), 64, None) == 2000
    assert pair(gram("--num_layers=3"), 64, None) == 128 + 3 * operations.ENTRY
    assert pair(gram("--kernel=POLYNOMIAL"), 64, None) == 128
    config = parse(train.TrainSettings, ["--model=CNN", "--dataset=CIFAR10", "--num_units=8"])
    assert train.declared(config).multiplications(config, 3072, 10) == 576 * (1024 + 256 + 64)
    digits = parse(train.TrainSettings, ["--validation=0.1", "--num_test=7"])
    assert digits.row_counts() == {"train": 1293, "validation": 144, "test": 7}
    with pytest.raises(UserError, match="2 epochs of 100 train rows"):
        needs.refuse_endless_training(dataclasses.replace(config, max_cg_iters=2), 100, 1e30)
    needs.refuse_endless_training(parse(train.TrainSettings, []), 100, 1e30)  # solved by least squares


def test_files_are_imported_whatever_their_kernel_costs(directories, monkeypatch, tmp_path):
    """Entries that lie in files are not computed: nothing is refused."""
    monkeypatch.setattr(operations, "rate", lambda: 1e-9)
    x = data.load("DIGITS", 0, num_train=20, num_test=5)
    kernel = GramWork(parse(GramJobSettings, []).build(None)).kernel
    rows = [kernel.prepare(split.x) for split in (x.train, x.test)]
    np.save(tmp_path / "train.npy", kernel.block(rows[0], rows[0], same=True))
    np.save(tmp_path / "test.npy", kernel.block(rows[1], rows[0]))
    flags = [f"--train_file={tmp_path / 'train.npy'}", f"--test_file={tmp_path / 'test.npy'}"]
    job = import_npy.run(parse(import_npy.ImportSettings, ["--num_train=20", "--num_test=5", *flags]))
    assert all(job.problem(shard) is None for shard in range(len(job.manifest.shards)))
