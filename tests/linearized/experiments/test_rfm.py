"""`linearized krr --kernel=RFM`: every iteration is a candidate and recorded, a killed run goes on at its iteration."""

import re
import types

import numpy as np
import pytest

import linearized
from kernel_gen.kernels.stretched import correlation
from kernel_gen.status import StatusSettings
from linearized.base.errors import UserError
from linearized.cli import gram as gram_command
from linearized.cli import krr as krr_command
from linearized.experiments import feature_machine_iterations, feature_machine_solve, select
from linearized.experiments.compare_models import settings_of
from linearized.experiments.iteration_table import shown_steps
from linearized.experiments.krr import KernelFitSettings as Config
from linearized.experiments.krr import run
from linearized.kernel_ridge import feature_machine
from linearized.kernel_ridge.estimator import KernelRidgePath
from linearized.report.recipes.figure_recipe import Run
from linearized.report.reproduce import collected
from linearized.settings.config import parse
from linearized.storage.results import load_arrays

SMALL = {"kernel": "RFM", "dataset": "SYNTH", "synth_dim": 25, "synth_eta": 0.5, "synth_n": 1000, "noise_ind": "6",
         "num_train": 180, "num_test": 60, "validation": 60}  # fmt: skip
RIDGES = "0.001,0.1,10"


@pytest.fixture
def machine(directories):
    return run(Config(**SMALL, iterations=2, ridges=RIDGES))[0]


def losses(step, split="validation"):
    return [entry[f"{split}_loss"] for entry in step["ridges"]]


SOLVE = feature_machine_solve.solved


def counted(monkeypatch, most=None):
    """Return a list to which every solved step is added; after `most` of them the process is stopped."""
    steps = []

    def solve(*given, **named):
        if len(steps) == most:
            raise KeyboardInterrupt
        steps.append(named["step"])
        return SOLVE(*given, **named)

    monkeypatch.setattr(feature_machine_solve, "solved", solve)
    return steps


def test_the_record_has_every_iteration_and_the_table_of_the_best(machine):
    about = machine.record["feature_machine"]
    assert [step["iteration"] for step in about["steps"]] == [0, 1, 2]
    assert about["variants"][0]["name"] == "full, centred"
    best = about["steps"][about["best"]]
    assert min(losses(best)) == min(min(losses(step)) for step in about["steps"])
    assert [entry["validation_loss"] for entry in machine.record["ridges"]] == losses(best)
    assert machine.chosen["test_loss"] == losses(best, "test")[best["position"]]
    first = about["steps"][0]
    assert first["effective_rank"] == pytest.approx(25) and first["overlap"] == pytest.approx(5 / 25)
    assert about["steps"][1]["overlap"] > 2 * first["overlap"]
    assert not (machine.folder / "unfinished").exists()
    assert machine.record["made_by"]["seeds"] and machine.record["title"].startswith("RFM_LAPLACE on SYNTH")


def test_a_recipe_finds_its_run_by_iterations_and_a_count_of_validation_rows(machine):
    """A row of `collect` has the solver's iterations too, and a count of validation rows is kept as a float."""
    flags = {**SMALL, "iterations": 2, "ridges": RIDGES, "exp_name": machine.folder.parent.name}
    [found] = collected([Run("RFM", 6, 0, "krr", flags)]).to_dict("records")
    assert found["setting_iterations"] == 2 and found["iterations"] == machine.chosen["iterations"]
    assert found["test_loss"] == machine.chosen["test_loss"] and found["label"] == "RFM"
    for change in ({"iterations": 3}, {"validation": 59}, {"rfm_diagonal": True}, {"ridges": "1"}):
        assert collected([Run("RFM", 6, 0, "krr", {**flags, **change})]).empty


