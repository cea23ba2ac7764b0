"""Recursive feature machines: gradients against finite differences, one iteration by loops, what is learned."""

import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.kernels.gaussian import GaussianKernel
from kernel_gen.kernels.laplace import LaplaceKernel
from kernel_gen.kernels.matern import MaternKernel
from kernel_gen.kernels.ntk import FullyConnected
from kernel_gen.kernels.stretched import StretchedKernel, correlation, effective_rank, overlap, spectrum
from linearized.base.errors import UserError
from linearized.kernel_ridge import feature_machine, ridge_path
from linearized.kernel_ridge.learned_metric import followed_ridge

NETWORKS = {
    f"{kind}, {layers} layers, bias {bias:g}, {scale}": FullyConnected(layers, kind, 1.3, bias, "float64", scale)
    for layers in (2, 3, 5) for kind in ("ntk", "nngp") for bias, scale in ((0.0, "input"), (0.3, "stax"))
}  # fmt: skip
KERNELS = {
    "LAPLACE": LaplaceKernel(1.3, "float64"), "GAUSSIAN": GaussianKernel(1.3, "float64"),
    "MATERN 1.5": MaternKernel(1.3, "1.5", "float64"), "MATERN 2.5": MaternKernel(1.3, "2.5", "float64"), **NETWORKS,
}  # fmt: skip
EACH = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


@pytest.fixture
def predictor():
    """Train rows, points (the first two are train rows), and coefficients of two outputs."""
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(20, 5))
    return rows, np.concatenate([rows[:2], draws.normal(size=(6, 5))]), draws.normal(size=(20, 2))


def by_differences(kernel, points, rows, alpha):
    """Gradients (k, m, d) of the expansion by central differences."""

    def outputs(x):
        return kernel.block(kernel.prepare(x), kernel.prepare(rows)) @ alpha

    step = 1e-5 * np.eye(points.shape[1])
    found = np.stack([(outputs(points + one) - outputs(points - one)) / 2e-5 for one in step], axis=-1)
    return found.transpose(1, 0, 2)


@EACH
def test_gradients_are_those_of_finite_differences(kernel, predictor):
    rows, points, alpha = predictor
    points = points[2:]  # a Laplace kernel has no derivative at the train rows
    found = kernel.gradients(kernel.prepare(points), kernel.prepare(rows), alpha)
    expected = by_differences(kernel, points, rows, alpha)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@EACH
@pytest.mark.parametrize("centred", [True, False])
def test_outer_products_are_those_of_gradients_in_x_averaged_over_blocks_of_points(
    kernel, predictor, centred, monkeypatch
):
    rows, points, alpha = predictor
    factor = np.random.default_rng(1).normal(size=(5, 5))
    monkeypatch.setattr(type(kernel), "gradient_rows", 3)
    for metric in (factor @ factor.T, np.array([0.5, 2.0, 0.0, 1.0, 3.0])):
        stretched = StretchedKernel(kernel, metric)
        given = points, stretched.prepare(rows), alpha
        assert np.isfinite(stretched.average_outer_product(*given, diagonal=False, centred=False)).all()
        found = by_differences(stretched, points[2:], rows, alpha)
        found = found - centred * found.mean(axis=1, keepdims=True)
        expected = sum(np.outer(one, one) for output in found for one in output) / len(points[2:])
        given = points[2:], *given[1:]
        whole = stretched.average_outer_product(*given, diagonal=False, centred=centred)
        np.testing.assert_allclose(whole, expected, atol=1e-6 * np.abs(expected).max())
        diagonal = stretched.average_outer_product(*given, diagonal=True, centred=centred)
        np.testing.assert_allclose(diagonal, np.diag(expected), atol=1e-6 * np.abs(expected).max())


@EACH
def test_rows_that_are_train_rows_or_zero_have_finite_gradients(kernel, predictor):
    rows = predictor[0]
    rows = np.concatenate([rows, np.zeros((1, 5)), 2 * rows[:1]])
    points = np.concatenate([rows[:3], np.zeros((2, 5)), rows[:1] * (1 + 1e-15)])
    found = kernel.gradients(kernel.prepare(points), kernel.prepare(rows), np.ones((len(rows), 1)))
    assert np.isfinite(found).all() and np.abs(found).max() < 1e3


