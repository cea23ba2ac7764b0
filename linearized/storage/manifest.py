"""The file that describes a folder with a Gram matrix (`gram.json`) or features (`embedding.json`); written once.

The content of the folder is divided into blocks (train, validation, test), and each block into bands, ranges of
consecutive rows. The bands are distributed over shards, one HDF5 file each. The description records the settings and
the data of the computation, and the bands of each shard. Readers use it to find rows, and compare each shard with it.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from linearized.base.errors import UserError
from linearized.base.reading import Absent, parsing, read_json
from linearized.base.seals import FORMAT, write_json
from linearized.settings.config import CODE, Settings
from linearized.storage.files import held, whole_file

BLOCKS = ("train", "validation", "test")


class Kind(NamedTuple):
    """Names for the content of a folder of shards (HDF5 files): a Gram matrix (`GRAM`) or features (`FEATURES`).

    Attributes:
        file: File name of the description, such as "gram.json".
        noun: Name of the content without an article, such as "Gram matrix".
        phrase: Name of the content with its article.
        module: Module whose command makes the content, such as "kernel_gen".
        unit: Unit of progress and speed, such as "pairs".
    """

    file: str
    noun: str
    phrase: str
    module: str
    unit: str


GRAM = Kind("gram.json", "Gram matrix", "a Gram matrix", "kernel_gen", "pairs")
FEATURES = Kind("embedding.json", "embedding", "an embedding", "kernel_gen.embed", "rows")
KINDS = (GRAM, FEATURES)


class Band(NamedTuple):
    """A range of rows [start, stop) that are stored together, of the block "train", "validation" or "test"."""

    block: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of the HDF5 dataset that holds the band in the file of its shard."""
        return f"{self.block}/{self.start:07d}-{self.stop:07d}"

    @property
    def left(self) -> int:
        """First stored column of the band in a Gram matrix: `start` (the diagonal) for train rows, otherwise 0."""
        return self.start if self.block == "train" else 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The description of a stored Gram matrix or of stored features: settings, data, and division into shards (files).

    Attributes:
        settings: All settings that affect the entries, by the names of the command's flags; under "code" the digests of
            user-defined functions, by flag.
        fingerprint: Fingerprint of the dataset, see `linearized.data.dataset.Dataset`.
        dtype: Type of the entries, "float32" or "float64".
        scale: Scale of the inputs: "input" (raw) or "stax" (divided by √d, for convolutional kernels by √channels).
        rows: Number of rows of each existing block: train (n), validation, test.
        tile: Size of the parts in which the content is computed: number of rows and of columns for a Gram matrix,
            number of rows for features.
        shards: For each shard its bands, the ranges of rows in its file.
        command: Command that makes shard i again if `--shard=i` is added.
        dim: Number of features m; 0 for a Gram matrix.
    """

    settings: dict[str, Any]
    fingerprint: str
    dtype: str
    scale: str
    rows: dict[str, int]
    tile: int
    shards: tuple[tuple[Band, ...], ...]
    command: str
    dim: int = 0

    @property
    def kind(self) -> Kind:
        """`GRAM` if the folder holds a Gram matrix, `FEATURES` if it holds features."""
        return FEATURES if self.dim else GRAM

    @property
    def n(self) -> int:
        """Number of train rows, which is the number of columns of every block of a Gram matrix."""
        return self.rows["train"]

    def left(self, band: Band) -> int:
        """Return the first stored column of a band: `band.start` for train rows of a Gram matrix, otherwise 0."""
        return 0 if self.dim else band.left

    def shape(self, band: Band) -> tuple[int, int]:
        """Return the numbers of rows and columns that are stored for a band, a range of rows."""
        return band.stop - band.start, self.dim or self.n - band.left

    def path(self, folder: Path | str, shard: int) -> Path:
        """Return the path of the file of a shard in a folder; shards are numbered from 0."""
        return Path(folder) / f"shard_{shard:04d}.h5"

    def remake(self, shard: int) -> str:
        """Return the command line that makes a shard again; shards are numbered from 0."""
        return f"{self.command} --shard={shard}"

    def current_settings(self) -> dict[str, Any]:
        """Return the settings by the names that this version of the package uses.

        Version 0.1 stored `num_layers`, which counted the readout too. It is replaced by `hidden_layers`, which is
        smaller by one.
        """
        settings = dict(self.settings)
        dense = settings.pop("num_layers", None)
        return settings if type(dense) is not int else settings | {"hidden_layers": dense - 1}

    def differences(self, other: "Manifest", unread: Iterable[str] = ()) -> list[str]:
        """Compare two descriptions, and return one phrase per difference, such as "dtype is float32, not float64".

        Settings, fingerprint of the data, dtype, scale and shape are compared, but not the division into shards.

        Args:
            other: Description to compare with.
            unread: Names of settings to ignore because they do not affect the entries. Descriptions of earlier versions
                may contain or lack them.
        """
        stored, found = (manifest.settings.get(CODE, {}) for manifest in (self, other))
        moved = {name for name in stored if stored[name] == found.get(name)}  # same source, possibly in another file
        one, two = (_with_sources(manifest.current_settings()) for manifest in (self, other))
        pairs = [(name, one.get(name), two.get(name)) for name in sorted((set(one) | set(two)) - set(unread) - moved)]
        pairs += [(name, getattr(self, name), getattr(other, name)) for name in ("dtype", "scale", "rows", "dim")]
        pairs += [("the dataset's fingerprint", self.fingerprint, other.fingerprint)]
        return list(dict.fromkeys(f"{name} is {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs))


def _with_sources(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the entry "code" replaced by one entry "the source of --FLAG" for each of its digests.

    The digests are those of user-defined functions. The entry "code" is also removed from `settings` itself.
    """
    code = settings.pop(CODE, {})
    return settings | {f"the source of --{name}": digest for name, digest in code.items()}


