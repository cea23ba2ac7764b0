"""Products of the least-squares problems against matrices that are written out, and loops over data points."""

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.base.errors import UserError
from linearized.problems import FeatureProblem, LeastSquares, MatrixProblem, TangentProblem
from linearized.problems.least_squares import cheapest_mode
from linearized.problems.tangent_layout import Parameters

MODES = ("kept", "recomputed", "gram")


def arrays(seed, n, dim, units, outputs):
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, dim)).astype(np.float32)
    y = random.standard_normal((n, outputs)).astype(np.float32)
    weights = random.standard_normal((dim, units)).astype(np.float32)
    readout = random.standard_normal((outputs, units)).astype(np.float32)
    return x, y, weights, readout


def dense_features(x, weights):
    """[relu(x W), 1] in float64."""
    product = x.astype(np.float64) @ weights.astype(np.float64)
    return np.concatenate([np.where(product > 0, product, 0), np.ones((len(x), 1))], axis=1)


def tangent_by_loops(x, weights, readout, a, bias, g):
    """The NT model's formula, a data point, a class and a unit at a time; g is (N, d) or (k, N, d)."""
    x, weights, readout = (array.astype(np.float64) for array in (x, weights, readout))
    f = np.zeros((len(x), len(bias)))
    for row in range(len(x)):
        for k in range(len(bias)):
            f[row, k] = bias[k]
            for i in range(weights.shape[1]):
                z = weights[:, i] @ x[row]
                gate = 1.0 if z > 0 else 0.5 if z == 0 else 0.0
                direction = g[i] if g.ndim == 2 else g[k, i]
                f[row, k] += max(z, 0) * a[i, k] + readout[k, i] * gate * (direction @ x[row])
    return f


def dense_tangent(problem, x, weights, readout):
    """A column by column: the loops applied to unit vectors."""
    columns = []
    for unit in np.eye(problem.params):
        parameters = problem.layout.unpack(unit[:, None])
        f = tangent_by_loops(x, weights, readout, *(part[0] for part in parameters))
        columns.append(f.ravel())
    return np.array(columns).T


def assert_products(problem, matrix, seed=0):
    """Every product of `problem` is that of `matrix`, for one and for several columns."""
    random = np.random.default_rng(seed)
    scale = np.linalg.norm(matrix, 2)
    assert (problem.rows, problem.params) == matrix.shape
    for columns in (1, 3):
        u = random.standard_normal((problem.rows, columns))
        v = random.standard_normal((problem.params, columns))
        for name, value, expected, size in (
            ("forward", problem.forward(v), matrix @ v, scale),
            ("adjoint", problem.adjoint(u), matrix.T @ u, scale),
            ("dual_product", problem.dual_product(u), matrix @ (matrix.T @ u), scale**2),
            ("primal_product", problem.primal_product(v), matrix.T @ (matrix @ v), scale**2),
        ):
            assert value.dtype == np.float64, name
            np.testing.assert_allclose(
                value, expected, rtol=0, atol=3e-6 * size * np.sqrt(u.size + v.size), err_msg=name
            )
    v = random.standard_normal((problem.params, 2 * problem.columns))
    predictions, gradient = problem.evaluate(v)
    errors = np.concatenate([problem.targets, problem.targets], axis=1) - matrix @ v
    np.testing.assert_allclose(predictions, matrix @ v, rtol=0, atol=1e-5 * scale * np.sqrt(v.size))
    np.testing.assert_allclose(gradient, matrix.T @ errors, rtol=0, atol=1e-5 * scale**2 * np.sqrt(v.size))


@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), dim=st.integers(1, 9), units=st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_feature_products_are_those_of_the_written_matrix(mode, seed, n, dim, units):
    x, y, weights, _ = arrays(seed, n, dim, units, 2)
    problem = FeatureProblem(x, y, weights, mode=mode, xp=np)
    assert problem.kept == (mode == "kept")
    assert_products(problem, dense_features(x, weights), seed)


@pytest.mark.parametrize(("n", "units"), [(700, 90), (90, 700)])
@pytest.mark.parametrize("mode", MODES)
def test_feature_products_over_many_tiles(mode, n, units):
    x, y, weights, _ = arrays(1, n, 12, units, 3)
    problem = FeatureProblem(x, y, weights, mode=mode, memory=16 * 16 * max(n, units), xp=np)  # 16 to a tile
    assert_products(problem, dense_features(x, weights))
    new = np.random.default_rng(2).standard_normal((55, 12)).astype(np.float32)
    v = np.random.default_rng(3).standard_normal((units + 1, 4))
    np.testing.assert_allclose(problem.predict(new, v), dense_features(new, weights) @ v, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_keras_and_numpy_give_the_same_products(mode):
    keras = pytest.importorskip("keras")
    x, y, weights, readout = arrays(4, 30, 5, 41, 1)
    for dataset in ((x, y, weights), (np.tile(x, (2, 1)), np.tile(y, (2, 1)), weights)):
        assert_products(FeatureProblem(*dataset, mode=mode, xp=keras.ops), dense_features(dataset[0], weights))
    problem = TangentProblem(x[:6], y[:6], weights[:, :7], readout[:, :7], mode=mode, xp=keras.ops)
    assert_products(problem, dense_tangent(problem, x[:6], weights[:, :7], readout[:, :7]))


def test_a_memory_map_is_read_as_an_array(tmp_path):
    x, y, weights, _ = arrays(5, 40, 6, 20, 1)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_products(FeatureProblem(mapped, y, weights, mode="recomputed", xp=np), dense_features(x, weights))


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("mode", ["kept", "recomputed"])
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6), dim=st.integers(1, 4), units=st.integers(1, 5))
@settings(max_examples=8, deadline=None)
def test_tangent_products_are_those_of_the_looped_formula(mode, per_class, seed, n, dim, units):
    outputs = 1 + seed % 3
    x, y, weights, readout = arrays(seed, n, dim, units, outputs)
    problem = TangentProblem(x, y, weights, readout, per_class=per_class, mode=mode, xp=np)
    assert problem.params == units * outputs + outputs + units * dim * (outputs if per_class else 1)
    assert_products(problem, dense_tangent(problem, x, weights, readout), seed)


