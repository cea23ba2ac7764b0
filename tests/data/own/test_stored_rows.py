"""Large data sets of HDF5 and MATLAB 7.3 files stay in their files, and give the rows of the same arrays."""

import h5py
import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.data.own import stored_rows
from linearized.data.own.readers.hdf5 import HDF5
from linearized.data.own.readers.mat import MAT
from linearized.data.own.stored_rows import StoredRows
from linearized.settings.own_settings import OwnDataSettings


def write(path, x, y, kind):
    """Write arrays as HDF5 in pieces; MATLAB's axes are in the opposite order, "images" has rows on MATLAB's last."""
    matlab = kind != "h5"
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        stored = {"h5": x, "mat": x.T, "images": np.moveaxis(x, 0, -1).T}[kind]
        file.create_dataset("X", data=stored, chunks=tuple(min(3, side) for side in stored.shape), compression="gzip")
        file["y"] = y[None].astype(float) if matlab else y
    if matlab:
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")


def arrays(*shape):
    return np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32), np.arange(40) % 2


@pytest.fixture(params=[1, 100, 2**20], ids="blocks of {} bytes".format)
def small(request, monkeypatch):
    monkeypatch.setattr(stored_rows, "LARGE", 1)
    monkeypatch.setattr(stored_rows, "BLOCK", request.param)


@pytest.mark.parametrize("kind, shape", [("h5", (4,)), ("h5", (8, 9, 3)), ("mat", (4,)), ("images", (8, 9, 3))])
def test_rows_are_those_of_the_arrays(tmp_path, small, kind, shape):
    x, y = arrays(*shape)
    path = tmp_path / ("a.h5" if kind == "h5" else "a.mat")
    write(path, x, y, kind)
    reader, options = HDF5 if kind == "h5" else MAT, OwnDataSettings.draft(data=str(path))
    stored = reader.read(str(path), options).x
    assert isinstance(stored, StoredRows) and stored.shape == x.shape and stored.dtype == x.dtype
    for rows in (slice(None), slice(5, 17), slice(30, 3, -4), np.array([39, 0, 7, 7, 12]), np.array([], int)):
        np.testing.assert_array_equal(stored[rows], x[rows])
    np.testing.assert_array_equal(np.asarray(stored), x)
    assert np.asarray(stored).dtype == x.dtype and np.asarray(stored, np.float64).dtype == np.float64
    found, expected = linearized.load(str(path), num_train=11), linearized.from_arrays(x, y, num_train=11)
    for name, split in expected.splits().items():
        np.testing.assert_array_equal(found.splits()[name].x, split.x)
        np.testing.assert_array_equal(found.splits()[name].y, split.y)
    assert found.image_shape == expected.image_shape


def test_missing_values_and_flat_pixels_of_stored_rows(tmp_path, small):
    x, y = arrays(12)
    write(tmp_path / "flat.h5", x, y, "h5")
    found = linearized.load(str(tmp_path / "flat.h5"), image_shape="4,3")
    np.testing.assert_array_equal(found.train.x, linearized.from_arrays(x, y, image_shape=(4, 3)).train.x)
    holes = x.copy()
    holes[7, 2] = np.nan
    write(tmp_path / "a.mat", holes, y, "mat")
    with pytest.raises(UserError, match=r"missing in 1 row \(7; counted from 0\), columns 2"):
        linearized.load(str(tmp_path / "a.mat"), test_fraction=0.1)
    kept = linearized.load(str(tmp_path / "a.mat"), missing="drop")
    assert len(kept.train) + len(kept.test) == 39


def test_small_data_sets_are_read_whole(tmp_path):
    x, y = arrays(4)
    write(tmp_path / "a.h5", x, y, "h5")
    assert isinstance(HDF5.read(str(tmp_path / "a.h5"), OwnDataSettings.draft(data="")).x, np.ndarray)