def test_a_metric_is_measured_by_its_effective_rank_spectrum_and_overlap():
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0]
    metric = 3 * directions @ directions.T + np.eye(6)
    assert overlap(metric, directions) == pytest.approx(8 / 12)
    assert overlap(np.eye(6), directions) == pytest.approx(2 / 6)
    np.testing.assert_allclose(spectrum(metric), [4, 4, 1, 1, 1, 1])
    assert effective_rank(metric) == pytest.approx(144 / 36)
    diagonal = np.array([1.0, 5.0, 0.0])
    assert overlap(diagonal, np.eye(3)[:, 1:2]) == pytest.approx(overlap(np.diag(diagonal), np.eye(3)[:, 1:2]))
    assert effective_rank(diagonal) == pytest.approx(36 / 26)
    np.testing.assert_array_equal(spectrum(diagonal), [5, 1, 0])


def test_a_metric_correlates_with_the_first_layer_whose_products_it_is():
    weights = np.random.default_rng(0).normal(size=(6, 40)) * np.arange(1, 7)[:, None]
    products = weights @ weights.T
    assert correlation(3 * products, weights) == pytest.approx(1)
    assert correlation(np.diag(products).copy(), weights) == pytest.approx(1)
    other = np.diag(np.arange(6.0))
    assert correlation(other, weights) == pytest.approx(np.corrcoef(other.ravel(), products.ravel())[0, 1])
    assert np.isnan(correlation(np.ones(6), weights))


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


@pytest.mark.parametrize("base", ["NTK", "RF"])
def test_a_network_of_infinite_width_learns_the_directions_of_the_target(base):
    """The loss need not fall: a quadratic target is within reach of the fixed kernel."""
    (x, y), (x_validation, y_validation) = multi_index(600), multi_index(150, seed=1)
    made = feature_machine.fit(x, y, x_validation, y_validation, base=base, iterations=3)
    shares = [np.diag(step.metric)[:2].sum() / 12 for step in made.steps]
    assert shares[0] == pytest.approx(2 / 12) and shares[1] > 0.5 and shares[3] > 0.8
    assert np.isnan(made.steps[1].bandwidth)


def test_the_first_iteration_is_the_fixed_kernel_and_its_metric_the_outer_product_of_its_gradients():
    (x, y), (x_validation, y_validation) = multi_index(80), multi_index(40, seed=1)
    y, y_validation = y + 2 * x[:, 0], y_validation + 2 * x_validation[:, 0]
    ridges = [0.1, 1.0]
    made = feature_machine.fit(x, y, x_validation, y_validation, ridges=ridges, iterations=1, solver="cholesky")
    matrix, cross = gram("LAPLACE", x, dtype="float64"), gram("LAPLACE", x_validation, x, dtype="float64")
    alphas = [np.linalg.solve(matrix + ridge * np.eye(80), y) for ridge in ridges]
    losses = [np.mean(np.square(cross @ alpha - y_validation)) for alpha in alphas]
    np.testing.assert_allclose(made.steps[0].validation_losses, losses, rtol=1e-3)
    kernel = StretchedKernel(LaplaceKernel(made.steps[0].bandwidth, "float64"), np.eye(12))
    alpha = alphas[np.argmin(losses)][:, None]
    product = kernel.average_outer_product(x, kernel.prepare(x), alpha, diagonal=False, centred=True)
    np.testing.assert_allclose(made.steps[1].metric, product * 12 / np.trace(product), atol=2e-3)


def test_a_metric_follows_the_best_ridge_unless_no_ridge_is_better_than_a_constant():
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(60, 20)), draws.normal(size=(60, 2))
    matrix = gram("GAUSSIAN", x, dtype="float64")
    path = ridge_path.fit(matrix, y, [1000.0, 1e-3, 0.1, 0.3, 10.0], solver="cholesky")
    left = [np.square(y - matrix @ alpha).sum() / np.square(y).sum() for alpha in path.alpha]
    fits = [place for place in range(5) if left[place] <= 0.5]
    expected = max(fits, key=path.ridges.__getitem__)
    assert 1 < len(fits) < 5 and path.ridges[expected] < 1000
    assert followed_ridge(path, y, 0, 0.97) == 0
    for relative in (0.99, 1.0, 1.3):
        assert followed_ridge(path, y, 0, relative) == expected
    far = ridge_path.fit(matrix, y, [1000.0, 100.0], solver="cholesky")
    assert followed_ridge(far, y, 1, 1.0) == 1  # no ridge fits half of the variance


