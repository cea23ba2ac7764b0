"""Reader of HDF5 files: `--data=file.h5`, or `--data=file.h5:group` for a group of the file.

The group holds arrays called x and y, or x_train, y_train, x_test and y_test, or similar names.
"""

from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.own.arrays import OwnArrays, found_names
from linearized.data.own.formats import FileFormat
from linearized.data.own.stored_rows import StoredRows
from linearized.settings.memory import refuse_beyond_machine
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import open_hdf5

SUFFIXES = (".h5", ".hdf5")


class Hdf5(FileFormat):
    """Reader of the arrays in a group of an HDF5 file.

    Arrays that are stored contiguously are memory-mapped; of other large ones, only the selected rows are read.
    """

    suffixes, kind = SUFFIXES, "an HDF5 file"

    def fits(self, text: str) -> bool:
        """Return whether `text`, a value of --data, is a path with a suffix of HDF5, perhaps with a colon and group."""
        return super().fits(_divided(text)[0])

    def paths(self, text: str) -> list[str]:
        """Return the path of the file that `text`, a value of --data, names, without the group."""
        return [_divided(text)[0]]

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """Return the digest of the file and the name of the group, because groups of a file hold different data.

        Args:
            text: Value of --data, a path that may be followed by a colon and a group.
            options: Not used.
        """
        return f"{super().digest(text, options)}:{_divided(text)[1]}"

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the arrays of the group, recognised by their names.

        Args:
            text: Value of --data, a path that may be followed by a colon and a group.
            options: Not used.

        Raises `UserError` for a missing or damaged file, a missing group, and a group without inputs or labels.
        """
        import h5py

        path, group = _divided(text)
        with open_hdf5(path, whole=False) as file:
            node = file.get(group or "/")
            if not isinstance(node, h5py.Group):
                groups: list[str] = []
                file.visititems(lambda name, one: groups.append(name) if isinstance(one, h5py.Group) else None)
                raise UserError(f"{path} has no group {group!r}. Its groups are: {', '.join(groups[:20]) or 'none'}.")
            found = {name: one for name, one in node.items() if isinstance(one, h5py.Dataset)}
            names = found_names(list(found), text)
            arrays = {meaning.removesuffix("_train"): _array(found[name], path) for meaning, name in names.items()}
            return OwnArrays(**{name: np.asarray(one) if name[0] == "y" else one for name, one in arrays.items()})


def _divided(text: str) -> tuple[str, str]:
    """Split a value of --data such as "file.h5:group" into the path and the group; the group is "" without a colon."""
    if Path(text).suffix.lower() in SUFFIXES:
        return text, ""
    path, _, group = text.rpartition(":")
    return path, group.strip("/")


def _array(stored: Any, path: str) -> Any:
    """Return an array of an HDF5 file, without reading it if it is large.

    It is a read-only memory map if it is stored contiguously and has two or more axes, a `StoredRows` if it is another
    large array, otherwise an array in memory.

    Args:
        stored: The HDF5 data set, opened by h5py.
        path: Path of the file.

    Raises `UserError` for Python objects that are not text, and for arrays that do not fit in memory.
    """
    import h5py

    if stored.dtype.kind == "O":  # text of variable length
        if h5py.check_string_dtype(stored.dtype) is None:
            raise UserError(f"{path}: {stored.name} holds neither numbers nor text. Save it as an array of "
                            "numbers, or of text.")  # fmt: skip
        return stored.asstr()[:]
    offset = stored.id.get_offset()
    if offset is not None and stored.size and stored.ndim > 1:
        return np.memmap(path, stored.dtype, "r", offset, stored.shape)
    if (rows := StoredRows.of(stored, path, tuple(range(stored.ndim)))) is not None:
        return rows
    refuse_beyond_machine(stored.nbytes, f"{path}, {stored.name}", "Keep fewer rows in it.")
    values = stored[:] if stored.shape else stored[()]
    return np.char.decode(values, "utf-8") if np.asarray(values).dtype.kind == "S" else np.asarray(values)


HDF5 = Hdf5()
