"""Measurements of the tangent kernel: scores against brute force, resumption, laws, the record, refusals."""

import dataclasses
import json

import numpy as np
import pytest

from kernel_gen import gram
from linearized import data
from linearized.base.directories import KEYS
from linearized.base.errors import TryLater, UserError
from linearized.experiments import gradient_fit, infinite_width, train
from linearized.experiments.grids import kernel_grid
from linearized.experiments.tangent_measures import TangentMeasures, kernel_scores, probe
from linearized.experiments.train import TrainSettings as Config
from linearized.models import nn
from linearized.problems.jacobian_problem import JacobianProblem
from linearized.report.run_pictures import draw_run
from linearized.solvers.linear import block_lanczos
from linearized.solvers.training import sgd
from linearized.storage import results
from linearized.storage.result_schema import BadRecord, check_record
from linearized.tangents.training_kernel import training_kernels

PLAIN = {"model": "NN", "num_units": 16, "num_train": 60, "num_test": 40, "max_cg_iters": 6, "learning_rate": 0.2,
         "parametrization": "mup", "checkpoint_seconds": 0.0}  # fmt: skip
RUN = {**PLAIN, "tangent_rows": "40,30"}


def brute_force(kernel, cross, y, shift):
    """Leave every row out in turn for every ridge; return the outputs of the best ridge on the test rows."""
    found = []
    n = len(y)
    for ridge in kernel_grid("OWN", trace=float(np.trace(kernel))):
        left = []
        for row in range(n):
            rest = np.arange(n) != row
            alpha = np.linalg.solve(kernel[np.ix_(rest, rest)] + ridge * np.eye(n - 1), y[rest])
            left.append(kernel[row, rest] @ alpha)
        outputs = np.stack(left) + shift
        accuracy = (outputs.argmax(1) == (y + shift).argmax(1)).mean()
        loss = np.square(outputs - y - shift).sum(1).mean()
        found.append((-accuracy, loss, cross @ np.linalg.solve(kernel + ridge * np.eye(n), y) + shift))
    return min(found, key=lambda entry: entry[:2])[2]


def test_scores_are_those_of_the_ridge_that_leaving_rows_out_chooses(tiny):
    rows = probe(tiny(n=40), 25, 15)
    assert (len(rows.train), len(rows.test), rows.validation) == (25, 15, None)
    x = np.concatenate([rows.train.x, rows.test.x]).astype(np.float64)
    whole = (1 + x @ x.T / 16) ** 2
    kernel, cross = whole[:25, :25], whole[25:, :25]
    y = rows.targets(rows.train).astype(np.float64)
    expected = brute_force(kernel, cross, y - 1 / 3, 1 / 3)
    assert kernel_scores(kernel, cross, rows) == pytest.approx(
        rows.score("test", expected.astype(np.float32)), rel=1e-4
    )
    start = {"train": np.full((25, 3), 0.5, np.float32), "test": np.full((15, 3), 0.25, np.float32)}
    found = kernel_scores(kernel, cross, rows, start)
    assert found["loss"] != kernel_scores(kernel, cross, rows)["loss"]
    perfect = {"train": y.astype(np.float32), "test": rows.targets(rows.test)}
    assert kernel_scores(kernel, cross, rows, perfect)["accuracy"] == 1  # nothing is left to fit
    assert kernel_scores(np.zeros((25, 25)), np.zeros((15, 25)), rows) == {}


