"""NumPy's .npy, memory-mapped: "x.npy,y.npy", or "x_train.npy,y_train.npy,x_test.npy,y_test.npy"."""

from pathlib import Path

from linearized.base.errors import UserError
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import file_digest
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import read_npy

ADVICE = 'Save it with np.save("x.npy", inputs).'


class Npy:
    """Two files, or four with a test part. Inputs are memory maps, of which only the rows in use are read."""

    reads: tuple[str, ...] = ()

    def fits(self, text: str) -> bool:
        """See `Reader`."""
        return Path(text.split(",")[0]).suffix.lower() == ".npy"

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """See `Reader`."""
        return "-".join(file_digest(path, "a .npy file", ADVICE) for path in _paths(text))

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """See `Reader`."""
        arrays = [read_npy(path, ADVICE, mapped=place % 2 == 0) for place, path in enumerate(_paths(text))]
        return OwnArrays(*arrays)


def _paths(text: str) -> list[str]:
    paths = [path.strip() for path in text.split(",")]
    if len(paths) not in (2, 4) or any(Path(path).suffix.lower() != ".npy" for path in paths):
        raise UserError("--data of .npy files takes x.npy,y.npy or x_train.npy,y_train.npy,x_test.npy,y_test.npy. "
                        f"Received: --data={text[:200]}.")  # fmt: skip
    return paths


NPY = Npy()
