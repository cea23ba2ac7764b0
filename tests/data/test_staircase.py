"""STAIRCASE: targets and their exponents, rows that do not depend on their number, noise in train labels alone."""

import itertools

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.data.sources.index_targets import index_target
from linearized.settings.config import parse
from linearized.settings.data_settings import LevelsSettings


def brute_leap(target):
    """The leap exponent by its definition: the best of all orders of the terms."""
    best = np.inf
    for order in itertools.permutations(target.terms):
        known, worst = set(), 0
        for term in order:
            worst = max(worst, sum(degree for index, degree in term if index not in known))
            known |= {index for index, _ in term}
        best = min(best, worst)
    return best


@pytest.mark.parametrize("text, information, leap", [
    ("1+2+3+1*2*3", 1, 1), ("1+1*2+1*2*3", 1, 1), ("1*2*3", 3, 3), ("1^2", 2, 2), ("1^3+2", 1, 3), ("1+1*2*3", 1, 2),
    ("1*2+1*2*3*4", 2, 2), ("1^2+1*2*3", 2, 2), ("1+2^2*1+3*2", 1, 2), ("1*2+3*4+1*2*3*4*5", 2, 2),
])  # fmt: skip
def test_exponents_are_those_of_the_definition(text, information, leap):
    target = index_target(text)
    assert target.information_exponent == information and target.leap_exponent == leap == brute_leap(target)


def test_terms_are_uncorrelated_with_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal(size=(400_000, 3))
    texts = ["1", "2", "1*2*3", "1^2", "1^3", "1^2*2"]
    values = np.stack([index_target(text)(x) for text in texts])
    np.testing.assert_allclose(values @ values.T / len(x), np.eye(len(texts)), atol=0.06)
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=0.01)
    np.testing.assert_allclose(index_target("1^2+2")(x), (x[:, 0] ** 2 - 1) / np.sqrt(2) + x[:, 1], atol=1e-12)


def test_the_default_target_is_what_its_title_says():
    rows = linearized.load("STAIRCASE", num_train=5000, num_test=2000)
    assert rows.train.x.shape == (5000, 200) and rows.task == "regression"
    x = rows.train.x.astype(float)
    np.testing.assert_allclose(rows.train.y[:, 0], x[:, 0] + x[:, 1] + x[:, 2] + x[:, 0] * x[:, 1] * x[:, 2], atol=1e-5)
    assert abs(x.mean()) < 0.005 and abs(x.var() - 1) < 0.01 and np.var(rows.train.y) == pytest.approx(4, rel=0.15)
    assert rows.notes == {"information_exponent": 1, "leap_exponent": 1}
    np.testing.assert_array_equal(rows.directions, np.eye(200, 3))
    assert np.abs(rows.train.x[:2000] - rows.test.x).max() > 1


def test_rows_do_not_depend_on_how_many_are_taken():
    few, many = (linearized.load("STAIRCASE", 2, num_train=n, num_test=n, index_dim=5) for n in (10, 5000))
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(few, part).x, getattr(many, part).x[:10])
        np.testing.assert_array_equal(getattr(few, part).y, getattr(many, part).y[:10])
    assert few.fingerprint != many.fingerprint


def test_noise_is_in_train_labels_alone():
    clean, noisy = (
        linearized.load("STAIRCASE", level, num_train=20_000, num_test=100, index_dim=4) for level in (0, 3)
    )
    np.testing.assert_array_equal(clean.test.y, noisy.test.y)
    errors = noisy.train.y - clean.train.y
    assert errors.std() == pytest.approx(0.5, rel=0.03) and abs(errors.mean()) < 0.02
    assert clean.fingerprint != noisy.fingerprint and noisy.noise == "σ = 0.5"
    assert (clean.label_noise, noisy.label_noise) == pytest.approx((0, 0.25))


def test_signs_and_rotations():
    signs = linearized.load("STAIRCASE", num_train=3000, num_test=10, index_inputs="signs", index_target="1*3")
    assert set(np.unique(signs.train.x)) == {-1.0, 1.0} and abs(signs.train.x.mean()) < 0.01
    np.testing.assert_array_equal(signs.train.y[:, 0], signs.train.x[:, 0] * signs.train.x[:, 2])
    np.testing.assert_array_equal(signs.directions, np.eye(200)[:, [0, 2]])
    turned = linearized.load(
        "STAIRCASE", num_train=50, num_test=10, index_dim=9, index_target="1*2", index_rotated=True
    )
    np.testing.assert_allclose(turned.directions.T @ turned.directions, np.eye(2), atol=1e-6)
    product = (turned.train.x @ turned.directions).prod(axis=1)
    np.testing.assert_allclose(turned.train.y[:, 0], product, atol=1e-5)


@pytest.mark.parametrize("changes, words", [
    ({"index_target": "1+x"}, "sum of products"), ({"index_target": ""}, "sum of products"),
    ({"index_target": "0"}, "sum of products"), ({"index_target": "1+1"}, "names a term twice"),
    ({"index_target": "1*1"}, "1^2, not"), ({"index_target": "1^11"}, "degree 10 at most"),
    ({"index_target": "+".join(map(str, range(1, 70)))}, "at most 64 terms"),
    ({"index_target": "7", "index_dim": 6}, "needs 7 coordinates"),
    ({"index_target": "1^2", "index_inputs": "signs"}, "Powers of signs"),
    ({"index_inputs": "signs", "index_rotated": True}, "no rotation"),
])  # fmt: skip
def test_targets_that_do_not_fit_are_refused_before_anything_is_drawn(changes, words):
    flags = [f"--{name}={value}" for name, value in changes.items()]
    with pytest.raises(UserError, match=words.replace("^", r"\^")):
        parse(LevelsSettings, ["--dataset=STAIRCASE", *flags])
    with pytest.raises(UserError, match=words.replace("^", r"\^")):
        linearized.load("STAIRCASE", num_train=5, num_test=5, **changes)


def test_settings_are_refused_elsewhere_and_give_the_length_of_a_row():
    assert parse(LevelsSettings, ["--dataset=STAIRCASE", "--index_dim=7"]).dim() == 7
    assert parse(LevelsSettings, ["--dataset=SYNTH", "--synth_dim=70"]).dim() == 70
    with pytest.raises(UserError, match="--index_dim is read by --dataset=STAIRCASE"):
        parse(LevelsSettings, ["--dataset=SYNTH", "--index_dim=7"])
