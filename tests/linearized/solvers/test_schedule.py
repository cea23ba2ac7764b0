"""The published learning rates and batch sizes, number by number."""

import math

import numpy as np
import pytest

from data.errors import UserError
from linearized.solvers.schedule import batch_sizes, learning_rates, warm_up_epochs


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
    ("model", "family", "largest", "sizes"),
    [
        ("CNN", "FMNIST", 10_000, (128, 128)),
        ("CNN", "CIFAR2", 100, (100, 100)),
        ("NN", "CIFAR2", 10_000, (250, 250)),
        ("NN", "FMNIST", 10_000, (500, 1000)),
        ("NN", "FMNIST", 700, (500, 700)),
        ("NN", "SYNTH", 10_000, (512, 1024)),
        ("RF", "FMNIST", 10_000, (10_000, 10_000)),
        ("NT", "SYNTH", 4_000, (4_000, 4_000)),
        ("RF", "SYNTH", 50_000, (10_000, 10_000)),
    ],
)
def test_batches_are_the_published_ones(model, family, largest, sizes):
    assert batch_sizes(model, family, largest) == sizes


def test_a_batch_holds_a_row():
    with pytest.raises(UserError, match="max_batch_size"):
        batch_sizes("NN", "SYNTH", 0)
