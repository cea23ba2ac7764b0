"""SPHERE: where its rows lie, what its labels are, and that parts and noise levels share their rows."""

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError


def test_rows_lie_on_the_sphere_and_the_target_is_linear():
    loaded = linearized.load("SPHERE", 5, synth_dim=30)
    assert (len(loaded.train), len(loaded.test), loaded.dim, loaded.task) == (20_000, 10_000, 30, "regression")
    np.testing.assert_allclose(np.linalg.norm(loaded.train.x, axis=1), np.sqrt(30), rtol=1e-5)
    np.testing.assert_array_equal(loaded.test.y[:, 0], loaded.test.x[:, 0])
    noise = loaded.train.y[:, 0] - loaded.train.x[:, 0]
    assert loaded.label_noise == pytest.approx(0.25)
    assert noise.std() == pytest.approx(0.5, rel=0.03) and abs(np.corrcoef(noise, loaded.train.x[:, 0])[0, 1]) < 0.03
    covariance = loaded.train.x.T @ loaded.train.x / 20_000
    np.testing.assert_allclose(covariance, np.eye(30), atol=0.05)


def test_levels_and_parts_are_of_the_same_rows():
    whole, part = (linearized.load("SPHERE", level, synth_dim=8, num_train=n) for level, n in ((0, 0), (9, 50)))
    np.testing.assert_array_equal(whole.train.x[:50], part.train.x)
    np.testing.assert_array_equal(whole.train.y[:, 0], whole.train.x[:, 0])
    assert whole.fingerprint != part.fingerprint
    drawn = linearized.load("SPHERE", 0, synth_dim=8, num_train=50, subset="random", seed=3)
    assert not np.array_equal(drawn.train.x, part.train.x)


def test_rows_beyond_the_machine_are_refused():
    with pytest.raises(UserError, match=r"SPHERE with --synth_dim=1000000 needs .*Lower --synth_dim"):
        linearized.load("SPHERE", 0, synth_dim=10**6)
