"""Training steps against hand-derived ones; where it converges; stopping, resuming, diverging."""

import keras
import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.models import nn, rf
from linearized.solvers.training import sgd
from linearized.solvers.training.batches import Batches
from linearized.solvers.training.declared import changing_weights, gradient_scales
from linearized.solvers.training.objectives import RowLoss, loss_kind
from linearized.solvers.training.scaled import ScaledAdam, ScaledAdamW, ScaledSGD


def step_by_hand(weights, x, y, ridge, velocity, rate, units, momentum=0.9):
    """One published step of the mean-field network: W1, b1, ..., a, c in, the same out, in float64."""
    *hidden, (a, c) = [tuple(weights[i : i + 2]) for i in range(0, len(weights), 2)]
    n, inputs, masks, h = len(x), [], [], x
    for layer, (w, b) in enumerate(hidden):
        inputs.append(h)
        before = h @ w + b
        masks.append(before > 0)
        h = np.maximum(before, 0) / (1 if layer == 0 else units)
    back = 2 * (h @ a / units + c - y) / n
    gradients = [h.T @ back / units * a.size, back.sum(axis=0)]
    back = back @ a.T / units
    for layer in reversed(range(len(hidden))):
        w, b = hidden[layer]
        back = back * masks[layer] / (1 if layer == 0 else units)
        strength, scale_w, scale_b = (ridge, units, units) if layer == 0 else (ridge / np.sqrt(units), w.size, b.size)
        gradients = [scale_w * (inputs[layer].T @ back + 2 * strength * w), scale_b * back.sum(axis=0), *gradients]
        back = back @ w.T
    velocity = [momentum * v + g for v, g in zip(velocity, gradients, strict=True)]
    return [w - rate * v for w, v in zip(weights, velocity, strict=True)], velocity


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("task", ["classes", "regression"])
def test_steps_are_the_hand_derived_ones(tiny, config, layers, task):
    data, rate = tiny(task, n=30), 0.02
    model = nn.build(config(num_layers=layers), data, ridge=0.05)
    values = [array.astype(np.float64) for array in model.get_weights()]
    velocity = [np.zeros_like(array) for array in values]
    optimizer = ScaledSGD(rate, momentum=0.9, scales=gradient_scales(model))
    model.compile(optimizer, RowLoss("square"), jit_compile=False)
    for _ in range(3):
        model.train_on_batch(data.train.x, data.targets(data.train))
        values, velocity = step_by_hand(
            values, data.train.x.astype(float), data.targets(data.train), 0.05, velocity, rate, units=8
        )
    for ours, by_hand in zip(model.get_weights(), values, strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=2e-4, atol=2e-5)