def test_with_one_output_the_linearization_is_that_of_the_jacobian(tiny, config):
    rows = tiny("binary", n=30)
    model = nn.build(config(parametrization="ntk", num_units=16), rows)
    x, test = rows.train.x, rows.test.x
    kernel, cross = training_kernels(model, x, test)
    start = {name: sgd.predict(model, split.x) for name, split in rows.splits().items()}
    y, ridge = rows.targets(rows.train), 0.3
    ours = start["test"] + cross @ np.linalg.solve(kernel + ridge * np.eye(30), y - start["train"])
    problem = JacobianProblem(model, x, y)
    solved = block_lanczos.solve(problem, [ridge], rtol=1e-6, atol=0.0, max_iterations=500)[0]
    np.testing.assert_allclose(ours, problem.predict(test, solved.value), atol=1e-3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of results of this module's own."""
    root = tmp_path_factory.mktemp("runs")
    (root / "directories.txt").write_text("".join(f"{key} {key}\n" for key in KEYS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIRECTORIES", str(root / "directories.txt"))
        yield root


@pytest.fixture(scope="module")
def straight(folders):
    """A run that measures after epochs 0, 2 and the last."""
    return train.run(Config(**RUN, tangent_at="0,2,end"))


def test_a_run_records_its_measurements_and_trains_as_without_them(straight):
    measured = straight.record["tangents"]
    assert measured["rows"] == {"train": 40, "test": 30}
    first, middle, last = measured["epochs"]
    assert [entry["epoch"] for entry in measured["epochs"]] == [0, 2, 6]
    for name in ("distance_from_start", "distance_from_previous"):
        assert first[name] == pytest.approx(0, abs=1e-6) and 0 < middle[name] <= 1
    assert last["distance_from_previous"] < last["distance_from_start"]
    assert (
        first["alignment_with_start"] == pytest.approx(1)
        and last["alignment_with_start"] < middle["alignment_with_start"]
    )
    assert set(last["weight_change"]) == {"hidden_1", "readout"} and first["weight_change"]["hidden_1"] == 0
    assert last["weight_change"]["readout"] > middle["weight_change"]["readout"] > 0
    assert all(entry["linearization_accuracy"] > 0.5 for entry in measured["epochs"])

    plain = train.run(Config(**PLAIN))
    assert "tangents" not in plain.record and plain.folder != straight.folder
    for name in ("train_loss", "test_loss"):
        assert plain.chosen[name] == straight.chosen[name]
    rows = data.load("DIGITS", num_train=60, num_test=40)
    outputs = results.load_arrays(straight.folder, "predictions")["predictions/test"][:30]
    assert last["network_accuracy"] == pytest.approx((outputs.argmax(1) == rows.test.y[:30]).mean())


def test_the_picture_of_the_measurements_lies_in_the_folder_of_the_run(straight):
    draw_run(straight.folder, straight.record, again=False, solver="training.png")
    assert (straight.folder / "tangents.png").stat().st_size > 10_000


def test_the_kernel_of_infinite_width_is_fitted_to_the_same_rows(straight):
    found = straight.record["tangents"]["infinite_width"]
    rows = probe(data.load("DIGITS", num_train=60, num_test=40), 40, 30)
    kernel, cross = gram("NTK", rows.train.x, num_layers=1), gram("NTK", rows.test.x, rows.train.x, num_layers=1)
    expected = kernel_scores(kernel, cross, rows)
    assert found["kernel"].startswith("NTK")
    assert found["accuracy"] == expected["accuracy"] and found["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_a_stopped_run_goes_on_and_keeps_its_measurements(straight, monkeypatch):
    measured = []
    made = TangentMeasures.epoch_done

    def watched(self, epoch):
        made(self, epoch)
        measured.append(epoch)
        if epoch == 3 and measured.count(3) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(TangentMeasures, "epoch_done", watched)
    again = Config(**RUN, tangent_at="0,2,end", exp_name="stopped")
    with pytest.raises(KeyboardInterrupt):
        train.run(again)
    assert len(list(again.folder().rglob("tangents_*.npz"))) == 2
    monkeypatch.setattr(gradient_fit, "infinite_width", lambda *_args: None)
    resumed = train.run(again)
    assert measured == [0, 1, 2, 3, 3, 4, 5, 6]
    found = resumed.record["tangents"]
    for mine, theirs in zip(found["epochs"], straight.record["tangents"]["epochs"], strict=True):
        assert {**mine, "weight_change": 0} == pytest.approx({**theirs, "weight_change": 0}, rel=1e-3, abs=1e-5)
        assert mine["weight_change"] == pytest.approx(theirs["weight_change"], rel=1e-4, abs=1e-6)
    assert not list(resumed.folder.rglob("tangents_*.npz"))


def test_the_kernel_moves_less_as_the_scale_of_the_outputs_grows(folders):
    """Weights move as 1/α; the distance, 1 minus a cosine, falls faster, but for units that change sign as 1/α."""
    found = []
    for alpha in (4.0, 16.0):
        settings = {**RUN, "num_units": 64, "output_scale": alpha, "tangent_at": "0,end"}
        found.append(train.run(Config(**settings)).record["tangents"]["epochs"][-1])
    lazy, rich = found[1], found[0]
    assert lazy["distance_from_start"] < 0.4 * rich["distance_from_start"]
    assert lazy["weight_change"]["hidden_1"] == pytest.approx(rich["weight_change"]["hidden_1"] / 4, rel=0.3)
    assert abs(lazy["linearization_accuracy"] - rich["linearization_accuracy"]) < 0.2


@pytest.mark.parametrize("more, message", [
    ({"tangent_at": "0,7"}, "goes beyond the epochs"), ({"tangent_at": "0,last"}, "takes epochs and end"),
    ({"tangent_at": "1,1"}, "each once"), ({"tangent_at": "-1"}, "takes epochs and end"),
    ({"tangent_at": "end", "tangent_rows": "1"}, "at least 2"), ({"tangent_at": "end", "tangent_rows": "a,b"}, "rows"),
    ({"tangent_at": "end", "reg_index": "0,1"}, "one ridge"), ({"tangent_at": "end", "max_ncg_iters": 3}, "ncg"),
])  # fmt: skip
def test_measurements_that_cannot_be_made_are_refused(more, message):
    with pytest.raises(UserError, match=message):
        Config(**{**RUN, **more})


def test_flags_are_refused_without_epochs_or_measurements():
    with pytest.raises(UserError, match="--tangent_at is read by --solver=sgd, adam, adamw"):
        Config(model="RF", tangent_at="end")
    with pytest.raises(UserError, match=r"--tangent_rows is read .*with --tangent_at"):
        Config(model="NN", tangent_rows="50")


@pytest.mark.parametrize("change", [
    lambda measured: measured["epochs"][0].pop("epoch"), lambda measured: measured.pop("rows"),
    lambda measured: measured["epochs"][1].update(effective_rank="many"),
    lambda measured: measured["epochs"][1].update(network_accuracy="good"),
    lambda measured: measured["epochs"][1].update(weight_change={"readout": "much"}),
    lambda measured: measured.update(infinite_width={"kernel": 3}),
])  # fmt: skip
def test_a_record_of_other_measurements_is_refused(straight, change):
    record = json.loads(json.dumps(straight.record))
    check_record(record)
    change(record["tangents"])
    with pytest.raises(BadRecord, match="tangents"):
        check_record(record)


def test_a_cross_entropy_run_has_no_linearization_from_its_logits(folders):
    entry = train.run(Config(**{**RUN, "loss": "cross_entropy"}, tangent_at="end")).record["tangents"]["epochs"][0]
    assert entry["linearization_offset_accuracy"] is None and entry["network_loss"] is None
    assert entry["linearization_accuracy"] > 0.5 and entry["network_accuracy"] is not None


def test_keys_of_runs_without_measurements_stay():
    assert Config(model="NN", num_units=64).key() == "11182de5"
    settings = Config(**RUN, tangent_at="0,end")
    assert len({one.key() for one in (Config(**PLAIN), settings,
                                      dataclasses.replace(settings, tangent_rows="50"))}) == 3  # fmt: skip


def test_a_kernel_that_another_process_makes_is_waited_for(straight, monkeypatch):
    """The same command goes on later, with what was measured; other errors leave the kernel out."""
    config = Config(**RUN, tangent_at="0,end", exp_name="busy")

    def fails(error):
        def find_or_make(*_args):
            raise error

        monkeypatch.setattr(infinite_width, "find_or_make", find_or_make)

    fails(TryLater("shards are being made by others"))
    with pytest.raises(TryLater):
        train.run(config)
    assert len(list(config.folder().rglob("tangents_*.npz"))) == 2
    fails(UserError("no such kernel"))
    assert train.run(config).record["tangents"]["infinite_width"] is None
