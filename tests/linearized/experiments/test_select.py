"""The choice of the ridge by each criterion, and what is said where the best one fell short."""

import logging

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.experiments.select import ALONE, choose, criterion_of, edge, flaw_of, recorded, warn_edge, warning
from linearized.storage.result_schema import convergence, fell_short

GOOD = {"converged": True, "diverged": False, "residual": 1e-5, "iterations": 9}
MISSED = {"converged": False, "diverged": False, "residual": 0.02, "iterations": 4}
DIVERGED = {"converged": False, "diverged": True, "residual": None, "iterations": 4}


def entries(*diagnostics, **metrics):
    """An entry per ridge: its diagnostics, and the values of each metric in order."""
    columns = [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]
    return [{"index": place, "ridge": 10.0**place, **one, **column}
            for place, (one, column) in enumerate(zip(diagnostics, columns, strict=True))]  # fmt: skip


CONVERGED = entries(
    GOOD, GOOD, GOOD, test_loss=[0.5, 0.4, 0.3], test_accuracy=[0.9, 0.9, 0.8], gcv=[None, 3.0, 2.0]
)  # fmt: skip


def test_the_best_has_the_highest_accuracy_then_the_lowest_loss():
    assert choose(CONVERGED, "test").position == 1
    assert choose([{**entry, "test_accuracy": None} for entry in CONVERGED], "test").position == 2
    assert choose(CONVERGED, "test").by == "test accuracy (published protocol)"


def test_by_the_loss_the_best_has_the_lowest_loss_whatever_its_accuracy():
    choice = choose(CONVERGED, "test", "loss")
    assert (choice.position, choice.metric, choice.by) == (2, "loss", "test loss")
    assert choose(CONVERGED, "test").metric == "accuracy" and choose(CONVERGED, "gcv").metric == "loss"
    fell_short = entries(GOOD, GOOD, MISSED, test_loss=[0.5, 0.4, 0.3], test_accuracy=[0.9, 0.9, 0.8])
    line = warning(choose(fell_short, "test", "loss"), fell_short, "Do it.")
    assert "test loss 0.3)" in line and "index 1, test loss 0.4)" in line


def test_the_criterion_is_the_first_that_the_entries_have():
    assert criterion_of(CONVERGED) == "gcv"
    assert choose(CONVERGED).position == 2 and choose(CONVERGED).by == "generalised cross-validation"
    left_out = [{**entry, "leave_one_out_loss": loss} for entry, loss in zip(CONVERGED, (1.0, 2.0, 3.0), strict=True)]
    assert criterion_of(left_out) == "leave_one_out" and choose(left_out).by == "leave-one-out loss"
    assert criterion_of([{**entry, "validation_loss": None} for entry in left_out]) == "validation"
    assert criterion_of([{**entry, "gcv": None} for entry in CONVERGED]) == "test"


def test_nothing_measured_is_refused():
    with pytest.raises(UserError, match="leave-one-out"):
        choose(CONVERGED, "leave_one_out")


@pytest.mark.parametrize("bad, flaw, word", [(MISSED, "not converged", "did not converge (residual 2.0e-02 after 4"),
                                             (DIVERGED, "diverged", "diverged")])  # fmt: skip
def test_a_best_ridge_that_fell_short_is_named_with_the_best_converged_one_beside_it(bad, flaw, word):
    found = entries(GOOD, bad, GOOD, test_loss=[0.4, 0.1, 0.3], test_accuracy=[0.85, 0.95, 0.9])
    choice = choose(found)
    assert (choice.position, choice.converged, choice.flaw) == (1, 2, flaw)
    record = recorded(choice, found)
    assert record["chosen"]["flaw"] == flaw and record["chosen"]["position"] == 1
    assert record["chosen_converged"] == {
        "position": 2, "index": 2, "by": "test accuracy (published protocol), of the converged"
    }  # fmt: skip
    line = warning(choice, found, "Do it.")
    assert "\n" not in line and word in line and line.endswith("Do it.")
    assert "λ = 10 (index 1, test accuracy 0.95)" in line and "λ = 100 (index 2, test accuracy 0.9)" in line


def test_where_no_ridge_converged_none_stands_beside_the_best():
    found = entries(MISSED, MISSED, test_loss=[0.4, 0.1], test_accuracy=[None, None])
    choice = choose(found)
    assert (choice.position, choice.converged) == (1, None)
    assert list(recorded(choice, found)) == ["chosen"]
    assert "No ridge converged" in warning(choice, found, "")


