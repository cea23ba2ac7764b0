"""Recursive feature machines: gradients against finite differences, one iteration by loops, what is learned."""

import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.kernels.gaussian import GaussianKernel
from kernel_gen.kernels.laplace import LaplaceKernel
from kernel_gen.kernels.matern import MaternKernel
from kernel_gen.kernels.radial_gradients import average_outer_product, gradients
from linearized.base.errors import UserError
from linearized.kernel_ridge import feature_machine

KERNELS = [LaplaceKernel(1.3, "float64"), GaussianKernel(1.3, "float64"), MaternKernel(1.3, "1.5", "float64"),
           MaternKernel(1.3, "2.5", "float64")]  # fmt: skip
EACH = pytest.mark.parametrize("kernel", KERNELS, ids=["LAPLACE", "GAUSSIAN", "MATERN 1.5", "MATERN 2.5"])


@pytest.fixture
def predictor():
    """Train rows, points (the first two are train rows), and coefficients of two outputs."""
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(20, 5))
    return rows, np.concatenate([rows[:2], draws.normal(size=(6, 5))]), draws.normal(size=(20, 2))


@EACH
def test_gradients_are_those_of_finite_differences(kernel, predictor):
    rows, points, alpha = predictor
    points = points[2:]  # a Laplace kernel has no derivative at the train rows
    found = gradients(kernel, kernel.prepare(points), kernel.prepare(rows), alpha)

    def outputs(x):
        return kernel.block(kernel.prepare(x), kernel.prepare(rows)) @ alpha

    step = 1e-5 * np.eye(5)
    expected = np.stack([(outputs(points + one) - outputs(points - one)) / 2e-5 for one in step], axis=-1)
    np.testing.assert_allclose(found, expected.transpose(1, 0, 2), atol=1e-6 * np.abs(expected).max())


@EACH
@pytest.mark.parametrize("centred", [True, False])
def test_outer_products_are_averaged_over_blocks_of_points(kernel, predictor, centred, monkeypatch):
    rows, points, alpha = predictor
    given = kernel.prepare(points), kernel.prepare(rows)
    found = gradients(kernel, *given, alpha)
    assert np.isfinite(found).all()
    found = found - centred * found.mean(axis=1, keepdims=True)
    expected = sum(np.outer(one, one) for output in found for one in output) / len(points)
    monkeypatch.setattr("kernel_gen.kernels.radial_gradients.ROWS", 3)
    whole = average_outer_product(kernel, *given, alpha, diagonal=False, centred=centred)
    np.testing.assert_allclose(whole, expected, atol=1e-13)
    diagonal = average_outer_product(kernel, *given, alpha, diagonal=True, centred=centred)
    np.testing.assert_allclose(diagonal, np.diag(expected), atol=1e-13)


def multi_index(count, dim=12, seed=0):
    """Rows and the product of their first two coordinates, which no fixed kernel of few rows learns."""
    x = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return x, x[:, 0] * x[:, 1]


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("base", ["LAPLACE", "GAUSSIAN"])
def test_the_metric_finds_the_directions_of_the_target(base, diagonal):
    (x, y), (x_validation, y_validation), (x_test, y_test) = (
        multi_index(400),
        multi_index(150, seed=1),
        multi_index(200, seed=2),
    )
    made = feature_machine.fit(x, y, x_validation, y_validation, base=base, diagonal=diagonal, iterations=4)
    fixed, best = made.steps[0], made.steps[made.best]
    assert made.best > 0 and best.loss < 0.5 * fixed.loss and best.effective_rank < 0.5 * fixed.effective_rank
    shares = best.metric if diagonal else np.diag(best.metric)
    assert shares.sum() == pytest.approx(12, rel=1e-5) and shares[:2].sum() > 9
    error = np.mean(np.square(made.predict(x_test)[:, 0] - y_test))
    assert error < 2 * best.loss + 0.05


