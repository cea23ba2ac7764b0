"""Products with Jacobians against stored ones, and the linearized model against ridge regression on its tangents."""

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.problems.jacobian_problem import JacobianProblem
from linearized.solvers import SOLVERS

from .architectures import L, made, sequential, vectors
from .test_empirical import jacobian

NAMES = ["mlp", "cnn", "transformer", "reused", "tied"]


def problem(name, **settings):
    model, x = made(name)
    y = np.random.default_rng(3).standard_normal((len(x), model(x[:1]).shape[1]))
    return model, x, y, JacobianProblem(model, x, y, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_of_the_jacobian(name, monkeypatch):
    monkeypatch.setattr("linearized.tangents.products.ROWS", 3)  # two blocks
    model, x, _, ours = problem(name)
    whole = jacobian(model, x).reshape(-1, ours.params)
    random = np.random.default_rng(0)
    v, u = random.standard_normal((ours.params, 2)), random.standard_normal((ours.rows, 2))
    np.testing.assert_allclose(ours.forward(v), whole @ v, atol=1e-5 * np.abs(whole @ v).max())
    np.testing.assert_allclose(ours.adjoint(u), whole.T @ u, atol=1e-5 * np.abs(whole.T @ u).max())
    gap = np.abs(np.sum(u * ours.forward(v)) - np.sum(v * ours.adjoint(u)))
    assert gap < 1e-5 * np.linalg.norm(u) * np.linalg.norm(ours.forward(v))


@pytest.mark.parametrize("offset", [True, False])
def test_the_solution_is_kernel_ridge_regression_on_the_empirical_ntk(offset):
    model, x, y, ours = problem("mlp", offset=offset)
    ridges = [0.1, 10.0]
    found = SOLVERS.load("lanczos").solve(ours, ridges, rtol=1e-6, atol=0.0, max_iterations=200)
    kernel = linearized.empirical_ntk(model, x, outputs="full").astype(np.float64).transpose(0, 2, 1, 3)
    kernel = kernel.reshape(ours.rows, ours.rows)
    start = np.asarray(model(x)).astype(np.float64) if offset else np.zeros_like(y)
    for ridge, one in zip(ridges, found, strict=True):
        alpha = np.linalg.solve(kernel + ridge * np.eye(ours.rows), (y - start).reshape(-1))
        expected = start + (kernel @ alpha).reshape(y.shape)
        np.testing.assert_allclose(ours.predict(x, one.value), expected, atol=1e-4 * np.abs(expected).max())


def test_chosen_variables_alone_move():
    model, x, y, _ = problem("mlp")
    last = JacobianProblem(model, x, y, variables=lambda one: one.path.endswith("dense_2/kernel")
                           or one is model.trainable_variables[-1])  # fmt: skip
    assert last.params < sum(int(np.prod(one.shape)) for one in model.trainable_variables)
    with pytest.raises(UserError, match="no trainable variable that was chosen"):
        JacobianProblem(model, x, y, variables=lambda one: False)


def test_targets_of_another_shape_are_refused():
    model, x = sequential(vectors(), L.Dense(3))
    with pytest.raises(UserError, match=r"has outputs \(4, 3\)"):
        JacobianProblem(model, x, np.zeros((4, 2)))
