"""The data set SYNTH, read from files or generated; by default as in Ghorbani et al. (arXiv 2006.13409).

It has d = 1024, η = 2/5, κ = noise_ind/10, 2²⁰ train and 10,000 test rows; `linearized.data.sources.anisotropic`
describes the recipe. Files in the data set's folder with the authors' file names (see `file_names`) are read. Otherwise
rows are generated in blocks: a selection of rows is kept in memory; the whole set, if it is large, is written once to
files, which are memory-mapped.
"""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.reading import Unreadable, parsing, read_json
from linearized.base.seals import write_json
from linearized.base.shapes import Float64
from linearized.data.dataset import Dataset, RowChoice, Split, check, chosen_rows, fingerprint
from linearized.data.source import Found, Source
from linearized.data.sources.anisotropic import TEST_SEED, TRAIN_SEED, VERSION, SynthRecipe, generate, labels, rms
from linearized.settings.memory import refuse_beyond_machine
from linearized.storage.array_files import read_npy, seal_npy
from linearized.storage.files import reap, whole_file, whole_folder

NUM_TEST = 10_000
IN_MEMORY = 2**28  # bytes of a whole train set that is kept in memory; larger ones are memory maps
MOST_DIRECTIONS = 2**24  # numbers in a matrix of the relevant directions; larger ones are left out
ROW_BYTES = 32  # bytes per row of the whole train set: its index and the three forms of its label


def train_part(recipe: SynthRecipe, rows: slice | np.ndarray, folder: Path) -> tuple[Split, Float64[np.ndarray, " 3"]]:
    """Draw the selected train rows in memory (seed 145); return them, and the RMS of each of the target's three forms.

    The labels are the sum of the forms, each divided by its RMS over the whole train set. The first call draws all rows
    to compute the RMS, and stores it in `folder`. Later calls draw only the rows up to the last selected one.

    Args:
        recipe: Parameters of the rows.
        rows: Indices of the selected rows.
        folder: Folder of the dataset.

    Raises `UserError` if the rows do not fit in memory.
    """
    count = len(range(recipe.rows)[rows]) if isinstance(rows, slice) else len(rows)
    refuse_beyond_machine(
        4 * count * recipe.dim + ROW_BYTES * recipe.rows,
        f"SYNTH with --num_train={count} --synth_dim={recipe.dim} --synth_n={recipe.rows}",
        "Lower --num_train, --synth_dim or --synth_n.",
    )
    wanted = np.arange(recipe.rows)[rows]
    order = np.argsort(wanted)
    ascending = wanted[order]
    x = np.empty((len(wanted), recipe.dim), np.float32)

    def keep(where: slice, block: np.ndarray) -> None:
        low, high = np.searchsorted(ascending, (where.start, where.stop))
        x[order[low:high]] = block[ascending[low:high] - where.start]

    known = _known_divisors(recipe, folder)
    forms = generate(recipe, TRAIN_SEED, recipe.rows if known is None else int(ascending[-1]) + 1, keep)
    divisors = rms(forms) if known is None else known
    if known is None:
        _keep_divisors(recipe, folder, divisors)
    return Split(x, labels(forms[wanted], divisors)), divisors


def test_rows(recipe: SynthRecipe, rows: int, divisors: Float64[np.ndarray, " 3"]) -> Split:
    """Draw the first test rows in memory (seed 2), and compute their labels.

    Args:
        recipe: Parameters of the rows.
        rows: Number of rows.
        divisors: RMS of each of the three forms of the target over the whole train set; the forms are divided by it.
    """
    x = np.empty((rows, recipe.dim), np.float32)

    def keep(where: slice, block: np.ndarray) -> None:
        x[where] = block

    forms = generate(recipe, TEST_SEED, rows, keep)
    return Split(x, labels(forms, divisors))


def file_names(recipe: SynthRecipe, noise_ind: int | np.integer) -> dict[str, str]:
    """Return the file names that Ghorbani et al. use, by "X_train", "y_train", "X_test" and "y_test".

    Args:
        recipe: Parameters of the rows, whose dimension and number of informative directions are in the names.
        noise_ind: Ten times the anisotropy κ, which is in the names too.
    """
    tail = f"anisotropic_{recipe.dim}_{recipe.effective}_{noise_ind}.npy"
    return {f"{letter}_{kind}": f"{letter}_{kind}_{tail}" for kind in ("train", "test") for letter in ("X", "y")}