def test_the_gate_is_a_half_at_zero():
    x, y, weights, readout = arrays(6, 3, 2, 4, 2)
    x[1] = 0
    weights[:, 2] = 0
    problem = TangentProblem(x, y, weights, readout, xp=np)
    assert_products(problem, dense_tangent(problem, x, weights, readout))


@pytest.mark.parametrize("mode", MODES)
def test_tangent_products_over_many_tiles(mode):
    """Against A Aᵀ in closed form, and adjointness, at a size that loops cannot reach."""
    n, dim, units = 300, 11, 130
    x, y, weights, readout = arrays(7, n, dim, units, 1)
    problem = TangentProblem(x, y, weights, readout, mode=mode, memory=2**14, xp=np)
    z = x.astype(np.float64) @ weights
    gates = (z > 0) * readout[0].astype(np.float64)
    kernel = np.maximum(z, 0) @ np.maximum(z, 0).T + 1 + (x.astype(np.float64) @ x.T) * (gates @ gates.T)
    u = np.random.default_rng(8).standard_normal((n, 2))
    np.testing.assert_allclose(problem.dual_product(u), kernel @ u, rtol=1e-4, atol=1e-6 * np.linalg.norm(kernel))
    v = np.random.default_rng(9).standard_normal((problem.params, 2))
    np.testing.assert_allclose(np.sum(problem.forward(v) * u), np.sum(v * problem.adjoint(u)), rtol=1e-4)
    np.testing.assert_allclose(problem.forward(problem.adjoint(u)), kernel @ u, rtol=1e-4, atol=1e-6 * kernel.max() * n)


@pytest.mark.parametrize("per_class", [False, True])
def test_tangent_predicts_column_after_column(per_class):
    x, y, weights, readout = arrays(10, 8, 3, 5, 2)
    problem = TangentProblem(x, y, weights, readout, per_class=per_class, xp=np)
    v = np.random.default_rng(11).standard_normal((problem.params, 3))
    new = np.random.default_rng(12).standard_normal((4, 3)).astype(np.float32)
    predicted = problem.predict(new, v)
    for column in range(3):
        parts = (part[column] for part in problem.layout.unpack(v))
        expected = tangent_by_loops(new, weights, readout, *parts)
        np.testing.assert_allclose(predicted[:, 2 * column : 2 * column + 2], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(problem.layout.pack(problem.layout.unpack(v)), v)


def test_shared_directions_are_per_class_ones_that_agree():
    x, y, weights, readout = arrays(13, 9, 4, 6, 3)
    shared = TangentProblem(x, y, weights, readout, xp=np)
    own = TangentProblem(x, y, weights, readout, per_class=True, xp=np)
    v = np.random.default_rng(14).standard_normal((shared.params, 1))
    a, bias, g = shared.layout.unpack(v)
    same = own.layout.pack(Parameters(a, bias, np.repeat(g[:, None], 3, axis=1)))
    np.testing.assert_allclose(own.forward(same), shared.forward(v), rtol=1e-5, atol=1e-5)


def test_the_base_class_needs_forward_and_adjoint_only():
    matrix = np.random.default_rng(15).standard_normal((6, 4))
    problem = MatrixProblem(matrix, np.ones((6, 2)))
    assert isinstance(problem, LeastSquares)
    assert not problem.dual and problem.block == 2
    assert_products(problem, matrix)


def test_the_cheapest_mode_follows_the_written_formula():
    def mode(n, units, columns, memory, dim=784):
        side = min(n, units + 1)
        skinny = 6 + 6 * columns
        return cheapest_mode(
            entries=n * units, make=dim, use=skinny, form=side // 2, columns=columns, side=side, memory=memory,
            kept_bytes=4 * n * (units + 1), gram_bytes=12 * side**2,
        )  # fmt: skip

    assert mode(5000, 20000, 1, 2**30) == "kept"
    assert mode(60000, 4096, 10, 2**32) == "gram"
    assert mode(60000, 321126, 10, 2**33) == "recomputed"
    assert mode(5000, 20000, 1, 2**20) == "recomputed"


def test_the_budget_decides_what_is_kept():
    x, y, weights, _ = arrays(16, 50, 4, 60, 1)
    assert not FeatureProblem(x, y, weights, memory=4 * 50 * 61 - 1, xp=np).kept
    kept = FeatureProblem(x, y, weights, memory=4 * 50 * 61, xp=np)
    assert kept.mode in ("kept", "gram") and kept.spare < kept.memory


@pytest.fixture
def unchecked():
    """Shapes as a user meets them: the type checks of the tests would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_what_does_not_fit_together_is_refused(unchecked):
    x, y, weights, readout = arrays(17, 5, 3, 4, 2)
    with pytest.raises(UserError, match="must agree"):
        FeatureProblem(x, y[:4], weights)
    with pytest.raises(UserError, match="must agree"):
        TangentProblem(x, y, weights, readout[:1])
    with pytest.raises(UserError, match="forms A Aᵀ only with fewer rows than parameters"):
        TangentProblem(*arrays(17, 100, 3, 4, 2), mode="gram")
    y[2, 1] = np.nan
    with pytest.raises(UserError, match="labels are not finite: 1 of 10"):
        FeatureProblem(x, y, weights)