def by_numpy(rule, rates, gradient, start, momentum=0.9):
    """The weights after each step of the rule, in float64."""
    w, v, path = start.astype(np.float64), np.zeros_like(start, np.float64), []
    for rate in rates:
        g = gradient(w)
        if rule == "keras":
            v = momentum * v - rate * g
            w = w + v
        else:
            v = momentum * v + g
            w = w - rate * (g + momentum * v if rule == "nesterov" else v)
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("rule", ["classical", "nesterov", "keras"])
def test_momentum_follows_its_rule_while_the_rate_changes(rule):
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
    start, rates = np.array([1.0, -2.0], np.float32), [0.0, 0.01, 0.02, 0.08, 0.08, 0.01, 0.0, 0.05]
    variable, optimizer = keras.Variable(start), ScaledSGD(0.1, momentum=0.9, rule=rule)
    path = []
    for rate in rates:
        optimizer.learning_rate = rate
        gradient = keras.ops.matmul(matrix, keras.ops.expand_dims(variable.value, 1))[:, 0]
        optimizer.apply([gradient], [variable])
        path.append(np.array(keras.ops.convert_to_numpy(variable)))
    expected = by_numpy(rule, rates, lambda w: matrix.astype(np.float64) @ w, start)
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-6)
    others = [by_numpy(other, rates, lambda w: matrix @ w, start)[-1] for other in ("classical", "nesterov", "keras")]
    assert min(np.abs(others[i] - others[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2
    again = ScaledSGD.from_config(optimizer.get_config())
    assert again.rule == rule and again.momentum == 0.9


def test_momentum_is_gathered_while_the_published_rate_is_zero(tiny, config, tmp_path):
    """One batch per epoch, 16 epochs of the published schedule, which begins at rate 0."""
    data = tiny("regression", n=30)

    def fitted(**options):
        model = nn.build(config(num_layers=1), data, ridge=0.05)
        sgd.fit(model, data, learning_rate=0.02, epochs=16, batch_size=30, **options)
        return model.get_weights()

    model = nn.build(config(num_layers=1), data, ridge=0.05)
    values = [array.astype(np.float64) for array in model.get_weights()]
    velocity = [np.zeros_like(array) for array in values]
    for rate in sgd.Recipe().rates(0.02, 16):
        values, velocity = step_by_hand(
            values, data.train.x.astype(float), data.targets(data.train), 0.05, velocity, rate, units=8
        )
    first = fitted(checkpoint=tmp_path, checkpoint_seconds=0.0)
    for ours, by_hand in zip(first, values, strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=2e-3, atol=2e-4)
    keras_rule = fitted(recipe=sgd.Recipe(momentum="keras"))
    assert max(np.abs(a - b).max() for a, b in zip(first, keras_rule, strict=True)) > 1e-2


def test_adam_has_the_published_epsilon():
    assert ScaledAdam(0.1).epsilon == ScaledAdamW(0.1).epsilon == 1e-8
    assert ScaledAdam.from_config(ScaledAdam(0.1, epsilon=1e-3).get_config()).epsilon == 1e-3


def test_scales_change_nothing_but_the_gradients(tiny, config):
    data = tiny(n=30)
    model = nn.build(config(), data)
    assert gradient_scales(model) == [8.0, 8.0, 8.0 * 3, 1.0]
    assert gradient_scales(rf.build(config(), data)) == [1.0, 1.0]
    for kind in (ScaledSGD, ScaledAdam):
        optimizer = kind(0.1, scales=[1.0, 2.0])
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert type(again) is kind
        assert again.scales == [1.0, 2.0]
    with pytest.raises(ValueError, match="Expected 2 gradients"):
        optimizer.apply([np.ones(2)], [keras.Variable(np.ones(2))])


def test_fixed_weights_are_not_among_those_that_change(tiny, config):
    model = rf.build(config(), tiny())
    assert [variable.path for variable in changing_weights(model)] == ["readout/kernel", "readout/bias"]


def test_rf_converges_to_the_ridge_solution(tiny, config):
    data, ridge = tiny(n=60), 0.02
    model = rf.build(config(), data, ridge=ridge)
    result = sgd.fit(model, data, learning_rate=0.1, epochs=250, batch_size=60, optimizer="sgd")
    features = np.maximum(data.train.x @ model.get_layer("features").get_weights()[0], 0).astype(np.float64)
    design = np.concatenate([features, np.ones((60, 1))], axis=1)
    penalties = np.diag([ridge] * 8 + [0.0])  # first-order training penalises a, not c
    exact = np.linalg.solve(design.T @ design / 60 + penalties, design.T @ data.targets(data.train) / 60)
    np.testing.assert_allclose(rf.get_parameters(model), exact, rtol=1e-3, atol=1e-4)
    pure = float(np.square(data.targets(data.train) - design @ exact).sum(axis=1).mean())
    assert result.history["loss"][-1] == pytest.approx(pure, rel=1e-4)
    assert result.history["penalty"][-1] == pytest.approx(ridge * float((exact[:-1] ** 2).sum()), rel=1e-3)


@pytest.mark.parametrize("loss", ["square", "cross_entropy"])
@pytest.mark.parametrize("task", ["classes", "binary"])
def test_recorded_numbers_are_those_of_the_metrics(tiny, config, loss, task):
    data = tiny(task, validation=True)
    model = nn.build(config(), data, ridge=0.1)
    result = sgd.fit(model, data, learning_rate=0.05, epochs=6, batch_size=(20, 25), loss=loss)
    scores = data.score(data.validation, sgd.predict(model, data.validation.x), loss=loss)
    assert result.history["validation_loss"][-1] == pytest.approx(scores["loss"], rel=1e-5)
    assert result.history["validation_accuracy"][-1] == pytest.approx(scores["accuracy"])
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert {len(values) for values in result.history.values()} == {6}


def test_cross_entropy_of_numbers_is_refused(tiny, config):
    with pytest.raises(UserError, match="square"):
        loss_kind("cross_entropy", "regression")
    data = tiny()
    for wrong in ({"optimizer": "lbfgs"}, {"batch_size": 0}, {"loss": "hinge"}, {"epochs": 0}):
        settings = {"learning_rate": 0.1, "epochs": 2, "batch_size": 10, **wrong}
        with pytest.raises(UserError, match=r"Received|choices"):
            sgd.fit(nn.build(config(), data), data, **settings)


def test_every_row_is_seen_once_an_epoch_in_an_order_of_the_epoch(tiny):
    data = tiny(n=23)
    batches = Batches(data.train.x, data.targets(data.train), 10, seed=3)
    assert [len(batches[i][0]) for i in range(len(batches))] == [10, 10, 3]

    def order(epoch):
        batches.start(epoch)
        seen = np.concatenate([batches[i][0] for i in range(len(batches))])
        return [int(np.flatnonzero((data.train.x == row).all(axis=1))[0]) for row in seen]

    first, second = order(0), order(1)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert order(0) == first
    assert len(Batches(data.train.x, data.targets(data.train), 100)) == 1


class Stopped(Exception):
    """What a killed run raises in these tests."""


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stop_after", [2, 7])
def test_a_resumed_run_is_as_good_as_an_uninterrupted_one(tiny, config, tmp_path, optimizer, stop_after):
    data = tiny(validation=True)
    settings = {"learning_rate": 0.01, "epochs": 10, "batch_size": (20, 30), "optimizer": optimizer, "seed": 4}
    kept = {"checkpoint": tmp_path, "checkpoint_seconds": 0.0, "key": "run"}

    def model():
        return nn.build(config(num_layers=2, drop_rate=0.3), data, ridge=0.01)

    def stop(done, total, logs):
        if done == stop_after and "penalty" in logs:
            raise Stopped

    whole, interrupted, resumed = model(), model(), model()
    expected = sgd.fit(whole, data, **settings)
    with pytest.raises(Stopped):
        sgd.fit(interrupted, data, **settings, **kept, progress=stop)
    told = []
    result = sgd.fit(resumed, data, **settings, **kept, progress=lambda done, total, logs: told.append(done))
    assert min(told) >= stop_after  # it did not start again
    assert result.epochs_done == 10
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    for name in set(expected.history) - {"seconds"}:
        np.testing.assert_allclose(result.history[name], expected.history[name], rtol=1e-5, atol=1e-6)
    finished = model()
    sgd.fit(finished, data, **settings, **kept, progress=stop)  # nothing is left to do, so nothing stops it
    np.testing.assert_array_equal(finished.get_weights()[0], resumed.get_weights()[0])


def test_a_checkpoint_of_another_run_is_left_alone(tiny, config, tmp_path):
    data = tiny()
    settings = {"learning_rate": 0.01, "epochs": 2, "batch_size": 20, "checkpoint": tmp_path}
    sgd.fit(nn.build(config(), data), data, **settings, key="one")
    told = []
    sgd.fit(nn.build(config(), data), data, **settings, key="two", progress=lambda done, *_: told.append(done))
    assert min(told) <= 1


def test_dropout_seeds_follow_the_run(tiny, config):
    data = tiny()

    def trained(drop_rate, seed):
        model = nn.build(config(drop_rate=drop_rate), data)
        sgd.fit(model, data, learning_rate=0.01, epochs=2, batch_size=60, seed=seed)
        return model.get_weights()[0]

    np.testing.assert_allclose(trained(0.5, 1), trained(0.5, 1), atol=1e-6)
    assert np.abs(trained(0.5, 1) - trained(0.5, 2)).max() > 1e-4  # one whole batch: only dropout depends on the seed
    assert np.abs(trained(0.5, 1) - trained(0.0, 1)).max() > 1e-4


def test_divergence_keeps_the_last_good_weights(tiny, config, tmp_path):
    data = tiny("regression")
    model = nn.build(config(num_layers=2), data)
    before = model.get_weights()
    settings = {"learning_rate": 1e12, "epochs": 20, "batch_size": 20}
    result = sgd.fit(model, data, **settings, checkpoint=tmp_path)
    assert result.diverged
    assert "learning_rate" in result.message
    assert 1 <= result.epochs_done < 20
    assert all(np.isfinite(values).all() for values in result.history.values())
    assert all(np.isfinite(array).all() for array in model.get_weights())
    if result.epochs_done == 1:  # the published first epoch has rate 0
        for ours, theirs in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    again = sgd.fit(nn.build(config(num_layers=2), data), data, **settings, checkpoint=tmp_path)
    assert again.diverged
    assert again.epochs_done == result.epochs_done


def test_tensorboard_logs_are_written(tiny, config, tmp_path):
    data = tiny()
    sgd.fit(nn.build(config(), data), data, learning_rate=0.01, epochs=2, batch_size=30, tensorboard=tmp_path / "logs")
    assert list((tmp_path / "logs").rglob("events.out.*"))


def test_tensorboard_has_the_test_curves(tiny, config, tmp_path):
    """The scores after each epoch, of which the last are those of the trained model."""
    from tensorflow.python.summary.summary_iterator import summary_iterator

    data, model = tiny("classes"), nn.build(config(), tiny("classes"))
    sgd.fit(model, data, learning_rate=0.01, epochs=3, batch_size=30, tensorboard=tmp_path)
    [path] = (tmp_path / "test").glob("events.out.*")
    curves = {}
    for event in summary_iterator(str(path)):
        for value in event.summary.value:
            curves.setdefault(value.tag, {})[event.step] = float(tf_number(value))
    scores = data.score(data.test, sgd.predict(model, data.test.x), loss="square")
    assert set(curves) == {"epoch_row_loss", "epoch_row_accuracy"}
    for name in ("loss", "accuracy"):
        assert sorted(curves[f"epoch_row_{name}"]) == [0, 1, 2]
        assert curves[f"epoch_row_{name}"][2] == pytest.approx(scores[name], rel=1e-5)


def tf_number(value):
    import tensorflow as tf

    return tf.make_ndarray(value.tensor)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_l2_decay_is_pytorchs(optimizer):
    """A trajectory against plain NumPy loops: λ w joins the gradient before momentum or Adam's means, at each step."""
    rate, decay, w = 0.1, 0.3, np.array([1.0, -2.0, 0.5])
    variable = keras.Variable(w.astype(np.float32))
    made = {"sgd": ScaledSGD(rate, l2_decay=decay), "adam": ScaledAdam(rate, l2_decay=decay)}[optimizer]
    first, second = np.zeros(3), np.zeros(3)
    for step in range(1, 6):
        gradient = np.array([0.2, -0.1, 0.4]) * step
        made.apply([keras.ops.convert_to_tensor(gradient.astype(np.float32))], [variable])
        gradient = gradient + decay * w
        if optimizer == "sgd":
            first = 0.9 * first + gradient
            w = w - rate * first
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            w = w - rate * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(variable, w, rtol=1e-4, atol=1e-4)
    assert type(made).from_config(made.get_config()).l2_decay == decay


def test_a_trained_model_saves_and_loads_compiled(tiny, config, tmp_path):
    data = tiny()
    model = nn.build(config(), data, ridge=0.1)
    sgd.fit(model, data, learning_rate=0.01, epochs=2, batch_size=30)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.scales == gradient_scales(model)
    x, y = data.test.x, data.targets(data.test)
    np.testing.assert_allclose(again.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-6)


def test_predictions_do_not_depend_on_the_batch(tiny, config):
    data = tiny()
    model = nn.build(config(), data)
    np.testing.assert_allclose(sgd.predict(model, data.test.x, 7), sgd.predict(model, data.test.x), rtol=1e-6)
