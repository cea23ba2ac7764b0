"""Large arrays in HDF5 files that cannot be memory-mapped, because they are stored in chunks or compressed.

Only requested rows are read into memory.
"""

import dataclasses
from typing import Any

import numpy as np

from linearized.storage.array_files import open_hdf5

LARGE = 2**26  # bytes of a data set above which its rows stay in the file
BLOCK = 2**26  # bytes that are read together


@dataclasses.dataclass(frozen=True)
class StoredRows:
    """An array (n, ...) that stays in an HDF5 file; `array[rows]` reads rows by slice or by row numbers.

    Attributes:
        path, name: The file, and the name of the HDF5 data set within it.
        shape, dtype: Shape and type of the array.
        order: For each axis of the array, the index (from 0) of the same axis in the HDF5 data set. The first axis of
            the array counts the rows.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    order: tuple[int, ...]

    @classmethod
    def of(cls, stored: Any, path: str, order: tuple[int, ...]) -> "StoredRows | None":
        """Return an HDF5 data set as an array that stays in the file; None if it is small, a vector, or not numeric.

        Args:
            stored: The data set, opened by h5py.
            path: Path of its file.
            order: For each axis of the array, the index (from 0) of the same axis in the data set. The first axis of
                the array counts the rows.
        """
        if stored.nbytes < LARGE or stored.ndim < 2 or stored.dtype.kind not in "biuf":
            return None
        return cls(str(path), stored.name, tuple(stored.shape[axis] for axis in order), stored.dtype, order)

    @property
    def ndim(self) -> int:
        """Number of axes of the array."""
        return len(self.shape)

    def last_first(self) -> "StoredRows":
        """Return the array with its last axis, which counts the rows, moved to the front; nothing is read."""
        shape, order = ((values[-1], *values[:-1]) for values in (self.shape, self.order))
        return dataclasses.replace(self, shape=shape, order=order)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Read some rows, given by a slice or by row numbers in any order.

        The file is read in blocks of rows of about `BLOCK` bytes; in each block, the rows from the first to the last
        requested one are read.
        """
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
        """Read the whole array; NumPy calls this method in `np.asarray`.

        Args:
            dtype: Type of the result; None keeps that of the file.
            copy: Not used: the result is always new.
        """
        values = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)