def write_files(recipe: SynthRecipe, noise_ind: int | np.integer, folder: Path) -> None:
    """Write the whole train set and the 10,000 test rows under the authors' file names, completely or not at all.

    Takes 4 n d bytes of disk for n train rows (4.3 GB for the defaults).

    Args:
        recipe: Parameters of the rows.
        noise_ind: Ten times the anisotropy κ, for the file names.
        folder: Folder of the files, which is made.

    Raises `UserError` if the disk is too small or not writable.
    """
    need = 4 * (recipe.rows + NUM_TEST) * (recipe.dim + 1) + 2**20
    names = file_names(recipe, noise_ind)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < need:
            raise UserError(
                f"SYNTH needs {need / 2**30:.1f} GiB in {folder.parent}, where {free / 2**30:.1f} are free. "
                "Give a smaller --num_train, or another synth_dir in directories.txt."
            )
        with whole_folder(folder) as aside:
            x = np.lib.format.open_memmap(
                aside / names["X_train"], mode="w+", dtype=np.float32, shape=(recipe.rows, recipe.dim)
            )
            forms = generate(recipe, TRAIN_SEED, recipe.rows, x.__setitem__)
            x.flush()
            divisors = rms(forms)
            np.save(aside / names["y_train"], labels(forms, divisors))
            test = test_rows(recipe, NUM_TEST, divisors)
            np.save(aside / names["X_test"], test.x)
            np.save(aside / names["y_test"], test.y)
            for name in names.values():
                seal_npy(aside / name)
    except OSError as error:
        raise UserError(f"Cannot write SYNTH to {folder}: {error.strerror}. Choose another synth_dir.") from error


def read_files(recipe: SynthRecipe, noise_ind: int | np.integer, folder: Path) -> tuple[Split, Split] | None:
    """Return the train and the test set in files with the authors' file names, as memory maps.

    The caller checks the values of the selected rows.

    Args:
        recipe: Parameters of the rows.
        noise_ind: Ten times the anisotropy κ, for the file names.
        folder: Folder of the files.

    Returns: Both sets; None if the four files do not exist or hold another number of train rows.

    Raises `UserError` for a file that is damaged, of another type or of another shape.
    """
    paths = {key: folder / name for key, name in file_names(recipe, noise_ind).items()}
    if not all(path.is_file() for path in paths.values()):
        return None
    arrays = {}
    for key, path in paths.items():
        arrays[key] = read_npy(path, "Remove it and it is made again.", mapped=True)
    for key, array in arrays.items():
        expected = (
            len(arrays[f"X_{key[2:]}"]) if arrays[f"X_{key[2:]}"].ndim else 0,
            recipe.dim if key[0] == "X" else 1,
        )
        if array.dtype != np.float32 or array.shape != expected or not len(array):
            raise UserError(
                f"{paths[key]}: expected float32 of shape {expected}. Received: {array.dtype} {array.shape}. Remove it."
            )
    if len(arrays["X_train"]) != recipe.rows:
        logging.warning(
            "%s has %d rows, not --synth_n=%d: it is not used.", paths["X_train"], len(arrays["X_train"]), recipe.rows
        )
        return None
    return Split(arrays["X_train"], arrays["y_train"]), Split(arrays["X_test"], arrays["y_test"])


def _divisors_file(recipe: SynthRecipe, folder: Path) -> Path:
    return folder / "cache" / f"synth_rms_{fingerprint(dataclasses.asdict(recipe), VERSION)}.json"


def _known_divisors(recipe: SynthRecipe, folder: Path) -> np.ndarray | None:
    path = _divisors_file(recipe, folder)
    reap(path.parent, deep=False)
    try:
        with parsing(path, "the scale of the labels"):
            kept = read_json(path, kind=object)
            known = np.array(kept["divisors"] if isinstance(kept, dict) else kept, float)  # version 0.1 stored a list
    except Unreadable:
        return None  # absent or damaged, so it is computed again
    return known if known.shape == (3,) and np.all(known > 0) and np.all(np.isfinite(known)) else None


