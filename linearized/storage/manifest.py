"""What the shards of one Gram matrix have in common: `gram.json`, written once, by which each of them is judged.

It says what was computed from what, and which rows of which block lie in which shard, so that a reader needs to know
nothing of how the work was divided.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from linearized.base.errors import UserError
from linearized.base.reading import Absent, parsing, read_json
from linearized.base.seals import FORMAT, write_json
from linearized.storage.files import held, whole_file

BLOCKS = ("train", "validation", "test")
FILE = "gram.json"


class Band(NamedTuple):
    """Rows [start, stop) of a block, stored together. A train band begins at its own first column, the diagonal."""

    block: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Of its dataset in the shard's file."""
        return f"{self.block}/{self.start:07d}-{self.stop:07d}"

    @property
    def left(self) -> int:
        """The first column that is stored."""
        return self.start if self.block == "train" else 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The whole settings of a Gram matrix and its division.

    Attributes:
        settings: All that decides the entries, by the names of the command's flags.
        fingerprint: Of the dataset, see `linearized.data.dataset.Dataset`.
        scale: In which the entries are: "input" or "stax".
        rows: Of each block that is there: train n, validation, test.
        tile: Columns of the pieces in which a band is computed.
        shards: The bands of each shard.
        command: Makes a shard anew, with `--shard=i` added.
    """

    settings: dict[str, Any]
    fingerprint: str
    dtype: str
    scale: str
    rows: dict[str, int]
    tile: int
    shards: tuple[tuple[Band, ...], ...]
    command: str

    @property
    def n(self) -> int:
        """Train rows: the columns of every block."""
        return self.rows["train"]

    def shape(self, band: Band) -> tuple[int, int]:
        """Rows and columns of a band as stored."""
        return band.stop - band.start, self.n - band.left

    def path(self, folder: Path | str, shard: int) -> Path:
        """Of a shard's file."""
        return Path(folder) / f"shard_{shard:04d}.h5"

    def remake(self, shard: int) -> str:
        """The command that makes a shard anew."""
        return f"{self.command} --shard={shard}"

    def differences(self, other: "Manifest") -> list[str]:
        """In words, what `other` computes otherwise; how the work is divided does not count."""
        names = sorted(set(self.settings) | set(other.settings))
        pairs = [(name, self.settings.get(name), other.settings.get(name)) for name in names]
        pairs += [(name, getattr(self, name), getattr(other, name)) for name in ("dtype", "scale", "rows")]
        pairs += [("the dataset's fingerprint", self.fingerprint, other.fingerprint)]
        return list(dict.fromkeys(f"{name} is {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs))


M = TypeVar("M", bound=Manifest)


def save_once(folder: Path | str, manifest: Manifest) -> Manifest:
    """Writes `gram.json` where there is none yet. Returns the one that is there then, ours or an earlier one."""
    folder = Path(folder)
    with held(folder / "gram.lock", wait=60.0):
        if not (folder / FILE).exists():
            with whole_file(folder / FILE) as path:
                write_json(path, dataclasses.asdict(manifest), sort_keys=True)
    return load_manifest(folder)


def load_manifest(folder: Path | str) -> Manifest:
    """Read `gram.json`. One of version 0.1 has no digest and is read unprotected.

    Raises `UserError` if it is missing, damaged or of another format.
    """
    path = Path(folder) / FILE
    advice = "Remove this file and give the command that made the matrix: shards that belong to it are kept."
    try:
        record = read_json(path, advice)
    except Absent as error:
        raise UserError(f"{folder} holds no {FILE}: no Gram matrix. Make one with python -m kernel_gen.") from error
    if record.pop("format", None) not in (1, FORMAT):
        raise UserError(f"{path} is not of format 1 or {FORMAT}. {advice}")
    with parsing(path, "the description of a Gram matrix", advice):
        return from_record(Manifest, record)


def from_record(kind: type[M], record: Mapping[str, Any]) -> M:
    """Return the manifest that a JSON object describes, whose bands cover each row of each block once.

    Raises ValueError, KeyError or TypeError for an entry that is missing, is not known or is of another kind.
    """
    shards = tuple(tuple(Band(*band) for band in bands) for bands in record["shards"])
    manifest = kind(**{**record, "shards": shards})
    _check_entries(manifest)
    for block, rows in manifest.rows.items():
        row = 0
        for band in sorted(band for bands in shards for band in bands if band.block == block):
            if band.start != row or band.stop <= row:
                raise ValueError(f"rows {row} to {band.start} of {block} lie in no shard, or in two")
            row = band.stop
        if row != rows:
            raise ValueError(f"the shards hold {row} rows of {block}, not {rows}")
    return manifest


def _check_entries(manifest: Manifest) -> None:
    """Raise ValueError naming the first entry of a manifest that is of another kind than it must be."""
    bands = [band for bands in manifest.shards for band in bands]
    good = {
        "settings": isinstance(manifest.settings, dict),
        "dtype": manifest.dtype in ("float32", "float64"),
        "rows": isinstance(manifest.rows, dict) and "train" in manifest.rows and set(manifest.rows) <= set(BLOCKS),
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
