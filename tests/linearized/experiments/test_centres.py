"""`linearized krr --centres`: from settings to a result, and what is refused."""

import json

import numpy as np
import pytest

import kernel_gen
import linearized
from linearized.base.errors import UserError
from linearized.data.loading import load_preprocessed
from linearized.experiments.krr import KernelFitSettings as Config
from linearized.experiments.krr import run
from linearized.experiments.table import print_table
from linearized.settings.config import parse
from linearized.storage import results
from linearized.storage.result_schema import BadRecord, check_record

SMALL = {"dataset": "DIGITS", "num_train": 90, "num_test": 40, "dtype": "float64", "ridges": "1,5,30"}


def test_all_rows_as_centres_give_the_table_of_the_kernel(directories):
    [full], [ours] = run(Config(**SMALL)), run(Config(**SMALL, centres=90, centre_choice="rpcholesky"))
    for one, other in zip(ours.record["ridges"], full.record["ridges"], strict=True):
        for name in ("train_loss", "test_loss", "test_accuracy", "degrees_of_freedom", "gcv"):
            assert one[name] == pytest.approx(other[name], rel=1e-5), name
    assert ours.record["chosen"] == full.record["chosen"]
    assert ours.record["centres"] | {"trace": 0} == {
        "asked": 90, "count": 90, "choice": "rpcholesky", "seed": 0, "pool": 90, "lost": pytest.approx(0, abs=1e-7),
        "trace": 0,
    }  # fmt: skip
    assert not list((directories / "ntk_dir").glob("*c90*"))  # no matrix is stored


@pytest.mark.parametrize("settings", [
    {"kernel": "GAUSSIAN", "centres": 30}, {"kernel": "NTK", "centres": 30, "validation": 20.0, "centre_seed": 3},
])  # fmt: skip
def test_a_result_has_the_minimiser_on_its_centres_and_predicts_new_rows(directories, settings, capsys):
    config = Config(**SMALL, **settings)
    [result] = run(config)
    dataset, arrays = load_preprocessed(config, 0), results.load_arrays(result.folder)
    x, y = np.asarray(dataset.train.x), dataset.targets(dataset.train, centred=True).astype(np.float64)
    own = kernel_gen.KERNELS.load(config.kernel).build(config, dataset.image_shape).on(x)
    rows = arrays["centres"]
    train, test = (kernel_gen.gram(own, split, x[rows]) for split in (x, np.asarray(dataset.test.x)))
    for place, entry in enumerate(result.record["ridges"]):
        normal = train.T @ train + entry["ridge"] * train[rows]
        np.testing.assert_allclose(normal @ arrays["alpha"][place], train.T @ y, rtol=1e-6, atol=1e-6 * np.abs(y).max()
                                   * np.abs(train).max())  # fmt: skip
        accuracy = ((test @ arrays["alpha"][place]).argmax(axis=1) == dataset.test.y).mean()
        assert entry["test_accuracy"] == accuracy
    print_table(result.record)
    assert "centres: 30 of" in capsys.readouterr().out
    assert not run(config)[0].fresh


@pytest.mark.parametrize("settings", [{"centres": 30}, {"on_the_fly": True, "solver": "rpcholesky", "memory": 1e-5}])
def test_workers_and_a_scheduler_give_the_table_of_one_process(directories, settings):
    distributed = pytest.importorskip("distributed")
    [here] = run(Config(**SMALL, **settings))
    tried = [run(Config(**SMALL, **settings, workers=2, exp_name="workers"))]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster:
        tried.append(run(Config(**SMALL, **settings, scheduler=cluster.scheduler_address, exp_name="scheduler")))
    arrays = results.load_arrays(here.folder)
    for [there] in tried:
        assert there.fresh and there.record["settings"]["exp_name"] != here.record["settings"]["exp_name"]
        for one, other in zip(here.record["ridges"], there.record["ridges"], strict=True):
            for name in ("train_loss", "test_loss", "test_accuracy", "iterations"):
                assert other[name] == pytest.approx(one[name], rel=1e-6), name
        found = results.load_arrays(there.folder)["predictions/test"]
        np.testing.assert_allclose(found, arrays["predictions/test"], atol=1e-6)


def test_a_result_from_python_predicts_from_its_centres(directories):
    x, y = np.random.default_rng(0).normal(size=(2, 80, 5))
    found = linearized.krr("GAUSSIAN", (x[:60], y[:60, 0], x[60:], y[60:, 0]), centres=20, ridges="0.1")
    expected = results.load_arrays(found.folder)["predictions/test"]
    np.testing.assert_allclose(found.predict(x[60:]), expected[:, 0], atol=1e-4)


@pytest.mark.parametrize("words, message", [
    (["--centres=91"], r"of which there are 90\. Received: --centres=91"),
    (["--centres=30", "--memory=0.0001"], "Lower --centres, or raise --memory"),
])  # fmt: skip
def test_too_many_centres_are_refused(directories, words, message):
    with pytest.raises(UserError, match=message):
        run(parse(Config, [*(f"--{name}={value}" for name, value in SMALL.items()), *words]))


@pytest.mark.parametrize("words, message", [
    (["--centres=30", "--gram=folder"], "--centres is read with no --features and no --gram"),
    (["--centres=30", "--features=RF"], "--centres is read with no --features and no --gram"),
    (["--centres=30", "--num_shards=3"], "--num_shards is read with no --centres"),
    (["--workers=2"], r"--workers is read with --centres"),
    (["--centres=30", "--workers=2", "--scheduler=tcp://a:1"], "--workers is read with --centres and no --scheduler"),
    (["--solver=band", "--scheduler=tcp://a:1"], "--scheduler is read with --centres, or --on_the_fly, or by"),
    (["--centre_choice=uniform"], "--centre_choice is read with --centres"),
    (["--centre_seed=1"], "--centre_seed is read with --centres"),
])  # fmt: skip
def test_flags_without_effect_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        parse(Config, words)


def test_work_for_months_is_refused(directories):
    with pytest.raises(UserError, match="Lower --centres"):
        run(Config(dataset="SYNTH", synth_n=2**20, num_test=10, centres=1_000_000))


def test_a_damaged_record_of_centres_is_named(directories):
    [result] = run(Config(**SMALL, centres=10))
    record = json.loads(json.dumps(result.record))
    check_record(record)
    record["centres"]["lost"] = "much"
    with pytest.raises(BadRecord, match=r"centres\.lost"):
        check_record(record)
