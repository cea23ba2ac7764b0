"""The published learning rates and batch sizes, number by number."""

import math

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.models import MODELS, declaration
from linearized.solvers.training.recipe import Recipe
from linearized.solvers.training.schedule import batch_sizes, lambda_rates, learning_rates, warm_up_epochs


@pytest.mark.parametrize("epochs", [16, 40, 750])
def test_rates_are_the_published_ones(epochs):
    expected = []
    for t in range(epochs):
        if t < 15:
            expected.append(0.5 * 2 * t / 15)
        else:
            expected.append(max(0.5 * (1 + math.cos(math.pi * (t - 15) / (epochs - 15))), 0.5 / 15))
    np.testing.assert_allclose(learning_rates(0.5, epochs), expected, rtol=1e-12)
    assert learning_rates(0.5, epochs)[0] == 0
    assert learning_rates(0.5, epochs)[15] == 1.0  # the peak is twice the rate


@pytest.mark.parametrize("epochs", range(1, 16))
def test_short_runs_spend_no_epoch_at_rate_zero(epochs):
    rates = learning_rates(0.5, epochs)
    assert rates.shape == (epochs,)
    assert rates.min() >= 0.5 / 15 - 1e-12
    assert rates.max() == rates[warm_up_epochs(epochs)] == 1.0
    assert np.all(np.diff(rates[: warm_up_epochs(epochs) + 1]) > 0)


@pytest.mark.parametrize(("rate", "epochs"), [(0.1, 0), (0.0, 5), (-1.0, 5), (math.nan, 5), (math.inf, 5)])
def test_senseless_schedules_are_refused(rate, epochs):
    with pytest.raises(UserError, match="Received"):
        learning_rates(rate, epochs)


@pytest.mark.parametrize(
    ("batches", "family", "given", "sizes"),
    [
        ("convolutional", "FMNIST", None, (128, 128)),
        ("convolutional", "CIFAR2", 100, (100, 100)),
        ("convolutional", "CIFAR10", 2_000, (2_000, 2_000)),
        ("dense", "CIFAR2", None, (250, 250)),
        ("dense", "FMNIST", None, (500, 1000)),
        ("dense", "FMNIST", 700, (700, 700)),
        ("dense", "FMNIST", 5_000, (5_000, 5_000)),
        ("dense", "SYNTH", None, (512, 1024)),
        ("linear", "FMNIST", None, (10_000, 10_000)),
        ("linear", "SYNTH", 4_000, (4_000, 4_000)),
        ((3, 7), "FMNIST", None, (3, 7)),
        ((3, 7), "FMNIST", 20, (20, 20)),
    ],
)
def test_batches_are_the_published_ones_or_those_given(batches, family, given, sizes):
    assert batch_sizes(batches, family, given) == sizes


def test_models_have_the_batches_that_they_were_published_with():
    sizes = {name: batch_sizes(declaration(name).batches, "CIFAR10") for name in MODELS}
    assert sizes == {"NN": (512, 1024), "SNNK_MLP": (512, 1024), "RF": (10_000, 10_000), "NT": (10_000, 10_000),
                     **dict.fromkeys(("CNN", "KERV_CNN", "RESNET", "LAMBDA_RESNET"), (128, 128))}  # fmt: skip


def test_a_batch_holds_a_row():
    with pytest.raises(UserError, match="max_batch_size"):
        batch_sizes("dense", "SYNTH", 0)
    with pytest.raises(ValueError, match="dense, convolutional, linear"):
        batch_sizes("NN", "SYNTH")


@pytest.mark.parametrize("epochs", [1, 5, 6, 12, 20, 90])
def test_lambda_rates_equal_the_published_loop(epochs):
    """The published training steps a linear scheduler after epochs 0 to 3, a recursive cosine after all later ones."""
    rate, steps, expected = 5e-4, 0, []
    for epoch in range(epochs):
        expected.append(rate)
        if epoch < 4:
            rate = 5e-4 * (epoch + 2)
        elif epochs > 5:
            steps += 1
            half = np.pi / (epochs - 5)
            rate *= (1 + np.cos(half * steps)) / (1 + np.cos(half * (steps - 1)))
    rates = lambda_rates(5e-4, epochs)
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(Recipe(schedule="lambda").rates(5e-4, epochs), rates)
    if epochs > 5:
        assert rates[-1] < 1e-12 and rates.max() == pytest.approx(2.5e-3)
