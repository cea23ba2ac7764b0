"""`linearized krr --kernel=RFM` with `--centres` and `--on_the_fly`: as on all rows in memory, resumed, and small."""

import re
import tracemalloc

import numpy as np
import pytest

import linearized
from kernel_gen.kernels.radial import RadialKernel
from linearized.cli import krr as krr_command
from linearized.experiments import feature_machine_iterations, feature_machine_solve, rfm
from linearized.experiments.krr import KernelFitSettings as Config
from linearized.experiments.krr import run
from linearized.kernel_ridge import nystrom
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.nystrom import CentreRegression
from linearized.storage.results import load_arrays

SMALL = {"kernel": "RFM", "dataset": "SYNTH", "synth_dim": 25, "synth_eta": 0.5, "synth_n": 1000, "noise_ind": "6",
         "num_train": 180, "num_test": 60, "validation": 60, "iterations": 2, "ridges": "0.01,0.1,10",
         "dtype": "float64"}  # fmt: skip


def agree(one, other, rtol):
    """Compare the tables of two runs, split by split and ridge by ridge, and the best metric and predictions."""
    steps = [found.record["feature_machine"]["steps"] for found in (one, other)]
    assert len(steps[0]) == len(steps[1])
    for mine, yours in zip(*steps, strict=True):
        for name in ("train_loss", "validation_loss", "test_loss", "ridge"):
            found, expected = ([entry[name] for entry in step["ridges"]] for step in (mine, yours))
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-3 * rtol * max(expected))
        assert mine["effective_rank"] == pytest.approx(yours["effective_rank"], rel=rtol)
    assert one.record["feature_machine"]["best"] == other.record["feature_machine"]["best"]
    mine, yours = load_arrays(one.folder), load_arrays(other.folder)
    for name in ("feature_machine/metric", "predictions/test"):
        np.testing.assert_allclose(mine[name], yours[name], atol=rtol * np.abs(yours[name]).max())


@pytest.mark.parametrize("more", [
    {}, {"rfm_diagonal": True, "rfm_sample": 40, "centre_choice": "rpcholesky"}, {"ridges": "", "base": "GAUSSIAN"},
    {"base": "NTK"},
])  # fmt: skip
def test_with_all_rows_as_centres_every_iteration_is_that_of_all_rows(more, directories, monkeypatch):
    fits = []
    monkeypatch.setattr(feature_machine_solve, "gram", lambda *given: fits.append(given) or GRAM(*given))
    flags = {**SMALL, **more}
    [ours] = run(Config(**flags, centres=120))
    assert not fits
    own = {name: value for name, value in flags.items() if name != "centre_choice"}
    [whole] = run(Config(**own))
    assert len(fits) == 3
    agree(ours, whole, 1e-4)
    about = ours.record["centres"]
    assert about["asked"] == 120 >= about["count"] and about["lost"] < 1e-6
    assert not (ours.folder / "unfinished").exists()


GRAM = feature_machine_solve.gram


def test_workers_give_the_table_of_one_process(directories):
    pytest.importorskip("distributed")
    for more in ({"centres": 40}, {"on_the_fly": True, "memory": 1e-5, "rtol": 1e-11}):
        flags = {**SMALL, "iterations": 1, **more}
        agree(run(Config(**flags, workers=1, exp_name="workers"))[0], run(Config(**flags))[0], 1e-6)


def test_a_metric_follows_from_the_gradients_of_the_function_on_its_centres(directories, monkeypatch):
    """The next metric by differences of the predictor of iteration 0, which has 30 centres."""
    stored, save = {}, feature_machine_iterations.Checkpoint.save
    monkeypatch.setattr(feature_machine_iterations.Checkpoint, "save", lambda self, name, arrays: (
        stored.update({name: dict(arrays)}) or save(self, name, arrays)))  # fmt: skip
    [found] = run(Config(**{**SMALL, "iterations": 1}, centres=30, rfm_centred=False, base="GAUSSIAN"))
    step, metric = stored["step_000_0000"], stored["metric_000_0001"]["metric"]
    assert len(step["centres"]) == 30 == len(step["alpha"])
    rows = linearized.load("SYNTH", 6, num_train=180, num_test=60, validation=60, synth_dim=25, synth_eta=0.5,
                           synth_n=1000).train.x.astype(np.float64)  # fmt: skip
    bandwidth = found.record["feature_machine"]["steps"][0]["bandwidth"]

    def outputs(x):
        squares = np.square(x[:, None] - rows[step["centres"]]).sum(axis=2)
        return np.exp(-squares / (2 * bandwidth**2)) @ step["alpha"][:, 0]

    gradients = np.stack([(outputs(rows + 1e-5 * one) - outputs(rows - 1e-5 * one)) / 2e-5 for one in np.eye(25)])
    expected = gradients @ gradients.T
    np.testing.assert_allclose(metric, expected * 25 / np.trace(expected), atol=1e-5)


