"""The description of a folder of shards, written once: `gram.json` of a Gram matrix, `embedding.json` of features.

It holds what was computed from which data, and which rows of which block lie in which shard, so that a reader does not
depend on how the work was divided. Each shard is compared with it.
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
    """What a folder of shards holds.

    Attributes:
        file: Name of the description.
        noun, phrase: The content in words, without and with its article.
        module: The module whose command makes it.
        unit: What progress and speed count.
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
    """Rows [start, stop) of a block, stored together."""

    block: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Of its dataset in the shard's file."""
        return f"{self.block}/{self.start:07d}-{self.stop:07d}"

    @property
    def left(self) -> int:
        """The first column of a Gram matrix that is stored: a train band begins on the diagonal."""
        return self.start if self.block == "train" else 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The settings of a Gram matrix or of features, and the division into shards.

    Attributes:
        settings: All that decides the entries, by the names of the command's flags; under "code" the digests of
            functions of the user's own, by flag.
        fingerprint: Of the dataset, see `linearized.data.dataset.Dataset`.
        scale: In which the inputs are: "input" or "stax".
        rows: Of each block that is there: train n, validation, test.
        tile: Rows and columns of the pieces in which a band of a Gram matrix is computed, rows of those of features.
        shards: The bands of each shard.
        command: Makes a shard again, with `--shard=i` added.
        dim: m, columns of every band of features; 0 for a Gram matrix.
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
        """`GRAM` or `FEATURES`."""
        return FEATURES if self.dim else GRAM

    @property
    def n(self) -> int:
        """Train rows: the columns of every block of a Gram matrix."""
        return self.rows["train"]

    def left(self, band: Band) -> int:
        """Return the first column of a band that is stored."""
        return 0 if self.dim else band.left

    def shape(self, band: Band) -> tuple[int, int]:
        """Return the rows and columns of a band as stored."""
        return band.stop - band.start, self.dim or self.n - band.left

    def path(self, folder: Path | str, shard: int) -> Path:
        """Of a shard's file."""
        return Path(folder) / f"shard_{shard:04d}.h5"

    def remake(self, shard: int) -> str:
        """The command that makes a shard anew."""
        return f"{self.command} --shard={shard}"

    def current_settings(self) -> dict[str, Any]:
        """Return the settings by the names of this version. Version 0.1's `num_layers` counted the readout."""
        settings = dict(self.settings)
        dense = settings.pop("num_layers", None)
        return settings if type(dense) is not int else settings | {"hidden_layers": dense - 1}

    def differences(self, other: "Manifest", unread: Iterable[str] = ()) -> list[str]:
        """Return in words what `other` computes otherwise; how the work is divided does not count.

        Args:
            unread: Settings that nothing reads, which earlier versions kept, or did not have.
        """
        stored, found = (manifest.settings.get(CODE, {}) for manifest in (self, other))
        moved = {name for name in stored if stored[name] == found.get(name)}  # a file is what it holds
        one, two = (_with_sources(manifest.current_settings()) for manifest in (self, other))
        pairs = [(name, one.get(name), two.get(name)) for name in sorted((set(one) | set(two)) - set(unread) - moved)]
        pairs += [(name, getattr(self, name), getattr(other, name)) for name in ("dtype", "scale", "rows", "dim")]
        pairs += [("the dataset's fingerprint", self.fingerprint, other.fingerprint)]
        return list(dict.fromkeys(f"{name} is {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs))


def _with_sources(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the digests of own functions as entries of their own."""
    code = settings.pop(CODE, {})
    return settings | {f"the source of --{name}": digest for name, digest in code.items()}


def save_once(folder: Path | str, manifest: Manifest) -> Manifest:
    """Write the description where there is none yet. Returns the one that is there then, ours or an earlier one."""
    path = Path(folder) / manifest.kind.file
    with held(path.with_suffix(".lock"), wait=60.0):
        if not path.exists():
            with whole_file(path) as aside:
                write_json(aside, dataclasses.asdict(manifest), sort_keys=True)
    return load_manifest(folder, manifest.kind)


def refuse_changed_code(folder: Path | str, manifest: Manifest, made: Settings) -> None:
    """Raise `UserError` if a function of the user's own is no longer the one that shards were made with.

    Args:
        manifest: The description of the folder.
        made: The settings of the shards, whose functions are those of now.
    """
    stored = manifest.settings.get(CODE, {})
    for name, digest in made.code().items():
        if stored.get(name) != digest:
            raise UserError(
                f"{folder} was made with another source of --{name}={getattr(made, name)} ({stored.get(name)}, not "
                f"{digest}). Restore its file, or make the {manifest.kind.noun} again."
            )


def kind_of(folder: Path | str) -> Kind | None:
    """Return what a folder of shards holds, or None where it has no description."""
    return next((kind for kind in KINDS if (Path(folder) / kind.file).exists()), None)


def load_manifest(folder: Path | str, kind: Kind = GRAM) -> Manifest:
    """Read the description of a folder of shards. One of version 0.1 has no digest and is read unprotected.

    Raises `UserError` if it is missing, damaged, or of another format or kind.
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
    """Return the manifest that a JSON object describes, whose bands cover each row of each block once.

    Raises ValueError, KeyError or TypeError for an entry that is missing, unknown or of another type.
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
    """Raise ValueError naming the first entry of a manifest that is of another kind than it must be."""
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
