"""Rows of a non-contiguous data set of an HDF5 file: only the requested ones are kept in memory."""

import dataclasses
from typing import Any

import numpy as np

from linearized.storage.array_files import open_hdf5

LARGE = 2**26  # bytes of a data set above which its rows stay in the file
BLOCK = 2**26  # bytes that are read together


@dataclasses.dataclass(frozen=True)
class StoredRows:
    """An array (n, ...) in a file, indexed by a slice or by row numbers, see `OwnArrays`.

    Attributes:
        path, name: The file, and the data set within it.
        shape, dtype: Shape and type of the array.
        order: The axis of the data set for each axis of the array, that of the rows first.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    order: tuple[int, ...]

    @classmethod
    def of(cls, stored: Any, path: str, order: tuple[int, ...]) -> "StoredRows | None":
        """Return the rows of a data set; None if it is small, a vector, or not numeric.

        Args:
            stored: Data set of h5py.
            path: Path of its file.
            order: As in the attributes.
        """
        if stored.nbytes < LARGE or stored.ndim < 2 or stored.dtype.kind not in "biuf":
            return None
        return cls(str(path), stored.name, tuple(stored.shape[axis] for axis in order), stored.dtype, order)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def last_first(self) -> "StoredRows":
        """Return the array with the last axis of this one moved to the front, as that of the rows."""
        shape, order = ((values[-1], *values[:-1]) for values in (self.shape, self.order))
        return dataclasses.replace(self, shape=shape, order=order)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return some rows; the file is read in blocks of `BLOCK` bytes, from the first to the last row in each."""
        numbers = np.arange(len(self))[rows]
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        places = np.argsort(numbers, kind="stable")
        ordered = numbers[places]
        size = max(1, BLOCK // max(1, self.dtype.itemsize * int(np.prod(self.shape[1:]))))
        with open_hdf5(self.path, whole=False) as file:
            stored = file[self.name]
            for start in range(0, len(self), size):
                inside = slice(*np.searchsorted(ordered, [start, start + size]))
                if len(mine := ordered[inside]):
                    part = (slice(None),) * self.order[0] + (slice(int(mine[0]), int(mine[-1]) + 1),)
                    out[places[inside]] = stored[part].transpose(self.order)[mine - mine[0]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all rows."""
        values = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)