def test_a_single_ridge_is_not_chosen_by_anything():
    found = entries(GOOD, test_loss=[0.4], test_accuracy=[0.5])
    assert choose(found).by == ALONE and recorded(choose(found), found)["chosen"]["by"] == ALONE
    assert warning(choose(found), found, "Do it.") == ""


def test_a_converged_best_ridge_is_recorded_without_a_flaw():
    assert recorded(choose(CONVERGED), CONVERGED) == {
        "chosen": {"position": 2, "index": 2, "by": "generalised cross-validation"}
    }


@pytest.mark.parametrize("entry, expected", [
    ({"converged": True, "residual": 1e-5}, True), ({"converged": False, "residual": 1e-2}, False),
    ({"converged": False, "residual": None}, False),  # a kernel's ridge that could not be solved
    ({"converged": True, "residual": None}, None),  # as version 0.1 stored training by gradients
    ({"converged": None, "residual": None, "loss_change": -0.5}, False),  # as format 2 stored it
    ({"converged": None, "residual": np.nan, "loss_change": 0.001}, True),
    ({"converged": None, "residual": None}, None),
    ({"converged": True, "residual": None, "loss_change": -0.019}, True),
    ({"converged": False, "residual": None, "loss_change": None}, False),  # training of one epoch
    ({"converged": None, "residual": None, "diverged": True}, False),
    ({"converged": False, "residual": None, "loss_change": 0.0, "diverged": True}, False),
], ids=str)  # fmt: skip
def test_convergence_of_each_format(entry, expected):
    entry = {"diverged": False, **entry}
    assert convergence(entry) is expected
    assert fell_short(entry) is (expected is False)
    assert bool(flaw_of(entry)) is (expected is False)


def test_the_linear_baseline_counts_as_exact():
    assert flaw_of({"ridge": 1.0, "test_loss": 0.5}) == ""


@pytest.fixture
def warnings_logged(caplog):
    """The texts of the warnings that are logged."""
    from absl import logging as absl_logging

    absl_logging.get_absl_logger().propagate = True
    with caplog.at_level(logging.WARNING):
        yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_rf_by_four_iterations_of_cg_says_that_its_best_ridge_did_not_converge(directories, warnings_logged, capsys):
    """The record, the table and one warning say so; the choice is the same on the record that was written."""
    from linearized.experiments.table import print_table
    from linearized.experiments.train import TrainSettings as Config
    from linearized.experiments.train import run

    record = run(Config(num_units=256, num_train=600, max_cg_iters=4, solver="cg")).record
    chosen = record["ridges"][record["chosen"]["position"]]
    assert not chosen["converged"] and record["chosen"]["flaw"] == "not converged"
    assert chosen["test_accuracy"] == max(entry["test_accuracy"] for entry in record["ridges"])
    beside = record["ridges"][record["chosen_converged"]["position"]]
    assert beside["converged"]
    assert beside["test_accuracy"] == max(entry["test_accuracy"] for entry in record["ridges"] if entry["converged"])
    assert choose(record["ridges"]).position == record["chosen"]["position"]
    [said] = [text for text in warnings_logged() if "converge" in text]
    assert f"(index {chosen['index']}, " in said and f"(index {beside['index']}, " in said
    print_table(record)
    table = capsys.readouterr().out
    assert "NOT CONVERGED" in table and f"best converged {beside['index']}" in table


@pytest.mark.parametrize("losses, size, side", [
    ([1.0, 2.0, 3.0], 3, "smallest"), ([3.0, 2.0, 1.0], 3, "largest"), ([3.0, 1.0, 2.0], 3, ""),
    ([3.0, 2.0, 1.0], 9, ""),
])  # fmt: skip
def test_the_best_ridge_at_an_end_of_its_grid_is_recorded_and_warned_of(losses, size, side, caplog):
    ridges = entries(GOOD, GOOD, GOOD, test_loss=losses)
    choice = choose(ridges, "test")
    assert edge(choice, ridges, size) == side and recorded(choice, ridges, size=size)["chosen"].get("edge", "") == side
    with caplog.at_level(logging.WARNING, logger="absl"):
        warn_edge("NT", choice, ridges, size, "Give others.")
    assert [side in line and line.startswith("NT: ") for line in caplog.messages] == ([True] if side else [])
    assert edge(choose(ridges[:1], "test"), ridges[:1], 1) == ""
