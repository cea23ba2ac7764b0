"""Convert Gram matrices from .npy files of the published programs to shards, which are files with checksums.

    python -m kernel_gen.import_npy --source=old/Myrtle_3 --kernel=CNTK --dataset=CIFAR10 --noise_ind=3
    python -m kernel_gen.import_npy --train_file=Train.npy --test_file=Test.npy --kernel=NTK --dataset=FMNIST

--source is a folder in which each file contains some rows of the matrix. train_ntk_0.npy, train_ntk_1.npy, ... contain
the kernel between consecutive train rows and all train rows; entries below the diagonal of the whole matrix may be
zeros. test_ntk_0.npy, test_ntk_1.npy, ... contain the kernel between the same train rows and the test rows.
--train_file and --test_file contain whole matrices. The matrix of --test_file has one row for each test input. The
other flags state the kernel, the dataset and the noise level of the files. The shards are written to the folder to
which `python -m kernel_gen` with the same flags would write them. To check them, run python -m kernel_gen.status
--verify with the same flags.
"""

import dataclasses
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kernel_gen.jobs.gram_job import GramWork, KernelJobSettings
from kernel_gen.jobs.job import Job, open_job
from kernel_gen.jobs.runner import make
from kernel_gen.jobs.tiles import Tile, tiles
from kernel_gen.jobs.work import Work
from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.settings.command import run_command
from linearized.settings.config import setting
from linearized.storage.array_files import read_npy
from linearized.storage.manifest import Manifest
from linearized.storage.shard_folder import refusals_undone

SYMMETRY = 1e-3  # largest |k(x,z) - k(z,x)|, relative to the largest entry; more indicates a wrong file or order


@dataclasses.dataclass(frozen=True)
class ImportSettings(KernelJobSettings):
    """Settings of `python -m kernel_gen.import_npy`: the .npy files, and the kernel and dataset of their matrix."""

    source: str = setting("", "folder of train_ntk_%d.npy and test_ntk_%d.npy", identity=False)
    train_file: str = setting("", "a whole train matrix (n, n), instead of --source", identity=False)
    test_file: str = setting("", "a whole test matrix (test, n), beside --train_file", identity=False)

    def __post_init__(self):
        super().__post_init__()
        if bool(self.source) == bool(self.train_file and self.test_file) or (self.source and self.test_file):
            raise UserError("Give either --source, a folder of row files, or --train_file and --test_file.")

    def work(self) -> Work:
        """Return the `Work` of a job that reads the entries of the Gram matrix from the files."""
        return FileWork(self)


class Stack:
    """A matrix whose rows are in several .npy files, one below the other; entries are read from disk on access.

    Args:
        paths: Files in the order of their rows; all have equally many columns.
        dtype: Data type that every file must have.

    Attributes:
        shape: Rows and columns of the stacked matrix.

    Raises `UserError` for files that are not matrices of this type, or that differ in their numbers of columns.
    """

    def __init__(self, paths: list[Path], dtype: str):
        self._arrays = [_mapped(path, dtype) for path in paths]
        widths = {array.shape[1] for array in self._arrays}
        if len(widths) > 1:
            raise UserError(
                f"{paths[0].parent}: row files of different widths, {sorted(widths)}. Do they belong to one job?"
            )
        self._starts = np.cumsum([0] + [len(array) for array in self._arrays])
        self.shape = (int(self._starts[-1]), widths.pop())

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        rows, columns = part
        pieces = []
        for start, array in zip(self._starts, self._arrays, strict=False):
            first, last = max(rows.start - start, 0), min(rows.stop - start, len(array))
            if first < last:
                pieces.append(array[first:last, columns])
        return np.concatenate(pieces)


def _mapped(path: Path, dtype: str) -> np.ndarray:
    array = read_npy(path, "Copy it again.", mapped=True)
    if array.ndim != 2 or not array.size:
        raise UserError(f"{path}: expected a matrix. Received: shape {array.shape}.")
    if array.dtype != dtype:
        raise UserError(f"{path} is {array.dtype}, not --dtype={dtype}. Give --dtype={array.dtype}.")
    return array


def _numbered(folder: Path, name: str) -> list[Path]:
    """Return the paths {name}_0.npy, {name}_1.npy, ... in `folder`, in this order.

    Raises `UserError` if there are none or one in between is missing.
    """
    count = len(list(folder.glob(f"{name}_*.npy")))
    paths = [folder / f"{name}_{number}.npy" for number in range(count)]
    absent = [path.name for path in paths if not path.is_file()]
    if absent or not paths:
        raise UserError(
            f"{folder} lacks {(absent or [f'{name}_0.npy'])[0]}. Row files are numbered from 0 without a gap."
        )
    return paths


