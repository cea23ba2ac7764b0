"""NumPy's .npz: x and y, or x_train, y_train, x_test and y_test, under these or other usual names."""

from pathlib import Path

from linearized.data.own.arrays import OwnArrays, from_names
from linearized.data.own.formats import file_digest
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import read_npz

ADVICE = 'Save it with np.savez("data.npz", x=inputs, y=labels).'


class Npz:
    """Archives of arrays, compressed or not."""

    reads: tuple[str, ...] = ()

    def fits(self, text: str) -> bool:
        """See `Reader`."""
        return Path(text).suffix.lower() == ".npz"

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """See `Reader`."""
        return file_digest(text, "an .npz file", ADVICE)

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """See `Reader`."""
        return from_names(read_npz(text, ADVICE, compressed=True), text)


NPZ = Npz()
