"""Seals: digests at the end of files, which readers compare to detect changed bytes before they use a file.

The last bytes of a sealed file contain the digest of all bytes before them. This works for every format that the suite
writes, because each format allows bytes after its end: HDF5, pickle and npy ignore them, in a zip archive (npz, keras)
they are the comment, and in JSON they are the last key of the object. A reader compares the digest before it parses the
file.

Large byte ranges of a file, such as the rows of a Gram matrix, can be left out of the digest, so that opening the file
does not read them. Such a range (`SealedPart`) has a separate checksum, and an index at the end of the file lists all
of these ranges.

Files of version 0.1 and files written by other programs have no seal. They are read without protection.
"""

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from isal.isal_zlib import crc32  # the same values as zlib's, which took 4.6 times as long

FORMAT = 2  # format number of files with a seal; files of format 1 have none
SEALED_FORMATS = (2, 3)  # format numbers of sealed JSON files; `result.json` has a format of its own
PIECE = 2**22  # bytes that are read at once
_START, _DIGITS, _END = b',\n "digest": "', 32, b'"\n}\n'
LENGTH = len(_START) + _DIGITS + len(_END)  # length of a seal in bytes
_SIZE = re.compile(rb'"size": +(\d+)$')
_SIZE_FIELD = 12  # characters reserved for the size of the index
_ZIP_END, _ZIP_COMMENT = b"PK\5\6", 22  # signature and length of a zip archive's last record without its comment


class Damaged(ValueError):
    """An error for a file whose bytes have changed; its message completes "FILE is damaged: ..."."""


class SealedPart(NamedTuple):
    """A byte range of a file that is not part of the seal's digest, because it has a separate checksum.

    Attributes:
        offset: Position of the first byte in the file.
        size: Number of bytes.
    """

    offset: int
    size: int