def test_few_centres_learn_the_directions_and_predict_new_rows_from_python(directories):
    flags = {name: value for name, value in SMALL.items() if name not in ("kernel", "dataset")}
    found = linearized.krr("RFM", "SYNTH", **flags, centres=60)
    arrays, steps = load_arrays(found.folder), found.record["feature_machine"]["steps"]
    assert arrays["alpha"].shape[1] == len(arrays["centres"]) == 60 and steps[2]["overlap"] > 2 * steps[0]["overlap"]
    rows = found._dataset.test.x
    np.testing.assert_allclose(found.decision(rows), arrays["predictions/test"], atol=1e-4)
    assert found.record["feature_machine"]["best"] > 0
    assert found.config.label() == "RFM_LAPLACE_c60" and found.record["centres"]["count"] == 60


def test_without_validation_rows_fits_on_centres_are_compared_by_generalised_cross_validation(directories):
    for solver in ("auto", "eigh"):
        [found] = run(Config(**{**SMALL, "validation": 0.0}, centres=60, solver=solver))
        assert found.record["chosen"]["by"].startswith("generalised cross-validation")
        steps = found.record["feature_machine"]["steps"]
        best = min(min(entry["gcv"] for entry in step["ridges"]) for step in steps)
        assert found.chosen["gcv"] == best and len(steps) == 3


@pytest.mark.parametrize("more", [{}, {"rfm_search": True, "iterations": 1, "rfm_bases": ""}])
@pytest.mark.parametrize("place", ["centres", "gradients"])
def test_a_killed_run_goes_on_at_its_iteration(place, more, directories, monkeypatch):
    config = Config(**{**SMALL, **more}, centres=50)
    solved, learn = feature_machine_solve.solved_on_centres, feature_machine_iterations.next_metric
    steps, done = [], []
    module, name, function, most = {
        "centres": (feature_machine_solve, "solved_on_centres", solved, 2),
        "gradients": (feature_machine_iterations, "next_metric", learn, 1),
    }[place]

    def stopping(*given, **named):
        if len(done) == most:
            raise KeyboardInterrupt
        done.append(1)
        return function(*given, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, stopping)
        run(config)
    with monkeypatch.context() as patch:
        patch.setattr(feature_machine_solve, "solved_on_centres",
                      lambda *given, **named: steps.append(named["step"]) or solved(*given, **named))  # fmt: skip
        [resumed] = run(config)
    assert not any("iteration 0" in step for step in steps)
    [whole] = run(Config(**{**SMALL, **more}, centres=50, job_id=1))
    agree(resumed, whole, 1e-6)
    assert not (resumed.folder / "unfinished").exists()


def test_a_killed_pass_over_the_rows_goes_on_at_its_block(directories, monkeypatch):
    """One block of the pass of iteration 1 is not computed again."""
    monkeypatch.setattr(RadialKernel, "tile", 16)
    config, blocks, equations = Config(**SMALL, centres=50, checkpoint_seconds=0), [], CentreRegression._equations

    def counted(most):
        def call(self, memory):
            over = self._passes.over

            def each(rows, step, function, tile, add, *given, **named):
                def seen(rows):
                    if len(blocks) == most:
                        raise KeyboardInterrupt
                    blocks.append(rows.start)
                    return tile(rows)

                over(rows, step, function, seen, add, *given, **named)

            monkeypatch.setattr(self._passes, "over", each)
            try:
                return equations(self, memory)
            finally:
                self._passes.over = over

        return call

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CentreRegression, "_equations", counted(8 + 5))
        run(config)
    assert blocks == [*range(0, 120, 16), *range(0, 80, 16)]
    blocks.clear()
    monkeypatch.setattr(CentreRegression, "_equations", counted(10**6))
    [resumed] = run(config)
    assert blocks[0] > 0 and blocks[-8:] == list(range(0, 120, 16)) and len(blocks) < 2 * 8
    monkeypatch.undo()
    agree(resumed, run(Config(**SMALL, centres=50, job_id=1))[0], 1e-6)


