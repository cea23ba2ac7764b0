"""Reader of MATLAB's .mat files: SciPy reads versions up to 7.2, h5py version 7.3.

Inputs and labels are arrays called X and y, or by other usual names. Labels (n, 1) and (1, n) become vectors. If the
last axis of the inputs counts the rows, as in images (h, w, c, n), it is moved to the front.
"""

from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import opened
from linearized.data.own.arrays import OwnArrays, from_names
from linearized.data.own.formats import FileFormat
from linearized.data.own.stored_rows import StoredRows
from linearized.settings.memory import refuse_beyond_machine
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import open_hdf5


class Mat(FileFormat):
    """Reader of .mat files of MATLAB and Octave."""

    suffixes, kind = (".mat",), "a .mat file"

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the inputs and labels in the file, recognised by the names of the arrays.

        Args:
            text: Path of the file, the value of --data.
            options: Not used.

        Raises `UserError` for a file that is missing, damaged or has no inputs or labels.
        """
        with opened(text, "a .mat file") as file:
            hdf5 = b"MATLAB 7.3" in file.read(128)
        arrays = from_names(_of_hdf5(text) if hdf5 else _of_scipy(text), text)
        fields = {}
        for letter in ("", "_test", "_validation"):
            x, y = getattr(arrays, f"x{letter}"), getattr(arrays, f"y{letter}")
            if x is not None:
                fields[f"x{letter}"], fields[f"y{letter}"] = _turned(x, y)
        return OwnArrays(**fields)


def _of_scipy(path: str) -> dict[str, np.ndarray]:
    import scipy.io

    with opened(path, "a .mat file") as file:
        sizes = {name: shape for name, shape, _kind in scipy.io.whosmat(file)}
        needed = 8 * sum(int(np.prod(shape, dtype=float)) for shape in sizes.values())
        refuse_beyond_machine(needed, f"{path}, unpacked,", "Keep fewer rows in it.")
        file.seek(0)
        found = scipy.io.loadmat(file)
        dense = {name: one.toarray() if hasattr(one, "toarray") else one for name, one in found.items()}
    return {name: _plain(one) for name, one in dense.items() if isinstance(one, np.ndarray)}


def _of_hdf5(path: str) -> dict[str, Any]:
    """Return the arrays of numbers in a file of version 7.3 by name; large arrays stay in the file.

    HDF5 holds the axes in reverse order; they are returned in MATLAB's.
    """
    import h5py

    with open_hdf5(path, whole=False) as file:
        found = {name: one for name, one in file.items() if isinstance(one, h5py.Dataset)}
        stored = {name: StoredRows.of(one, path, tuple(reversed(range(one.ndim)))) for name, one in found.items()}
        kept = {name: rows for name, rows in stored.items() if rows is not None}
        small = {name: one for name, one in found.items() if name not in kept}
        refuse_beyond_machine(sum(one.nbytes for one in small.values()), f"{path}, unpacked,", "Keep fewer rows in it.")
        return kept | {name: np.asarray(one[()]).T for name, one in small.items() if one.dtype.kind in "biuf"}


def _plain(values: np.ndarray) -> np.ndarray:
    """Convert an array of cells of text, which SciPy reads as arrays within an array, to an array of text (n,).

    Other arrays are returned unchanged.
    """
    if values.dtype.kind != "O":
        return values
    if not all(isinstance(one, np.ndarray) and one.size == 1 and one.dtype.kind == "U" for one in values.reshape(-1)):
        return values
    return np.array([str(one.item()) for one in values.reshape(-1)])


def _turned(x: Any, y: Any) -> tuple[Any, np.ndarray]:
    y = np.asarray(y)
    y = y.reshape(-1) if y.ndim == 2 and 1 in y.shape else y
    if y.dtype.kind == "O":
        raise UserError("Labels of a .mat file must be numbers or a cell array of text.")
    if len(x) != len(y) and x.ndim > 1 and x.shape[-1] == len(y):
        x = x.last_first() if isinstance(x, StoredRows) else np.moveaxis(x, -1, 0)
    return x, y


MAT = Mat()