def _keep_divisors(recipe: SynthRecipe, folder: Path, divisors: np.ndarray) -> None:
    try:
        with whole_file(_divisors_file(recipe, folder)) as aside:
            write_json(aside, {"divisors": divisors.tolist()})
    except OSError as error:
        logging.warning("Cannot keep SYNTH's label scale in %s (%s): it is computed again.", folder, error.strerror)


@dataclasses.dataclass(frozen=True)
class SynthSource(Source):
    """Description of the data set SYNTH; loading it reads files with the authors' file names or generates the rows."""

    def find(self, directory: Path | str | None = None) -> Found:
        """Look for files with the authors' file names; without these, loading makes the rows.

        Args:
            directory: Folder of the dataset; None: the one that directories.txt names.
        """
        folder = self.folder(directory)
        here = any(folder.glob("X_train_anisotropic_*.npy"))
        how = f"Nothing to get: loading makes it from its seeds. Files of the published names in {folder} are read."
        return Found(folder if here else None, [str(folder / "X_train_anisotropic_*.npy")], how, made_on_load=True)

    def fetch(self, directory: Path | str | None = None) -> None:
        """Do nothing, because the rows are made from their seeds when they are loaded."""

    def row_length(self, *, synth_dim: int = 1024, **others: object) -> int:
        """Return the length d of a row, `synth_dim`; other settings are ignored."""
        return synth_dim

    def _loaded(
        self,
        noise_ind: int | np.integer,
        folder: Path,
        rows: RowChoice,
        *,
        synth_n: int = 2**20,
        synth_dim: int = 1024,
        synth_eta: float = 0.4,
    ) -> Dataset:
        """Read or generate the selected rows at κ = noise_ind/10.

        If all train rows are selected and are large, they are a memory map. Test rows are always the first ones, even
        if `rows.subset` is "random".

        Args:
            noise_ind: Index of the noise level.
            folder: Folder of the files and the cache.
            rows: The selection of rows.
            synth_n: Size n of the whole train set, over which the labels are scaled.
            synth_dim: Length d of a row.
            synth_eta: η; the target depends on int(d^η) coordinates, 4 or more.

        Raises `UserError` for other parameters, for damaged files, and for rows that do not fit in memory or on the
        disk.
        """
        recipe = SynthRecipe(synth_dim, synth_eta, self.level(noise_ind), synth_n)
        taken = rows.of(synth_n, "train")
        reap(folder, deep=False)
        published = read_files(recipe, noise_ind, folder)
        own = folder / f"synth_{fingerprint(dataclasses.asdict(recipe), VERSION)}"
        whole = published or read_files(recipe, noise_ind, own)
        if whole is None and rows.num_train in (0, synth_n) and 4 * synth_n * synth_dim > IN_MEMORY:
            write_files(recipe, noise_ind, own)
            whole = read_files(recipe, noise_ind, own)
        test_count = len(whole[1]) if whole else NUM_TEST
        first = chosen_rows(test_count, rows.num_test, what="num_test")
        if whole:
            train, test = (Split(kind.x[part], kind.y[part]) for kind, part in zip(whole, (taken, first), strict=True))
        else:
            train, divisors = train_part(recipe, taken, folder)
            test = test_rows(recipe, first.stop, divisors)
        for kind, split in (("train", train), ("test", test)):
            check(split.x, split.y, f"SYNTH ({kind} rows{f' of {folder}' if whole else ''})")
        contents = [train.x, train.y, test.x, test.y] if published else []  # of files that were made elsewhere
        made_from = fingerprint(dataclasses.asdict(recipe), VERSION, *contents)
        made = self.dataset(noise_ind, train, test, made_from, rows)
        if synth_dim * recipe.effective > MOST_DIRECTIONS:
            return made
        return dataclasses.replace(made, directions=np.eye(synth_dim, recipe.effective, dtype=np.float32))


SYNTH = SynthSource(
    name="SYNTH",
    title="polynomial of a few large directions (synthetic)",
    noise_name="κ",
    noise_levels=tuple(index / 10 for index in range(10)),
    task="regression",
    num_classes=0,
    image_shape=None,
    family="SYNTH",
    directory_key="synth_dir",
    settings=("synth_n", "synth_dim", "synth_eta"),
    level_word="anisotropy",
)
