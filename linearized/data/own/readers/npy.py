"""Reader of NumPy's .npy files: `--data=x.npy,y.npy`, or `--data=x_train.npy,y_train.npy,x_test.npy,y_test.npy`."""

from linearized.base.errors import UserError
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import FileFormat
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import read_npy

ADVICE = 'Save it with np.save("x.npy", inputs).'


class Npy(FileFormat):
    """Reader of two .npy files, or four with a test part.

    Inputs are memory maps, of which only selected rows are read.
    """

    suffixes, kind, advice = (".npy",), "a .npy file", ADVICE

    def fits(self, text: str) -> bool:
        """Return whether the first of the paths in `text`, which are separated by commas, ends with .npy."""
        return super().fits(text.split(",")[0])

    def paths(self, text: str) -> list[str]:
        """Return the paths in `text`, which are separated by commas.

        Raises `UserError` unless there are two or four paths, and all of them end with .npy.
        """
        paths = [path.strip() for path in text.split(",")]
        if len(paths) not in (2, 4) or not all(super(Npy, self).fits(path) for path in paths):
            raise UserError("--data of .npy files takes x.npy,y.npy or x_train.npy,y_train.npy,x_test.npy,y_test.npy. "
                            f"Received: --data={text[:200]}.")  # fmt: skip
        return paths

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the inputs as memory maps, and the labels.

        Args:
            text: Two or four paths with commas, the value of --data.
            options: Not used.

        Raises `UserError` for a file that is missing or damaged, and for another number of paths.
        """
        arrays = [read_npy(path, ADVICE, mapped=place % 2 == 0) for place, path in enumerate(self.paths(text))]
        return OwnArrays(*arrays)


NPY = Npy()
