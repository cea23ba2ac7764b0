"""Newton-CG against closed forms and differences, and taken up again after a stop."""

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.models import cnn, nn, nt, rf
from linearized.solvers.training import newton_cg
from linearized.solvers.training.derivatives import Objective


def objective_of(model, data, kind="square", size=10_000):
    return Objective(model, data, kind, size)


@pytest.mark.parametrize(("module", "kind"), [(nn, "square"), (nt, "softmax"), (cnn, "softmax")])
def test_derivatives_are_the_limits_of_differences(tiny, config, module, kind):
    data = tiny(n=20, side=5)
    objective = objective_of(module.build(config(num_units=3), data, ridge=0.1), data, kind, size=7)
    random = np.random.default_rng(0)
    x = objective.start() + 0.1 * random.standard_normal(objective.start().size)
    for _ in range(3):
        direction = random.standard_normal(x.size)
        direction /= np.linalg.norm(direction)
        h = 1e-6
        ahead, behind = objective(x + h * direction), objective(x - h * direction)
        gradient = objective(x)[1]
        assert gradient @ direction == pytest.approx((ahead[0] - behind[0]) / (2 * h), rel=1e-5, abs=1e-8)
        expected = (ahead[1] - behind[1]) / (2 * h)
        np.testing.assert_allclose(objective.hessian_product(x, direction), expected, rtol=1e-3, atol=1e-5)


def test_chunks_add_up_to_the_whole(tiny, config):
    data = tiny(n=23)
    model = nn.build(config(), data, ridge=0.1)
    whole, parts = objective_of(model, data), objective_of(model, data, size=5)
    x = whole.start()
    assert whole(x)[0] == pytest.approx(parts(x)[0], rel=1e-12)
    np.testing.assert_allclose(whole(x)[1], parts(x)[1], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(whole.hessian_product(x, x), parts.hessian_product(x, x), rtol=1e-10, atol=1e-12)


def test_square_loss_ends_at_the_ridge_solution(tiny, config):
    data, ridge = tiny(n=60), 0.02
    model = rf.build(config(), data, ridge=ridge)
    result = newton_cg.minimise(model, data, tolerance=1e-9)
    design = np.maximum(data.train.x @ model.get_layer("features").get_weights()[0].astype(np.float64), 0)
    design = np.concatenate([design, np.ones((60, 1))], axis=1)
    penalties = np.diag([ridge] * 8 + [0.0])
    exact = np.linalg.solve(design.T @ design / 60 + penalties, design.T @ data.targets(data.train) / 60)
    assert result.converged
    assert result.iterations == len(result.history) == len(result.gradient_norms) < 30
    np.testing.assert_allclose(rf.get_parameters(model), exact, rtol=1e-5, atol=1e-6)
    pure = np.square(data.targets(data.train) - design @ exact).sum(axis=1).mean()
    assert result.objective == pytest.approx(pure + ridge * (exact[:-1] ** 2).sum(), rel=1e-8)


@pytest.mark.parametrize("task", ["classes", "binary"])
def test_cross_entropy_ends_at_gradient_zero(tiny, config, task):
    data, ridge = tiny(task), 0.02
    model = rf.build(config(), data, ridge=ridge)
    result = newton_cg.minimise(model, data, loss="cross_entropy", tolerance=1e-7)
    assert result.converged
    assert np.all(np.diff(result.history) <= 1e-15)
    parameters, targets = rf.get_parameters(model).astype(np.float64), data.targets(data.train)
    features = np.maximum(data.train.x @ model.get_layer("features").get_weights()[0].astype(np.float64), 0)
    logits = features @ parameters[:-1] + parameters[-1]
    exponentials = np.exp(logits)
    odds = exponentials / (exponentials.sum(axis=1, keepdims=True) if task == "classes" else 1 + exponentials)
    gradient = features.T @ (odds - targets) / len(targets) + 2 * ridge * parameters[:-1]
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_rounding_ends_a_run_that_asks_too_much(tiny, config):
    data = tiny("binary")
    result = newton_cg.minimise(rf.build(config(), data, ridge=0.02), data, loss="cross_entropy", tolerance=1e-30)
    assert not result.converged
    assert result.iterations < 50
    assert result.gradient_norm < 1e-7
    assert "precision" in result.message


def test_a_network_goes_downhill(tiny, config):
    data = tiny()
    model = nn.build(config(drop_rate=0.5), data, ridge=1e-3)
    result = newton_cg.minimise(model, data, max_iterations=25)
    assert result.history[-1] < 0.5 * result.history[0]
    assert result.iterations == 25
    assert not result.converged
    assert objective_of(model, data)(objective_of(model, data).start())[0] == pytest.approx(result.objective, rel=1e-4)


class Stopped(Exception):
    """What a killed run raises in these tests."""


def test_a_resumed_run_takes_the_same_steps(tiny, config, tmp_path):
    data = tiny()
    settings = {"max_iterations": 27, "tolerance": 1e-12}
    kept = {"checkpoint": tmp_path, "checkpoint_seconds": 0.0, "key": "run"}

    def stop(done, total, logs):
        if done == 14:
            raise Stopped

    whole, interrupted, resumed = (nn.build(config(), data, ridge=1e-3) for _ in range(3))
    expected = newton_cg.minimise(whole, data, **settings)
    with pytest.raises(Stopped):
        newton_cg.minimise(interrupted, data, **settings, **kept, progress=stop)
    told = []
    result = newton_cg.minimise(resumed, data, **settings, **kept, progress=lambda done, *_: told.append(done))
    assert told[0] == 11
    np.testing.assert_allclose(result.history, expected.history, rtol=1e-6)
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_loss_that_overflows_is_refused_as_a_step(tiny, config):
    data = tiny()
    objective = objective_of(nn.build(config(), data), data)
    value, gradient = objective(np.full_like(objective.start(), 1e300))
    assert value == np.inf
    assert np.isfinite(gradient).all()


def test_a_start_without_a_loss_is_refused(tiny, config):
    data = tiny()
    model = nn.build(config(), data)
    model.get_layer("hidden_1").kernel.assign(np.full((16, 8), np.nan, np.float32))
    with pytest.raises(UserError, match="not finite"):
        newton_cg.minimise(model, data)
    with pytest.raises(UserError, match="max_iterations"):
        newton_cg.minimise(model, data, max_iterations=0)
