"""Predictions and gradients in blocks of rows: equal to those of all rows at once, without an array of that size."""

import tracemalloc

import numpy as np
import pytest

import linearized
from kernel_gen import gram
from kernel_gen.kernels.radial import RadialKernel
from linearized.base import blocks
from linearized.kernel_ridge import feature_machine, learned_metric
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.estimator import KernelRidgePath
from linearized.settings.gram_settings import KernelSettings
from linearized.sklearn import NeuralTangentRidge, RandomFeaturesRidge

DRAWS = np.random.default_rng(0)
X, NEW = DRAWS.normal(size=(300, 4)), DRAWS.normal(size=(5_000, 4))
Y = X[:, 0] * X[:, 1]


def peak_of(function):
    """Return the value of a function and the largest memory in bytes that arrays took while it ran."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kernel, more", [
    ("LAPLACE", {}), ("GAUSSIAN", {"centres": 200}), ("RFM", {"iterations": 1}),
    ("RFM", {"iterations": 1, "centres": 200}),
])  # fmt: skip
def test_predictions_of_many_rows_hold_no_kernel_between_them_and_the_train_rows(
    kernel, more, directories, monkeypatch
):
    monkeypatch.setattr(RadialKernel, "tile", 128)
    data = (X[:250], Y[:250], X[250:], Y[250:])
    found = linearized.krr(kernel, data, ridges="0.1", validation=40, dtype="float64", solver="band", **more)
    found.decision(NEW[:10])  # loads the rows and coefficients
    outputs, peak = peak_of(lambda: found.decision(NEW))
    assert peak < 5_000 * 200 * 8 / 2
    few = np.concatenate([found.decision(NEW[start : start + 7]) for start in range(0, 70, 7)])
    np.testing.assert_allclose(outputs[:70], few, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", [
    KernelRidgePath(0.1, kernel="LAPLACE", kernel_params={"bandwidth": 1.0}),
    KernelRidgePath(0.1, kernel="rbf"), NeuralTangentRidge(100, ridges=0.1),
    RandomFeaturesRidge(400, ridges=0.1),
], ids=lambda model: f"{type(model).__name__} {getattr(model, 'kernel', '')}")  # fmt: skip
def test_estimators_predict_in_blocks_of_rows(model, monkeypatch):
    model.fit(X, Y)
    whole = model.predict(NEW)
    monkeypatch.setattr(blocks, "PREDICTED", 2**18)
    found, peak = peak_of(lambda: model.predict(NEW))
    np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-9)
    assert found.shape == (5_000,) and peak < 5_000 * 300 * 8 / 4


def test_an_estimator_of_a_named_kernel_predicts_what_the_matrix_does(monkeypatch):
    monkeypatch.setattr(blocks, "PREDICTED", 2**16)
    model = KernelRidgePath(0.1, kernel="LAPLACE").fit(X, Y)
    expected = gram("LAPLACE", NEW[:500], X, dtype="float64") @ model.dual_coef_
    np.testing.assert_allclose(model.predict(NEW[:500]), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", ["auto", "rpcholesky", "cg"])
def test_a_feature_machine_computes_a_matrix_that_does_not_fit_in_every_product(solver, monkeypatch):
    monkeypatch.setattr(RadialKernel, "tile", 64)
    rows, check = DRAWS.normal(size=(600, 6)), DRAWS.normal(size=(100, 6))
    given = rows, rows[:, 0] * rows[:, 1], check, check[:, 0] * check[:, 1]
    common = {"iterations": 1, "ridges": [1.0, 10.0], "bandwidth": 3.0}  # the median of many rows takes memory, too
    whole, most = peak_of(lambda: feature_machine.fit(*given, **common, memory=10**9))
    for module, name in ((feature_machine, "gram"), (ComputedGram, "to_memory")):
        monkeypatch.setattr(module, name, lambda *given, **named: pytest.fail("K is held in memory"))
    made, least = peak_of(lambda: feature_machine.fit(*given, **common, solver=solver, memory=2**18))
    assert most > 4 * 600**2 and (solver == "auto" or least < 4 * 600**2)  # block Lanczos has a basis of its own
    for one, other in zip(made.steps, whole.steps, strict=True):
        np.testing.assert_allclose(one.validation_losses, other.validation_losses, rtol=1e-3)
        np.testing.assert_allclose(one.metric, other.metric, atol=1e-2)
    new = NEW[:, [0, 1, 2, 3, 0, 1]]
    predicted, peak = peak_of(lambda: made.predict(new))
    assert peak < 4 * 600 * 5_000 / 4 and made.best == whole.best
    np.testing.assert_allclose(predicted[:5], made.predict(new[:5]), rtol=1e-5, atol=1e-5)


def test_gradients_take_the_memory_that_is_given_and_are_those_of_all_rows():
    rows, alpha = DRAWS.normal(size=(1200, 6)), DRAWS.normal(size=(1200, 1))
    variant = learned_metric.Variant()
    kernel = learned_metric.at_metric(
        learned_metric.base_kernel(KernelSettings(kernel="LAPLACE", dtype="float64")), np.eye(6), rows
    )
    whole, most = peak_of(lambda: learned_metric.next_metric(kernel, rows, alpha, variant))
    found, least = peak_of(lambda: learned_metric.next_metric(kernel, rows, alpha, variant, memory=2**21))
    np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-9)
    assert least < 2**21 + 8 * rows.nbytes < most / 4