def test_iteration_0_is_the_fixed_kernel_and_the_others_are_those_of_the_library(machine, directories):
    steps = machine.record["feature_machine"]["steps"]
    flags = {name: value for name, value in SMALL.items() if name != "kernel"}
    fixed = run(Config(kernel="LAPLACE", **flags, ridges=RIDGES))[0]
    for split in ("train", "validation", "test"):
        found = [entry[f"{split}_loss"] for entry in fixed.record["ridges"]]
        np.testing.assert_allclose(losses(steps[0], split), found, rtol=1e-4)
    rows = linearized.load("SYNTH", 6, num_train=180, num_test=60, validation=60, synth_dim=25, synth_eta=0.5,
                           synth_n=1000)  # fmt: skip
    ridges = [float(ridge) for ridge in RIDGES.split(",")]
    made = feature_machine.fit(rows.train.x, rows.train.y, rows.validation.x, rows.validation.y, ridges=ridges,
                               iterations=2)  # fmt: skip
    for step, expected in zip(steps, made.steps, strict=True):
        np.testing.assert_allclose(losses(step), expected.validation_losses, rtol=1e-3)
        assert step["bandwidth"] == pytest.approx(expected.bandwidth, rel=1e-4)
    best = steps[machine.record["feature_machine"]["best"]]
    stored = load_arrays(machine.folder)
    assert stored["feature_machine/bandwidth"].tolist() == [best["bandwidth"]]
    np.testing.assert_allclose(stored["feature_machine/metric"], made.steps[made.best].metric, atol=1e-3)


def test_predictions_of_new_rows_are_those_of_the_learned_kernel(directories):
    flags = {name: value for name, value in SMALL.items() if name not in ("kernel", "dataset")}
    found = linearized.krr("RFM", "SYNTH", **flags, iterations=1, ridges=RIDGES, base="gaussian", rfm_diagonal=True)
    rows = found._dataset.test.x
    np.testing.assert_allclose(found.decision(rows), load_arrays(found.folder)["predictions/test"], atol=1e-4)
    assert found.metric.shape == (25,) and found.metric.sum() == pytest.approx(25)
    layer = np.diag(np.sqrt(found.metric))
    network = types.SimpleNamespace(weights=[np.ones(25), layer, np.ones((25, 3))])
    assert found.correlation_with(network) == pytest.approx(1)
    for shapes in ([(24, 3)], [(3, 3, 1, 4), (25, 3)], [(4,)]):  # other inputs, a convolution, no matrix
        with pytest.raises(UserError, match="no first layer of 25 inputs"):
            found.correlation_with(types.SimpleNamespace(weights=[np.ones(shape) for shape in shapes]))
    fixed = linearized.krr("LAPLACE", "SYNTH", **flags, ridges=RIDGES)
    with pytest.raises(UserError, match="a run of LAPLACE"):
        fixed.correlation_with(network)


