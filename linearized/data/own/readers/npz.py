"""Reader of NumPy's .npz files with arrays x and y, or x_train, y_train, x_test and y_test, or other usual names."""

from linearized.data.own.arrays import OwnArrays, from_names
from linearized.data.own.formats import FileFormat
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import read_npz

ADVICE = 'Save it with np.savez("data.npz", x=inputs, y=labels).'


class Npz(FileFormat):
    """Reader of .npz files. Large uncompressed arrays are memory-mapped, so that only selected rows are read."""

    suffixes, kind, advice = (".npz",), "an .npz file", ADVICE

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the inputs and labels in the file, recognised by the names of the arrays.

        Args:
            text: Path of the file, the value of --data.
            options: Not used.

        Raises `UserError` for a file that is missing, damaged or has no inputs or labels.
        """
        return from_names(read_npz(text, ADVICE, compressed=True, mapped=True), text)


NPZ = Npz()