class Matrices:
    """A Gram matrix in .npy files, with one block of rows for each of the train, validation and test rows.

    Validation rows, if the dataset has any, are the last rows of the train matrix.

    Args:
        config: Settings that name the files.
        rows: Number of rows of each block by its name: "train", "test" and, if present, "validation".

    Raises `UserError` if the shapes of the matrices do not agree with `rows`.
    """

    def __init__(self, config: ImportSettings, rows: dict[str, int]):
        if config.source:
            folder = Path(config.source)
            self._train = Stack(_numbered(folder, "train_ntk"), config.dtype)
            self._test = Stack(_numbered(folder, "test_ntk"), config.dtype)
        else:
            self._train = Stack([Path(config.train_file)], config.dtype)
            self._test = Stack([Path(config.test_file)], config.dtype)
        self._by_test_row = not config.source
        self._n = rows["train"]
        whole = self._n + rows.get("validation", 0)
        expected = {"train": (whole, whole)}
        expected["test"] = (rows["test"], whole) if self._by_test_row else (whole, rows["test"])
        for name, found in (("train", self._train.shape), ("test", self._test.shape)):
            if found != expected[name]:
                raise UserError(
                    f"The {name} files make a matrix of {found}; the dataset requires {expected[name]}. Give "
                    "--num_train, --num_test, and --dataset as the files were made."
                )

    def entries(self, tile: Tile) -> np.ndarray:
        """Return the entries (rows, columns) of a tile, a rectangular part of one block of the Gram matrix.

        Raises `UserError` for a square on the diagonal that is not symmetric.
        """
        rows, columns = slice(tile.start, tile.stop), slice(tile.left, tile.right)
        if tile.band.block == "validation":  # from the upper triangle, because row files may lack the lower one
            return self._train[columns, slice(self._n + tile.start, self._n + tile.stop)].T
        if tile.band.block == "test":
            return self._test[rows, columns] if self._by_test_row else self._test[columns, rows].T
        block = self._train[rows, columns]
        if tile.on_diagonal:
            square = _upper_filled(block)
            if np.abs(square - square.T).max() > SYMMETRY * np.abs(square).max():
                raise UserError(
                    f"Train rows {tile.start} to {tile.stop} are not symmetric. Are the files in the right order?"
                )
        return block


class FileWork(GramWork):
    """The `Work` of an import, which reads the entries of a Gram matrix from .npy files instead of computing them.

    A band is a range of consecutive rows. The entries of a band of train rows are read in two parts (tiles): the square
    on the diagonal, and the columns to the right of it. Any other band is read in one part.

    Args:
        config: Settings that name the files and describe the matrix.
    """

    def __init__(self, config: ImportSettings):
        super().__init__(config.build(config.described().image_shape))
        self._config = config

    def prepare(self, dataset: Dataset) -> None:
        """Open the matrices and check their sizes against the numbers of rows of the dataset.

        Raises `UserError` if they do not agree.
        """
        super().prepare(dataset)
        self._matrices = Matrices(self._config, self.rows)

    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """Return the tiles (parts) of a shard: two for each band of train rows, and one for each other band.

        Args:
            manifest: Description of the folder of shards.
            shard: Index of the shard, from 0.
        """
        return tiles(manifest, shard, run=manifest.n)

    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """Return a function without arguments that reads the entries (rows, columns) of a tile.

        Args:
            manifest: Description of the folder of shards.
            tile: The tile.
        """
        return lambda: self._matrices.entries(tile)


def _upper_filled(square: np.ndarray) -> np.ndarray:
    """Return a square matrix in which each zero below the diagonal is replaced by its mirror image above it.

    The files may have zeros below the diagonal, because the matrix is symmetric.
    """
    return np.where((square == 0) & (np.tri(len(square), k=-1) > 0), square.T, square)


def run(config: ImportSettings) -> Job:
    """Write all shards that are missing and return the `Job` on their folder.

    Raises `UserError` for files that do not agree with the settings.
    """
    with refusals_undone(config.path()):
        job = open_job(config)
        make(job, range(len(job.manifest.shards)))
    return job


def main(config: ImportSettings) -> None:
    """Import the files and print the folder of the shards."""
    job = run(config)
    check = shlex.join(["python", "-m", "kernel_gen.status", *config.flags(), "--verify"])
    print(f"{len(job.manifest.shards)} shards in {job.folder}. Check them: {check}")


if __name__ == "__main__":
    sys.exit(run_command(ImportSettings, __doc__, main))
