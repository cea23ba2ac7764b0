"""--choose_by: the best ridge and iteration by the loss in place of the accuracy, in every command that chooses."""

import dataclasses

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.experiments import krr, train
from linearized.experiments.linear_baseline import linear_baseline
from linearized.settings.config import parse

ROWS = {"dataset": "DIGITS", "num_train": 300, "num_test": 200, "validation": 100}


def entry_and_all(record):
    return record["ridges"][record["chosen"]["position"]], record["ridges"]


def checked(record, metric):
    chosen, entries = entry_and_all(record)
    values = [entry[f"validation_{metric}"] for entry in entries]
    assert chosen[f"validation_{metric}"] == (max if metric == "accuracy" else min)(values)
    assert record["chosen"]["by"] == f"validation {metric}"


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("config", [
    krr.KernelFitSettings(kernel="NTK", **ROWS), train.TrainSettings(model="RF", num_units=200, **ROWS),
])  # fmt: skip
def test_ridges_are_compared_by_the_metric_that_is_asked_for(directories, config, metric):
    config = dataclasses.replace(config, choose_by=metric)
    result = krr.run(config)[0] if isinstance(config, krr.KernelFitSettings) else train.run(config)
    checked(result.record, metric)


def test_iterations_of_a_feature_machine_are_compared_by_the_loss(directories):
    found = linearized.krr("RFM", **ROWS, iterations=2, choose_by="loss")
    machine = found.record["feature_machine"]
    losses = [min(entry["validation_loss"] for entry in step["ridges"]) for step in machine["steps"]]
    assert machine["best"] == int(np.argmin(losses)) and found.record["chosen"]["by"] == "validation loss"


def test_the_linear_fit_beside_a_kernel_is_chosen_by_the_same_metric(directories):
    random = np.random.default_rng(0)
    x = random.standard_normal((120, 30)).astype(np.float32)
    y = (x[:, 0] + random.standard_normal(120) > 0).astype(np.int64)
    data = linearized.from_arrays(x[:60], y[:60], x[60:], y[60:])
    by = {metric: linear_baseline(data, "test", metric) for metric in ("accuracy", "loss")}
    assert by["accuracy"]["test_accuracy"] > by["loss"]["test_accuracy"]
    assert by["accuracy"]["test_loss"] > by["loss"]["test_loss"]


def test_a_choice_by_cross_validation_says_that_the_flag_changed_nothing(directories, caplog):
    rows = {name: value for name, value in ROWS.items() if name != "validation"}
    by = {metric: krr.run(krr.KernelFitSettings(kernel="NTK", **rows, choose_by=metric))[0].record["chosen"]
          for metric in ("accuracy", "loss")}  # fmt: skip
    assert by["accuracy"] == by["loss"] and by["loss"]["by"] == "generalised cross-validation"
    assert caplog.text.count("--choose_by=loss changed nothing") == 1


def test_targets_without_accuracy_are_refused(directories):
    config = parse(krr.KernelFitSettings, ["--dataset=SPHERE", "--synth_dim=10", "--num_train=50", "--num_test=50",
                                           "--choose_by=loss"])  # fmt: skip
    with pytest.raises(UserError, match=r"leave out --choose_by\. Received: --choose_by=loss"):
        krr.run(config)