def test_a_machine_whose_fixed_kernel_learns_nothing_goes_on_from_a_fit_of_its_train_rows():
    """The best ridge of the fixed kernel is the largest, and its gradients are noise."""
    draws = np.random.default_rng(2)
    x, x_validation = draws.normal(size=(500, 40)), draws.normal(size=(200, 40))
    y, y_validation = x[:, 0] * x[:, 1], x_validation[:, 0] * x_validation[:, 1]
    ridges = [0.1, 1.0, 1e4]
    made = feature_machine.fit(x, y, x_validation, y_validation, ridges=ridges, iterations=5, diagonal=True)
    assert made.ridges[made.steps[0].place] == 1e4
    shares = [step.metric[:2].sum() / 40 for step in made.steps]
    assert shares[-1] > 0.9 and made.steps[-1].loss < 0.5 * made.steps[0].loss


def test_every_setting_changes_the_metric_and_progress_sees_each_step():
    (x, y), (x_validation, y_validation) = multi_index(60), multi_index(30, seed=1)
    seen = []

    def learned(**settings):
        return feature_machine.fit(x, y, x_validation, y_validation, iterations=1, **settings).steps[1].metric

    plain = learned(progress=lambda index, step: seen.append((index, step.loss)))
    assert [index for index, _ in seen] == [0, 1] and all(np.isfinite(loss) for _, loss in seen)
    for settings in (
        {"centred": False},
        {"power": 0.5},
        {"sample": 20},
        {"bandwidth": 1.0},
        {"factor": 2.0},
        {"base": "MATERN"},
    ):
        assert np.abs(learned(**settings) - plain).max() > 1e-3, settings
    root = learned(power=0.5)
    np.testing.assert_allclose(root @ root * 12 / np.trace(root @ root), plain, atol=1e-4)
    smooth = [learned(base="MATERN", smoothness=smoothness) for smoothness in ("1.5", "2.5")]
    assert np.abs(smooth[0] - smooth[1]).max() > 1e-3


def test_constant_columns_have_no_share_in_the_metric():
    (x, y), (x_validation, y_validation) = multi_index(100), multi_index(50, seed=1)
    x[:, 5], x_validation[:, 5] = 3.0, 3.0
    for diagonal in (True, False):
        made = feature_machine.fit(x, y, x_validation, y_validation, iterations=2, diagonal=diagonal)
        metric = made.steps[2].metric if diagonal else np.diag(made.steps[2].metric)
        assert np.isfinite(metric).all() and abs(metric[5]) < 1e-9 < metric[4]
        assert np.isfinite(made.steps[2].validation_losses).any()


def test_a_constant_target_leaves_the_fixed_kernel(caplog):
    (x, _), (x_validation, _) = multi_index(30), multi_index(10, seed=1)
    made = feature_machine.fit(x, np.zeros(30), x_validation, np.zeros(10), iterations=3)
    assert len(made.steps) == 1 and made.best == 0 and "no gradients left" in caplog.text


def test_a_metric_in_which_most_rows_are_equal_ends_the_iterations_and_keeps_the_best(caplog):
    """The median distance along coordinates that are 1 in a tenth of the rows is 0 once one of them is left."""
    x = (np.random.default_rng(5).random((60, 6)) < 0.1).astype(np.float32)
    y = 5 * x[:, 0]
    made = feature_machine.fit(x[:40], y[:40], x[40:], y[40:], diagonal=True, power=10.0, iterations=8)
    assert "cannot be fitted, earlier ones are kept" in caplog.text and "no bandwidth" in caplog.text
    assert 0 < len(made.steps) < 9 and np.isfinite(made.predict(x[40:])).all()


@pytest.mark.parametrize("changes, words", [
    ({"base": "CNTK", "head": "gap"}, "known of .*LAPLACE.*Received: CNTK"), ({"iterations": -1}, "iterations must be"),
    ({"power": 0}, "power above"), ({"factor": 0.0}, "factor above"),
    ({"factor": 2.0, "bandwidth": 1.0}, "A factor multiplies"), ({"factor": 2.0, "base": "NTK"}, "A factor multiplies"),
    ({"base": "NTK", "activation": "erf"}, "gradients of NTK are known with --activation=relu"),
    ({"base": "RF", "num_units": 8}, "gradients of RF are known with --num_units=0"),
    ({"sample": 31}, "at most 30 rows"), ({"y": np.zeros(29)}, "must fit together"),
    ({"x_validation": np.zeros((10, 3))}, "must fit together"), ({"x": np.full((30, 12), np.nan)}, "finite"),
    ({"x": np.ones((30, 12))}, "Give one with --bandwidth"), ({"base": "GAUSS"}, "Unknown kernel"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(changes, words):
    (x, y), (x_validation, y_validation) = multi_index(30), multi_index(10, seed=1)
    given = {"x": x, "y": y, "x_validation": x_validation, "y_validation": y_validation} | changes
    with pytest.raises(UserError, match=words):
        feature_machine.fit(**given)
