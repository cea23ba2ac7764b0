"""Reader of NumPy's .npz: x and y, or x_train, y_train, x_test and y_test, under these or other usual names."""

from linearized.data.own.arrays import OwnArrays, from_names
from linearized.data.own.formats import FileFormat
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import read_npz

ADVICE = 'Save it with np.savez("data.npz", x=inputs, y=labels).'


class Npz(FileFormat):
    """Reader of archives of arrays. Large uncompressed ones are memory-mapped, so that only selected rows are read."""

    suffixes, kind, advice = (".npz",), "an .npz file", ADVICE

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Read the arrays, see `Reader`."""
        return from_names(read_npz(text, ADVICE, compressed=True, mapped=True), text)


NPZ = Npz()
