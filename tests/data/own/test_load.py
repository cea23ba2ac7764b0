"""`linearized.load` of your own data: the rows of the command's flags."""

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError


@pytest.fixture
def table(tmp_path):
    draws = np.random.default_rng(0)
    np.savez(tmp_path / "table.npz", x=draws.normal(size=(60, 5)).astype(np.float32), y=draws.integers(0, 3, 60))
    return str(tmp_path / "table.npz")


def test_a_path_is_loaded_as_the_same_arrays_are(table):
    arrays = np.load(table)
    found, given = linearized.load(table, seed=3), linearized.from_arrays(arrays["x"], arrays["y"], seed=3)
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(found, split).x, getattr(given, split).x)
        np.testing.assert_array_equal(getattr(found, split).y, getattr(given, split).y)


def test_settings_of_the_command_change_the_rows(table):
    plain = linearized.load(table)
    assert len(linearized.load(table, test_fraction=0.5).test) == 30 != len(plain.test)
    assert len(linearized.load(table, num_train=7, validation=0.2).train) == 6
    standard = linearized.load(table, preprocess="standard").train.x
    np.testing.assert_allclose(standard.std(axis=0), 1, rtol=1e-5)
    noisy = linearized.load(table, 1, noise="gaussian", noise_levels="0,0.5")
    assert not np.allclose(noisy.train.x, plain.train.x)


@pytest.mark.parametrize("changes, words", [
    ({"directory": "x"}, "names its own place"), ({"noise_ind": 3}, "one noise level"),
    ({"synth_dim": 5}, "read by --dataset=SYNTH"),
])  # fmt: skip
def test_what_own_data_do_not_read_is_refused(table, changes, words):
    with pytest.raises(UserError, match=words):
        linearized.load(table, **changes)


def test_parts_that_stand_class_by_class_are_shuffled_together_with_their_labels(tmp_path):
    """As folders of images are read: the first rows, and the last that are held out, would lack classes."""
    y = np.repeat([0, 1, 2], 20)
    x = (100 * y + np.arange(60))[:, None].astype(np.float32)
    np.savez(tmp_path / "parts.npz", x_train=x, y_train=y, x_test=x[::2], y_test=y[::2])
    found = linearized.load(str(tmp_path / "parts.npz"), num_train=30, num_test=12, validation=0.4)
    for split in (found.train, found.validation, found.test):
        assert set(split.y.ravel().tolist()) == {0, 1, 2}
        np.testing.assert_array_equal(split.x.ravel() // 100, split.y.ravel())
    whole = linearized.load(str(tmp_path / "parts.npz"))
    assert sorted(whole.train.x.ravel()) == sorted(x.ravel())
    np.savez(tmp_path / "mixed.npz", x_train=x, y_train=np.arange(60) % 3, x_test=x[:6], y_test=np.arange(6) % 3)
    np.testing.assert_array_equal(linearized.load(str(tmp_path / "mixed.npz")).train.x, x)  # mixed rows stay


def test_a_missing_file_and_a_misspelt_name_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        linearized.load(str(tmp_path / "absent.csv"))
    with pytest.raises(UserError, match="Did you mean FMNIST"):
        linearized.load("FMNSIT")