def save_once(folder: Path | str, manifest: Manifest) -> Manifest:
    """Write the description of a folder of shards unless the folder already has one, and return the one in the folder.

    If another process is writing the description, the function waits for it up to 60 seconds.

    Raises `Busy` after that time, and `UserError` if the existing description is damaged.
    """
    path = Path(folder) / manifest.kind.file
    with held(path.with_suffix(".lock"), wait=60.0):
        if not path.exists():
            with whole_file(path) as aside:
                write_json(aside, dataclasses.asdict(manifest), sort_keys=True)
    return load_manifest(folder, manifest.kind)


def refuse_changed_code(folder: Path | str, manifest: Manifest, made: Settings) -> None:
    """Raise `UserError` if a user-defined function has changed since the shards were made.

    Args:
        folder: Folder of the shards, for the error message.
        manifest: Description of the folder.
        made: Settings of the shards. The present digests of the functions in these settings are compared with the
            digests in `manifest`.
    """
    stored = manifest.settings.get(CODE, {})
    for name, digest in made.code().items():
        if stored.get(name) != digest:
            raise UserError(
                f"{folder} was made with another source of --{name}={getattr(made, name)} ({stored.get(name)}, not "
                f"{digest}). Restore its file, or make the {manifest.kind.noun} again."
            )


def kind_of(folder: Path | str) -> Kind | None:
    """Return `GRAM` or `FEATURES`, depending on the description in a folder; None if there is no description."""
    return next((kind for kind in KINDS if (Path(folder) / kind.file).exists()), None)


def load_manifest(folder: Path | str, kind: Kind = GRAM) -> Manifest:
    """Read the description of a folder of shards.

    A description that version 0.1 wrote has no digest and is read without a check of its bytes.

    Args:
        folder: Folder of the shards.
        kind: Expected content, `GRAM` or `FEATURES`.

    Raises `UserError` if the description is missing, damaged, or of another format or kind.
    """
    path = Path(folder) / kind.file
    advice = f"Remove this file and give the command that made the {kind.noun}: shards that belong to it are kept."
    try:
        record = read_json(path, advice)
    except Absent as error:
        raise UserError(
            f"{folder} holds no {kind.file}: no {kind.noun}. Make one with python -m {kind.module}."
        ) from error
    with parsing(path, f"the description of {kind.phrase}", advice):
        if (number := record.pop("format", None)) not in (1, FORMAT):
            raise ValueError(f"it is of format {number}, not 1 or {FORMAT}")
        return _from_record(record, kind)


def _from_record(record: Mapping[str, Any], kind: Kind) -> Manifest:
    """Convert a description from JSON to a `Manifest`, and check that its shards hold each row of each block once.

    Args:
        record: The JSON object, without the format number.
        kind: Expected content, `GRAM` or `FEATURES`.

    Raises ValueError, KeyError or TypeError for an entry that is missing, unknown or invalid.
    """
    shards = tuple(tuple(Band(*band) for band in bands) for bands in record["shards"])
    manifest = Manifest(**{**record, "shards": shards})
    _check_entries(manifest, kind)
    for block, rows in manifest.rows.items():
        row = 0
        for band in sorted(band for bands in shards for band in bands if band.block == block):
            if band.start != row or band.stop <= row:
                raise ValueError(f"rows {row} to {band.start} of {block} lie in no shard, or in two")
            row = band.stop
        if row != rows:
            raise ValueError(f"the shards hold {row} rows of {block}, not {rows}")
    return manifest


def _check_entries(manifest: Manifest, kind: Kind) -> None:
    """Raise ValueError, which names the entry, for the first entry of a manifest that has an invalid value."""
    bands = [band for bands in manifest.shards for band in bands]
    good = {
        "settings": isinstance(manifest.settings, dict) and isinstance(manifest.settings.get(CODE, {}), dict),
        "dtype": manifest.dtype in ("float32", "float64"),
        "rows": isinstance(manifest.rows, dict) and "train" in manifest.rows and set(manifest.rows) <= set(BLOCKS),
        "dim": _is_count(manifest.dim) if kind is FEATURES else manifest.dim == 0,
        **{name: isinstance(getattr(manifest, name), str) for name in ("fingerprint", "scale", "command")},
    }
    good |= {"rows": good["rows"] and all(map(_is_count, manifest.rows.values())), "tile": _is_count(manifest.tile),
             "shards": all(band.block in manifest.rows and type(band.start) is int and _is_count(band.stop)
                           for band in bands)}  # fmt: skip
    for name, fits in good.items():
        if not fits:
            raise ValueError(f"its {name} cannot be {str(getattr(manifest, name))[:80]}")


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0
