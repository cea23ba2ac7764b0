"""Features of a dataset in shards: like those of a Gram matrix, but (rows, m) for every split.

`embedding.json` says what was computed from what and how the rows are divided; a shard holds a run of rows of each
split in one HDF5 file, whole or absent, with a checksum a band, see `linearized.storage.shards`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from linearized.base.errors import UserError
from linearized.base.reading import Absent, parsing, read_json
from linearized.base.seals import FORMAT, write_json
from linearized.storage.files import held, whole_file
from linearized.storage.manifest import Band, Manifest, from_record
from linearized.storage.shards import BadShard, Stored, read_header, write_bands

FILE = "embedding.json"
SHARD_BYTES = 2**26  # about, where no number of shards is asked for: what a killed job may lose
MEMORY = 2**25  # bytes of a block that is read


@dataclasses.dataclass(frozen=True)
class EmbeddingManifest(Manifest):
    """What the shards of one embedding have in common.

    Attributes:
        dim: m, columns of every band.
    """

    dim: int = 0

    def shape(self, band: Band) -> tuple[int, int]:
        """Rows and columns of a band as stored."""
        return band.stop - band.start, self.dim


def divide(rows: dict[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
    """The bands of each shard: a run of the rows of every split. Raises `UserError` for more shards than train rows."""
    if not 1 <= num_shards <= rows["train"]:
        raise UserError(f"--num_shards={num_shards} cannot divide {rows['train']} train rows.")
    cuts = [
        [(block, count * shard // num_shards, count * (shard + 1) // num_shards) for block, count in rows.items()]
        for shard in range(num_shards)
    ]
    return tuple(tuple(Band(*cut) for cut in shard if cut[1] < cut[2]) for shard in cuts)


def good_number(rows: dict[str, int], row_bytes: int) -> int:
    """How many shards of about SHARD_BYTES."""
    return min(max(1, sum(rows.values()) * row_bytes // SHARD_BYTES), rows["train"])


def save_once(folder: Path | str, manifest: EmbeddingManifest) -> EmbeddingManifest:
    """Writes `embedding.json` unless another process did; gives the one that is there."""
    folder = Path(folder)
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "embedding.lock", wait=10.0):
        if not path.exists():
            with whole_file(path) as aside:
                write_json(aside, dataclasses.asdict(manifest), sort_keys=True)
    return load_manifest(folder)


def load_manifest(folder: Path | str) -> EmbeddingManifest:
    """Read `embedding.json`. One of version 0.1 has no digest and is read unprotected.

    Raises `UserError` if it is missing, damaged or of another format.
    """
    advice = "Remove this file and give the command that made the embedding: shards that belong to it are kept."
    path = Path(folder) / FILE
    try:
        record = read_json(path, advice)
    except Absent as error:
        raise UserError(f"{folder} holds no {FILE}: no embedding. Make one with python -m kernel_gen.embed.") from error
    with parsing(path, "the description of an embedding", advice):
        if (number := record.pop("format")) not in (1, FORMAT):
            raise ValueError(f"it is of format {number}, not 1 or {FORMAT}")
        return from_record(EmbeddingManifest, record)


def write_shard(
    folder: Path | str, manifest: EmbeddingManifest, shard: int, features: Callable[[Band], np.ndarray]
) -> Path:
    """Write a shard; `features(band)` gives (rows, m). Raises `UserError` for features that are not finite."""

    def checked(band: Band) -> np.ndarray:
        block = features(band)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = band.start + int(np.argmin(finite))
            raise UserError(f"The features of {band.block} row {row} are not finite. Look at this input.")
        return block

    path = manifest.path(folder, shard)
    write_bands(path, manifest, shard, checked)
    return path


class StoredRows:
    """The features of one split, (rows, m), read by ranges of rows; checksums are compared at the first use.

    Attributes:
        shape, dtype: Of the whole.
    """

    def __init__(self, stored: list[Stored], manifest: EmbeddingManifest):
        self._stored, self._manifest = sorted(stored, key=lambda one: one.band.start), manifest
        self._checked: set[Band] = set()
        self.shape = (self._stored[-1].band.stop, manifest.dim)
        self.dtype = np.dtype(manifest.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Float[np.ndarray, "rows m"]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise UserError(f"Features are read by ranges of rows. Received a step of {step}.")
        out = np.empty((max(stop - start, 0), self.shape[1]), self.dtype)
        for stored in self._stored:
            first, last = max(start, stored.band.start), min(stop, stored.band.stop)
            if first < last:
                self._read(stored, first - stored.band.start, out[first - start : last - start])
        return out

    def blocks(self, memory: int = MEMORY) -> Iterator[tuple[slice, Float[np.ndarray, "rows m"]]]:
        """(rows, features) in order, about `memory` bytes each."""
        step = max(1, memory // (self.shape[1] * self.dtype.itemsize))
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self[rows]

    def _read(self, stored: Stored, row: int, out: np.ndarray) -> None:
        try:
            if stored.band not in self._checked:
                stored.check_sum()
                self._checked.add(stored.band)
            stored.read_rows(row, out)
        except (BadShard, OSError) as error:
            raise UserError(f"{stored.path} is {error}. Make it anew with: {self._manifest.command}") from error


@dataclasses.dataclass(frozen=True)
class Embedding:
    """The features of every split of a dataset.

    Attributes:
        manifest: Settings, fingerprint of the dataset, scale and division.
        splits: By name: train, validation (if any), test.
    """

    manifest: EmbeddingManifest
    splits: dict[str, StoredRows]

    @property
    def validation(self) -> StoredRows | None:
        """The held-out train rows, if there are any."""
        return self.splits.get("validation")

    @property
    def test(self) -> StoredRows | None:
        """The test rows."""
        return self.splits.get("test")


def open_embedding(folder: Path | str, *, fingerprint: str | None = None) -> Embedding:
    """Opens an embedding; every shard must be there and be what `embedding.json` says.

    Args:
        fingerprint: Of the dataset that it must belong to; None asks nothing.

    Raises `UserError` naming the file and the command that makes it anew, for whatever is missing, damaged or foreign.
    """
    manifest = load_manifest(folder)
    if fingerprint is not None and fingerprint != manifest.fingerprint:
        raise UserError(
            f"{folder} is of another dataset (fingerprint {manifest.fingerprint}, not {fingerprint}). Make one with: "
            f"{manifest.command}"
        )
    stored = []
    for shard in range(len(manifest.shards)):
        path = manifest.path(folder, shard)
        try:
            stored += read_header(path, manifest, shard)
        except BadShard as error:
            raise UserError(f"{path} is {error}. Make it with: {manifest.command}") from error
    rows = {name: StoredRows([one for one in stored if one.band.block == name], manifest) for name in manifest.rows}
    return Embedding(manifest, rows)