def _digest(pieces: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGITS // 2)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode()


def seal(*pieces: bytes | memoryview) -> bytes:
    """Return the seal of the content of a file: `LENGTH` bytes, with the digest of the content, that end the file.

    Args:
        *pieces: The content in consecutive pieces.
    """
    return _START + _digest(pieces) + _END


def is_sealed(content: bytes | memoryview) -> bool:
    """Return whether a file ends with the correct seal of the bytes before it; False if it has no seal at all.

    Costs one pass of BLAKE2b (about 1 GB/s). Raises `Damaged` if the digest differs or the seal itself is broken.
    """
    content = memoryview(content)
    if not _has_seal(bytes(content[-2 * LENGTH :])):
        return False
    if bytes(content[-LENGTH:]) != seal(content[:-LENGTH]):
        raise Damaged("its bytes are not those that were written (the digest differs)")
    return True


def _has_seal(tail: bytes) -> bool:
    """Return whether a file ends with a seal, given its last 2 · `LENGTH` bytes. Raises `Damaged` for a broken seal."""
    last = tail[-LENGTH:]
    expected = _START + b" " * _DIGITS + _END
    same = [ours == theirs for place, (ours, theirs) in enumerate(zip(expected, last, strict=False))
            if not len(_START) <= place < LENGTH - len(_END)]  # fmt: skip
    if len(last) == LENGTH and all(same):
        return True
    if _START in tail or 2 * sum(same) > len(_START) + len(_END):
        raise Damaged("its seal is broken, or the file is cut off")
    return False


def seal_file(path: Path | str) -> None:
    """Append a seal, a digest of all bytes, to a finished file.

    In a zip archive the seal becomes the comment, so that the archive stays valid.
    """
    with Path(path).open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end >= _ZIP_COMMENT:
            file.seek(end - _ZIP_COMMENT)
            if file.read(_ZIP_COMMENT).startswith(_ZIP_END):
                file.seek(end - 2)
                file.write(LENGTH.to_bytes(2, "little"))
        file.seek(0)
        trailer = seal(*iter(lambda: file.read(PIECE), b""))
        file.seek(0, os.SEEK_END)
        file.write(trailer)


def write_json(path: Path, record: Mapping[str, Any], **how: Any) -> None:
    """Write an object as a JSON file with an additional key `format`, and with the seal as its last key.

    Args:
        path: File to write.
        record: The object; its own `format`, if it has one, replaces `FORMAT`.
        **how: Further arguments of `json.dumps`.

    Raises ValueError for NaN and infinity.
    """
    text = json.dumps({"format": FORMAT} | dict(record), indent=1, ensure_ascii=False, allow_nan=False, **how)
    body = text.removesuffix("\n}").encode()
    path.write_bytes(body + seal(body))


class Index(NamedTuple):
    """The index at the end of a file, a list of the byte ranges that the file's digest leaves out.

    Attributes:
        parts: The byte ranges.
        about: Further entries of the index.
        start: Offset of the index in the file.
        text: Bytes of the index without the seal.
        digest: Digest in the seal, as hexadecimal digits.
    """

    parts: list[SealedPart]
    about: dict[str, Any]
    start: int
    text: bytes
    digest: bytes


def write_index(
    path: Path | str, start: int, parts: Sequence[SealedPart], about: Mapping[str, Any] | None = None
) -> None:
    """Truncate a file at `start`, and append an index of the byte ranges that its digest is to leave out.

    Until `seal_parts` is called, the seal covers the index alone.

    Args:
        path: File to write to.
        start: Offset of the index.
        parts: Byte ranges that the file's digest is to leave out.
        about: Further entries of the index, which JSON can represent.
    """
    text = b"\n" + json.dumps({"parts": parts, **(about or {})}).removesuffix("}").encode() + b',\n "size": '
    text += str(len(text) + _SIZE_FIELD).rjust(_SIZE_FIELD).encode()
    with Path(path).open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        file.write(text + seal(text))


def seal_parts(path: Path | str) -> None:
    """Seal a file to which `write_index` added an index; the digest covers all bytes except the listed ranges."""
    with Path(path).open("r+b") as file:
        index = _index(file)
        digest = _digest(_outside(file, index))
        file.seek(index.start + len(index.text) + len(_START))
        file.write(digest)


def read_index(path: Path | str, *, finished: bool = True) -> Index | None:
    """Return the index at the end of a file, after comparing the file's digest; None if the file has no seal.

    The byte ranges that the index lists are not read; `crc32_of` computes their checksums.

    Args:
        path: File to read.
        finished: Whether the file must have the digest of all bytes outside of the listed ranges. False also accepts an
            unfinished file, which has the digest of the index alone.

    Raises `Damaged` if the digest differs or the index is broken, OSError if the file cannot be read.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise Damaged("it is not a regular file")  # reading a pipe waits for a writer, and a device may never end
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 2 * LENGTH))
        if not _has_seal(file.read()):
            return None
        index = _index(file)
        known = [_digest(_outside(file, index))] + ([] if finished else [_digest([index.text])])
    if index.digest not in known:
        raise Damaged("its bytes are not those that were written (the digest differs)")
    return index


def _index(file: io.BufferedRandom | io.BufferedReader) -> Index:
    end = file.seek(0, os.SEEK_END)
    tail = LENGTH + len(b'"size": ') + _SIZE_FIELD
    file.seek(max(0, end - tail))
    last = file.read()
    found = _SIZE.search(last[:-LENGTH])
    start = end - LENGTH - int(found[1]) if found else -1
    if start < 0:
        raise Damaged("its index is broken")
    file.seek(start)
    text = file.read(end - LENGTH - start)
    try:
        about = json.loads(text + b"}")
        parts = [SealedPart(*map(int, part)) for part in about.pop("parts")]
        del about["size"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged("its index is broken") from error
    if any(part.offset < 0 or part.size < 0 or part.offset + part.size > start for part in parts):
        raise Damaged("the file is cut off")
    return Index(parts, about, start, text, last[-LENGTH:][len(_START) : len(_START) + _DIGITS])


def _outside(file: io.BufferedIOBase, index: Index) -> Iterator[bytes]:
    """Yield the bytes of a file outside of the ranges that its index lists, in pieces, then the bytes of the index."""
    for start, stop in gaps(index):
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE, stop - start))):
            start += len(piece)
            yield piece
    yield index.text


def gaps(index: Index) -> Iterator[tuple[int, int]]:
    """Yield the byte ranges [start, stop) before the index of a file that are outside of all listed ranges."""
    place = 0
    for part in sorted(index.parts):
        if place < part.offset:
            yield place, part.offset
        place = max(place, part.offset + part.size)
    if place < index.start:
        yield place, index.start


def crc32_of(path: Path | str, part: SealedPart) -> int:
    """Return the CRC32 of a byte range of a file, which is read once at about 3 GB/s.

    Raises `Damaged` if the file ends before the range does.
    """
    total, place = 0, 0
    with Path(path).open("rb", buffering=0) as file:
        file.seek(part.offset)
        buffer = memoryview(bytearray(min(PIECE, part.size) or 1))
        while place < part.size and (count := file.readinto(buffer[: min(PIECE, part.size - place)])):
            total = crc32(buffer[:count], total)
            place += count
    if place != part.size:
        raise Damaged("the file is cut off")
    return total