@pytest.mark.parametrize("flags, killed_at", [
    ({"iterations": 3}, 2), ({"iterations": 3}, 0),
    ({"iterations": 2, "rfm_search": True}, 4), ({"iterations": 2, "rfm_bandwidths": "0.5,2"}, 3),
    ({"iterations": 1, "rfm_search": True}, 10),
])  # fmt: skip
def test_a_killed_run_goes_on_at_its_iteration(flags, killed_at, directories, monkeypatch):
    config = Config(**SMALL, **flags, ridges=RIDGES)
    solves = counted(monkeypatch, most=killed_at)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    done = list(solves)
    solves = counted(monkeypatch)
    resumed = run(config)[0]
    again = list(solves)
    whole = run(Config(**SMALL, **flags, ridges=RIDGES, job_id=1))[0]
    steps = solves[len(again) :]
    assert done + again[: len(steps) - len(done)] == steps
    assert len(again) <= len(steps) - len(done) + 1  # the best one again, where the killed process had solved it
    for one, other in zip(resumed.record["feature_machine"]["steps"], whole.record["feature_machine"]["steps"],
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(losses(one, "test"), losses(other, "test"), rtol=1e-5)
    assert resumed.record["feature_machine"]["best"] == whole.record["feature_machine"]["best"]
    np.testing.assert_allclose(resumed.chosen["test_loss"], whole.chosen["test_loss"], rtol=1e-5)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A saved network of 25 inputs, and the weights of its first layer, which takes the first five inputs alone."""
    import keras

    weights = np.random.default_rng(0).normal(size=(25, 8)) * (np.arange(25)[:, None] < 5)
    model = keras.Sequential([keras.Input((25,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    model.layers[0].kernel.assign(weights)
    path = tmp_path_factory.mktemp("network") / "network.keras"
    model.save(path)
    return str(path), weights.astype(np.float32)


@pytest.mark.parametrize("diagonal", [False, True])
def test_every_iteration_has_the_correlation_with_a_network(network, diagonal, directories, capsys):
    path, weights = network
    flags = {**SMALL, "iterations": 2, "ridges": RIDGES, "ansatz_model": path, "rfm_diagonal": diagonal}
    assert krr_command.command([f"--{name}={value}" for name, value in flags.items()]) == 0
    assert "ansatz" in capsys.readouterr().out
    [found] = run(Config(**flags))
    about, arrays = found.record["feature_machine"], load_arrays(found.folder)
    best = about["steps"][about["best"]]
    metric = arrays["feature_machine/metric"]
    products = weights @ weights.T
    assert best["iteration"] and best["ansatz"] == pytest.approx(correlation(metric, weights))
    expected = (metric, np.diag(products)) if diagonal else (metric.ravel(), products.ravel())
    assert best["ansatz"] == pytest.approx(np.corrcoef(*expected)[0, 1]) and best["ansatz"] > 0.4
    strengths = arrays["feature_machine/network"]
    np.testing.assert_allclose(strengths, 25 * np.diag(products) / np.trace(products), rtol=1e-5)
    fixed = about["steps"][0]["ansatz"]  # of equal entries there is no correlation
    assert fixed is None if diagonal else fixed == pytest.approx(correlation(np.eye(25), weights))
    assert (found.folder / "features.png").stat().st_size > 10_000
    plain = run(Config(**{**flags, "ansatz_model": ""}))[0]
    assert plain.record["feature_machine"]["steps"][1]["ansatz"] is None
    assert plain.chosen["test_loss"] == found.chosen["test_loss"]


def test_a_network_that_cannot_be_compared_is_refused_in_one_line(network, tmp_path, directories, capsys):
    import keras

    text, narrow, deep = (str(tmp_path / f"{name}.keras") for name in ("text", "narrow", "deep"))
    (tmp_path / "text.keras").write_text("no model")
    keras.Sequential([keras.Input((24,)), keras.layers.Dense(3)]).save(narrow)
    layers = [keras.layers.Reshape((5, 5, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
    keras.Sequential([keras.Input((25,)), *layers]).save(deep)
    for path, words in (
        (str(tmp_path / "none.keras"), "none.keras"), (text, "text.keras"), ("model.h5", "is a .keras file"),
        (narrow, r"takes inputs of shape \(24,\), and SYNTH has rows of 25"), (deep, "no first layer of 25 inputs"),
    ):  # fmt: skip
        flags = {**SMALL, "iterations": 1, "ridges": RIDGES, "ansatz_model": path}
        assert krr_command.command([f"--{name}={value}" for name, value in flags.items()]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert re.search(words, line), line


def test_damaged_files_of_a_killed_run_are_made_again(directories, monkeypatch):
    config = Config(**SMALL, iterations=3, ridges=RIDGES)
    counted(monkeypatch, most=3)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    counted(monkeypatch)
    for path in (config.folder() / "unfinished").glob("*_0003.npz"):
        path.write_bytes(path.read_bytes()[:-20])
    (config.folder() / "unfinished" / "step_000_0001.npz").unlink()
    resumed = run(config)[0]
    whole = run(Config(**SMALL, iterations=3, ridges=RIDGES, job_id=1))[0]
    for one, other in zip(resumed.record["feature_machine"]["steps"], whole.record["feature_machine"]["steps"],
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(losses(one, "test"), losses(other, "test"), rtol=1e-5)


def test_a_search_takes_the_best_two_of_eight_metrics_to_a_further_base_kernel(directories, capsys):
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    assert krr_command.command([*flags, "--iterations=2", f"--ridges={RIDGES}", "--rfm_search"]) == 0
    text = capsys.readouterr().out
    assert "iterations, each at its best ridge" in text and "fixed kernel" in text and "diagonal" in text
    config = parse(Config, [*flags, "--iterations=2", f"--ridges={RIDGES}", "--rfm_search"])
    about = run(config)[0].record["feature_machine"]
    assert len(about["variants"]) == 8 + 2 and len(about["steps"]) == 1 + 8 * 2 + 1 + 2 * 2
    assert [step["variant"] for step in about["steps"] if step["iteration"] == 0] == [0, 8]
    entries = [min(losses(step)) for step in about["steps"]]
    assert about["best"] == int(np.argmin(entries))
    shown = shown_steps(about, "accuracy")
    assert about["best"] in shown and len(shown) == 3 + 9 and shown == list(dict.fromkeys(shown))
    reached = {number: min(min(losses(step)) for step in about["steps"][1:] if step["variant"] == number)
               for number in range(8)}  # fmt: skip
    carried = [{**about["variants"][number], "base": "GAUSSIAN"} for number in sorted(reached, key=reached.get)[:2]]
    assert [{**variant, "name": ""} for variant in about["variants"][8:]] == [{**one, "name": ""} for one in carried]
    assert "base GAUSSIAN" in about["variants"][8]["name"]


def test_a_search_finds_the_smooth_kernel_of_a_polynomial_of_few_columns(directories):
    flags = {"index_dim": 20, "num_train": 400, "num_test": 200, "validation": 100}
    found = linearized.krr("RFM", "STAIRCASE", **flags, iterations=2, ridges=[1e-4, 1e-2, 1], rfm_search=True)
    about = found.record["feature_machine"]
    best = about["variants"][about["steps"][about["best"]]["variant"]]
    own = run(Config(kernel="RFM", dataset="STAIRCASE", **flags, iterations=2, ridges="1e-4,1e-2,1", rfm_search=True,
                     rfm_bases=""))[0]  # fmt: skip
    assert len(own.record["feature_machine"]["variants"]) == 8
    loss = found.record["ridges"][found.record["chosen"]["position"]]["test_loss"]
    assert best["base"] == "GAUSSIAN" and loss < 0.5 * own.chosen["test_loss"]
    rows = found._dataset.test.x
    np.testing.assert_allclose(found.decision(rows), load_arrays(found.folder)["predictions/test"], atol=1e-3)


def test_a_further_base_has_ridges_by_the_trace_of_its_own_matrix(directories):
    about = run(Config(**SMALL, base="NTK", iterations=0, rfm_search=True))[0].record["feature_machine"]
    starts = {about["variants"][step["variant"]]["base"]: step["ridges"][0]["ridge"] for step in about["steps"]}
    assert list(starts) == [""]  # without iterations there is no best metric to take to another kernel
    about = run(Config(**SMALL, base="NTK", iterations=1, rfm_search=True, rfm_bases="laplace"))[0].record
    steps, variants = about["feature_machine"]["steps"], about["feature_machine"]["variants"]
    starts = {variants[step["variant"]]["base"]: step["ridges"][0]["ridge"] for step in steps}
    assert starts["LAPLACE"] == pytest.approx(1e-8 * 120) and starts[""] != pytest.approx(1e-8 * 120, rel=1e-3)


def test_without_validation_rows_iterations_are_chosen_by_leave_one_out(directories):
    found = run(Config(**{**SMALL, "validation": 0.0}, iterations=1, ridges=RIDGES))[0]
    assert found.record["chosen"]["by"].startswith("leave-one-out")
    steps = found.record["feature_machine"]["steps"]
    assert all(entry["leave_one_out_loss"] > 0 for step in steps for entry in step["ridges"])
    best = min(min(losses(step, "leave_one_out")) for step in steps)
    assert found.chosen["leave_one_out_loss"] == best


def test_metrics_follow_the_lowest_loss_even_where_accuracy_is_chosen_by():
    entries = [{"validation_loss": 2.0, "validation_accuracy": 0.9, "converged": True, "ridge": 1.0},
               {"validation_loss": 1.0, "validation_accuracy": 0.8, "converged": True, "ridge": 2.0},
               {"validation_loss": 0.5, "validation_accuracy": 0.8, "converged": False, "ridge": 3.0}]  # fmt: skip
    assert select.choose(entries).position == 0 and select.lowest_loss(entries) == 1
    assert select.lowest_loss([{"validation_loss": None}, entries[0]]) == 1
    with pytest.raises(UserError, match="No ridge could be solved"):
        select.lowest_loss([{"validation_loss": None}])


@pytest.mark.parametrize("flags, words", [
    (["--kernel=RFM", "--base=CNTK"], "known of .*LAPLACE.*Received: CNTK"),
    (["--kernel=RFM", "--base=RFM"], "Received: RFM"), (["--kernel=RFM", "--iterations=-1"], "at least 0"),
    (["--kernel=RFM", "--bandwidth=-1"], "--bandwidth must be at least 0"),
    (["--kernel=RFM", "--rfm_bandwidths=0"], "--rfm_bandwidths must be"),
    (["--kernel=RFM", "--rfm_bandwidths=1,x"], "--rfm_bandwidths takes numbers"),
    (["--kernel=RFM", "--rfm_bandwidths=1,2", "--bandwidth=1"], "--rfm_bandwidths is read .*bandwidth=0"),
    (["--kernel=RFM", "--rfm_search", "--rfm_diagonal"], "--rfm_diagonal is read .*rfm_search=False"),
    (["--kernel=RFM", "--rfm_search", "--rfm_bases=CNTK"], "known of .*LAPLACE.*Received: CNTK"),
    (["--kernel=RFM", "--rfm_search", "--rfm_bases=laplace,gauss"], "Unknown kernel .*gauss"),
    (["--kernel=RFM", "--rfm_bases=GAUSSIAN"], "--rfm_bases is read .*rfm_search=True"),
    (["--kernel=RFM", "--rfm_search", "--rfm_bases=GAUSSIAN", "--bandwidth=2"], "--rfm_bases is read .*bandwidth=0"),
    (["--kernel=RFM", "--smoothness=1.5"], "--smoothness is read .*base=MATERN"),
    (["--kernel=RFM", "--num_layers=2"], "--num_layers is read by"),
    (["--kernel=RFM", "--base=RF", "--num_units=8"], "--num_units is read by --kernel=RF"),
    (["--kernel=RFM", "--base=NTK", "--activation=erf"], "--activation is read by --kernel="),
    (["--kernel=RFM", "--base=NTK", "--rfm_bandwidths=1,2"], "--rfm_bandwidths is read .*base=LAPLACE"),
    (["--kernel=RFM", "--num_shards=2"], "--num_shards is read by kernels other than RFM"),
    (["--kernel=NTK", "--iterations=2"], "--iterations is read by --kernel=RFM"),
    (["--kernel=LAPLACE", "--ansatz_model=model.keras"], "--ansatz_model is read by --kernel=RFM"),
    (["--kernel=RFM", "--rfm_power=0"], "--rfm_power must be at least"),
    (["--kernel=RFM", "--num_train=40", "--num_test=20", "--rfm_sample=41"], "There are 40 train rows"),
    (["--kernel=RFM", "--features=NTK"], "Leave out --kernel=RFM"),
])  # fmt: skip
def test_what_a_feature_machine_cannot_do_is_refused_in_one_line(flags, words, directories, capsys):
    assert krr_command.command(flags) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert re.search(words, line), line


def test_gram_names_the_command_for_a_kernel_of_labels(directories, capsys):
    for flags in (["--kernel=RFM"], ["--kernel=RFM", "--list"]):
        assert gram_command.command(flags) == 2
        assert "linearized krr --kernel=RFM" in capsys.readouterr().err


def test_settings_of_the_base_name_the_run(directories):
    keys = {Config(**SMALL, **more).key() for more in (
        {}, {"base": "MATERN"}, {"base": "MATERN", "smoothness": "1.5"}, {"bandwidth": 2.0}, {"rfm_search": True},
        {"rfm_search": True, "rfm_bases": ""}, {"rfm_bandwidths": "1,2"}, {"rfm_sample": 10}, {"iterations": 4},
        {"rfm_power": 0.5}, {"rfm_centred": False},
    )}  # fmt: skip
    assert len(keys) == 11


def test_a_full_metric_that_does_not_fit_in_memory_names_the_diagonal(directories, monkeypatch):
    monkeypatch.setattr(feature_machine_iterations, "MATRICES", 10**12)
    with pytest.raises(UserError, match=r"full metric of 25 columns .*Take --rfm_diagonal"):
        run(Config(**SMALL, iterations=1, ridges=RIDGES))
    assert run(Config(**SMALL, iterations=1, ridges=RIDGES, rfm_diagonal=True))[0].record["feature_machine"]


def test_entries_of_compare_and_other_commands_that_name_a_kernel():
    made = settings_of("krr:RFM:iterations=2:base=gaussian", {"dataset": "DIGITS", "validation": 0.2})
    assert (made.kernel, made.iterations, made.base, made.validation) == ("RFM", 2, "GAUSSIAN", 0.2)
    with pytest.raises(UserError, match=r"linearized krr --kernel=RFM"):
        parse(StatusSettings, ["--kernel=RFM"])
    with pytest.raises(UserError, match=r"linearized krr --kernel=RFM"):
        KernelRidgePath(kernel="RFM").fit(np.eye(4), np.arange(4.0))