@pytest.mark.parametrize("more", [{}, {"solver": "rpcholesky"}, {"solver": "cg", "rfm_diagonal": True}])
def test_a_matrix_that_is_computed_in_every_product_gives_the_table_of_one_in_memory(more, directories, monkeypatch):
    monkeypatch.setattr(RadialKernel, "tile", 16)
    held, to_memory = [], ComputedGram.to_memory
    monkeypatch.setattr(ComputedGram, "to_memory", lambda self, *given: held.append(1) or to_memory(self, *given))
    written = []
    monkeypatch.setattr(feature_machine_solve, "gram_in_shards", lambda *given, **named: written.append(given))
    [ours] = run(Config(**SMALL, **more, rtol=1e-11, on_the_fly=True, memory=1e-5))
    assert ours.record["solver"]["name"] == more.get("solver", "block_lanczos") and not held and not written
    own = {name: value for name, value in more.items() if name != "solver"}
    [whole] = run(Config(**SMALL, **own, job_id=1))
    agree(ours, whole, 1e-6)
    [roomy] = run(Config(**SMALL, **more, rtol=1e-11, on_the_fly=True, memory=1.0, job_id=2))
    assert len(held) == 3
    agree(roomy, whole, 1e-6)


def test_a_fit_on_centres_takes_a_fraction_of_the_memory_of_the_kernel(directories, monkeypatch):
    """Arrays of all iterations stay below half of K of 1,800 rows, where a fit on all rows takes more than K."""
    monkeypatch.setattr(RadialKernel, "tile", 64)
    monkeypatch.setattr(nystrom, "BLOCK", 2**18)
    fit_level, peaks = rfm.fit_level, []

    def measured(*given):
        tracemalloc.start()
        try:
            found = fit_level(*given)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        return found

    monkeypatch.setattr(rfm, "fit_level", measured)
    flags = {**SMALL, "synth_n": 2000, "num_train": 1900, "validation": 100, "num_test": 500, "iterations": 1,
             "dtype": "float32", "bandwidth": 5.0}  # fmt: skip
    run(Config(**flags, centres=40, memory=0.01))
    run(Config(**flags, memory=1.0))
    assert peaks[0] < 4 * 1800**2 / 2 and peaks[1] > 4 * 1800**2


@pytest.mark.parametrize("flags, words", [
    (["--centres=50", "--on_the_fly"], "--on_the_fly is read"),
    (["--centres=50", "--num_shards=2"], "--num_shards is read by kernels other than RFM"),
    (["--centres=50", "--preconditioner_rank=5", "--solver=rpcholesky"], "--preconditioner_rank is read"),
    (["--centre_seed=1"], "--centre_seed is read with --centres"),
    (["--on_the_fly", "--solver=band"], "--on_the_fly is read by --solver=askotch, block_lanczos, cg, rpcholesky"),
    (["--workers=2"], "--workers is read with --centres"),
    (["--solver=cg", "--scheduler=tcp://a:1"], "--scheduler is read by kernels other than RFM.* or with --centres or"),
    (["--num_train=40", "--num_test=20", "--centres=41"], "of which there are 40.*--centres=41"),
    (["--num_train=40", "--num_test=20", "--centres=40", "--memory=0.0001"], "Lower --centres, or raise --memory"),
    (["--num_train=40", "--num_test=20", "--on_the_fly"], "Give --validation=0.2, or leave out --on_the_fly"),
])  # fmt: skip
def test_what_changes_nothing_or_does_not_fit_is_refused_in_one_line(flags, words, directories, capsys):
    assert krr_command.command(["--kernel=RFM", "--dataset=DIGITS", *flags]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert re.search(words, line), line


def test_centres_name_the_run_and_where_they_are_computed_does_not():
    one, other = (Config(**SMALL, **more) for more in ({"centres": 50}, {"centres": 60}))
    assert len({one.key(), other.key(), Config(**SMALL).key(), Config(**SMALL, centres=50, centre_seed=1).key()}) == 4
    assert one.key() == Config(**SMALL, centres=50, workers=2).key()
    assert Config(**SMALL).key() == Config(**SMALL, on_the_fly=True).key()