def test_the_first_iteration_is_the_fixed_kernel_and_its_metric_the_outer_product_of_its_gradients():
    (x, y), (x_validation, y_validation) = multi_index(80), multi_index(40, seed=1)
    ridges = [0.1, 1.0]
    made = feature_machine.fit(x, y, x_validation, y_validation, ridges=ridges, iterations=1, solver="cholesky")
    matrix, cross = gram("LAPLACE", x, dtype="float64"), gram("LAPLACE", x_validation, x, dtype="float64")
    alphas = [np.linalg.solve(matrix + ridge * np.eye(80), y) for ridge in ridges]
    losses = [np.mean(np.square(cross @ alpha - y_validation)) for alpha in alphas]
    np.testing.assert_allclose(made.steps[0].validation_losses, losses, rtol=1e-3)
    kernel = LaplaceKernel(made.steps[0].bandwidth, "float64")
    rows = kernel.prepare(x)
    product = average_outer_product(
        kernel, rows, rows, alphas[np.argmin(losses)][:, None], diagonal=False, centred=True
    )
    np.testing.assert_allclose(made.steps[1].metric, product * 12 / np.trace(product), atol=2e-3)


def test_every_setting_changes_the_metric_and_progress_sees_each_step():
    (x, y), (x_validation, y_validation) = multi_index(60), multi_index(30, seed=1)
    seen = []

    def learned(**settings):
        return feature_machine.fit(x, y, x_validation, y_validation, iterations=1, **settings).steps[1].metric

    plain = learned(progress=lambda index, step: seen.append((index, step.loss)))
    assert [index for index, _ in seen] == [0, 1] and all(np.isfinite(loss) for _, loss in seen)
    for settings in ({"centred": False}, {"power": 0.5}, {"sample": 20}, {"bandwidth": 1.0}, {"base": "MATERN"}):
        assert np.abs(learned(**settings) - plain).max() > 1e-3, settings
    root = learned(power=0.5)
    np.testing.assert_allclose(root @ root * 12 / np.trace(root @ root), plain, atol=1e-4)
    smooth = [learned(base="MATERN", smoothness=smoothness) for smoothness in ("1.5", "2.5")]
    assert np.abs(smooth[0] - smooth[1]).max() > 1e-3


def test_a_constant_target_leaves_the_fixed_kernel(caplog):
    (x, _), (x_validation, _) = multi_index(30), multi_index(10, seed=1)
    made = feature_machine.fit(x, np.zeros(30), x_validation, np.zeros(10), iterations=3)
    assert len(made.steps) == 1 and made.best == 0 and "no gradients left" in caplog.text


def test_a_metric_in_which_most_rows_are_equal_ends_the_iterations_and_keeps_the_best(caplog):
    """The median distance along coordinates that are 1 in a tenth of the rows is 0 once one of them is left."""
    x = (np.random.default_rng(0).random((60, 6)) < 0.1).astype(np.float32)
    y = 5 * x[:, 0]
    made = feature_machine.fit(x[:40], y[:40], x[40:], y[40:], diagonal=True, power=10.0, iterations=8)
    assert "cannot be fitted, earlier ones are kept" in caplog.text and "no bandwidth" in caplog.text
    assert 0 < len(made.steps) < 9 and np.isfinite(made.predict(x[40:])).all()


@pytest.mark.parametrize("changes, words", [
    ({"base": "NTK"}, "those of NTK are not"), ({"iterations": -1}, "iterations must be"),
    ({"power": 0}, "power above"),
    ({"sample": 31}, "at most 30 rows"), ({"y": np.zeros(29)}, "must fit together"),
    ({"x_validation": np.zeros((10, 3))}, "must fit together"), ({"x": np.full((30, 12), np.nan)}, "finite"),
    ({"x": np.ones((30, 12))}, "Give one with --bandwidth"), ({"base": "GAUSS"}, "Unknown kernel"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(changes, words):
    (x, y), (x_validation, y_validation) = multi_index(30), multi_index(10, seed=1)
    given = {"x": x, "y": y, "x_validation": x_validation, "y_validation": y_validation} | changes
    with pytest.raises(UserError, match=words):
        feature_machine.fit(**given)
