"""Positive features of attention: their law, the shift that suits them, and softmax attention as the limit."""

import keras
import numpy as np
import pytest

from linearized.layers.favor_attention import FavorAttention, best_shift
from linearized.layers.snnk.exponentials import Exponentials
from linearized.layers.snnk.universal import UniversalFeatures

DIM = 6


def numpy(value):
    return keras.ops.convert_to_numpy(value)


def exact(q, k, v, keys=None):
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(logits) * (1 if keys is None else keys[:, None])
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def batch(rows=3, length=7, dim=DIM, seed=0):
    return np.random.default_rng(seed).standard_normal((3, rows, length, dim)).astype(np.float32)


@pytest.mark.parametrize("square", [0.1, 1.0, 5.0, 40.0])
def test_best_shift_minimises_the_second_moment(square):
    shifts = np.linspace(0, 8, 80_001)
    log_moment = DIM * np.log(1 + 4 * shifts) - DIM / 2 * np.log(1 + 8 * shifts)
    log_moment += 2 * square * (1 + 4 * shifts) / (1 + 8 * shifts)
    assert best_shift(square, DIM) == pytest.approx(shifts[log_moment.argmin()], abs=2e-4)


def test_second_moment_of_the_features_has_its_closed_form():
    random = np.random.default_rng(0)
    q, k = 0.5 * random.standard_normal((2, 1, DIM)).astype(np.float32)
    square = float(np.square(q + k).sum())
    for shift in (0.0, best_shift(square, DIM)):
        layer = UniversalFeatures(200_000, Exponentials([1.0], [1.0]), shift=shift, orthogonal=False)
        phi, psi = numpy(layer(q))[0].astype(float), numpy(layer(k))[0].astype(float)
        products = phi * psi * layer.count
        assert products.min() > 0 and abs(products.mean() - np.exp(q @ k.T)[0, 0]) < 0.02
        log_moment = DIM * np.log(1 + 4 * shift) - DIM / 2 * np.log(1 + 8 * shift)
        log_moment += 2 * square * (1 + 4 * shift) / (1 + 8 * shift) - np.square(q).sum() - np.square(k).sum()
        assert np.square(products).mean() == pytest.approx(np.exp(log_moment), rel=0.15)


def test_attention_converges_to_softmax_attention():
    q, k, v = batch()
    errors = []
    for m in (64, 4096):
        found = np.array([numpy(FavorAttention(m, seed=seed)(q, k, v)) for seed in range(3)])
        errors.append(np.sqrt(np.mean(np.square(found - exact(q, k, v)))))
    assert errors[1] < 0.25 * errors[0] and errors[1] < 0.05
    plain = np.array([numpy(FavorAttention(64, shift=0.0, seed=seed)(q, k, v)) for seed in range(20)])
    best = np.array([numpy(FavorAttention(64, seed=seed)(q, k, v)) for seed in range(20)])
    assert np.square(best - exact(q, k, v)).mean() < np.square(plain - exact(q, k, v)).mean()


def test_heads_masks_and_defaults():
    q, k, v = batch()
    layer = FavorAttention(4096)
    heads = numpy(layer(*(np.stack([x, -x], axis=2) for x in (q, k, v))))
    np.testing.assert_allclose(heads[:, :, 0], numpy(layer(q, k, v)), rtol=1e-4, atol=1e-5)
    assert np.sqrt(np.mean((heads[:, :, 1] + heads[:, :, 0]) ** 2)) < 0.15  # the softmax of -q·-k, by the same features
    keys = np.arange(7) < 4
    masked = numpy(layer(q, k, v, key_mask=np.broadcast_to(keys, (3, 7))))
    assert np.sqrt(np.mean((masked - exact(q, k, v, np.broadcast_to(keys, (3, 7)))) ** 2)) < 0.15
    np.testing.assert_array_equal(numpy(layer(q)), numpy(layer(q, q, q)))
    assert np.isfinite(numpy(layer(100 * q, 100 * k, v))).all()
