"""Functions that read arrays from files in the formats npy, npz, HDF5 and idx.

Reading a file that is missing, damaged or of another format raises `Unreadable`.
"""

import contextlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from linearized.base import seals
from linearized.base.reading import Unreadable, check_regular, opened, parsing, read_bytes
from linearized.base.shapes import UInt8
from linearized.settings.memory import refuse_beyond_machine

if TYPE_CHECKING:
    import h5py

IDX_LIMIT = 2**30  # bytes of a file and of its array, 20 times Fashion-MNIST; few gzipped bytes may expand endlessly
MAPPED = 2**26  # size in bytes from which arrays of an .npz file are memory-mapped; smaller files are read and checked
_ZIP_HEAD = 30  # bytes of a member's header before its name
GZIP = b"\x1f\x8b"  # first bytes of a gzipped file
_IDX_HEAD = 20  # bytes of the longest header, that of four dimensions


def read_npy(path: Path | str, advice: str = "", *, mapped: bool = False, sealed: bool = False) -> np.ndarray:
    """Return the array of a .npy file, in memory or as a read-only memory map.

    Arrays of Python objects are refused because they are pickles. The shape in the header is compared with the length
    of the file before memory is allocated. If `seal_npy` added checksums to the file, they are compared first, which
    reads the whole file once.

    Args:
        path: File to read.
        advice: Sentence for error messages that says what to do about a problem.
        mapped: Return a memory map instead of an array in memory.
        sealed: Refuse a file without checksums.

    Raises `Absent` for a missing file, `Unreadable` for any other problem with the file, and `UserError` if an array in
    memory would need more memory than the machine has.
    """
    check_regular(path, advice)
    with parsing(path, "a .npy file", advice):
        index = seals.read_index(path)
        if index is None and sealed:
            raise ValueError("its digest is missing")
        if index is not None and [seals.crc32_of(path, part) for part in index.parts] != index.about["crc32"]:
            raise ValueError("a checksum differs")
        with Path(path).open("rb") as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                file.seek(0)
                _refuse_objects(_header(file)[2], path, "The array")
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapping compares the header with the file's length
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive of arrays")
        if not mapped:
            refuse_beyond_machine(array.nbytes, str(path), "Keep fewer rows in it.")
        return array if mapped else np.array(array)


def seal_npy(path: Path | str) -> None:
    """Append checksums to a finished .npy file, so that `read_npy` detects changed bytes.

    A digest protects the header, and a CRC32 the entries, because a CRC32 is faster (3 GB/s).
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    entries, size = seals.SealedPart(array.offset, array.nbytes), Path(path).stat().st_size
    del array
    seals.write_index(path, size, [entries], {"crc32": [seals.crc32_of(path, entries)]})
    seals.seal_parts(path)


def read_npz(
    path: Path | str, advice: str = "", *, compressed: bool = False, mapped: bool = False
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the arrays of an .npz file by name.

    If the file ends with a digest of its bytes (see `linearized.base.seals`), the digest is compared first. Archives
    with members other than .npy files are refused.

    Args:
        path: File to read.
        advice: Sentence for error messages that says what to do about a problem.
        compressed: Read compressed members too; otherwise an archive with compressed members is refused. The unpacked
            size is compared with the memory of the machine first, because a few bytes may expand to any size.
        mapped: If the file has at least `MAPPED` bytes, return read-only memory maps of the uncompressed arrays of
            numbers with two or more axes. In this case, neither the digest nor the archive's checksums of these arrays
            are compared.

    Raises `Absent` for a missing file, `Unreadable` for any other problem with the file, and `UserError` if compressed
    members do not fit in memory.
    """
    whole = not mapped or check_regular(path, advice) < MAPPED
    content = read_bytes(path, "an .npz file", advice, limit=None) if whole else b""
    with parsing(path, "an .npz file", advice), contextlib.ExitStack() as stack:
        if whole:
            seals.is_sealed(content)
        file = io.BytesIO(content) if whole else stack.enter_context(Path(path).open("rb"))
        archive = stack.enter_context(zipfile.ZipFile(file))
        members = archive.infolist()
        stored_only = zipfile.ZIP_STORED if not compressed else zipfile.ZIP_DEFLATED
        if any(one.compress_type not in (zipfile.ZIP_STORED, stored_only) for one in members) or not all(
            one.filename.endswith(".npy") for one in members
        ):
            raise ValueError("its members are not plain arrays")
        arrays = {}
        if not whole:
            maps = {one.filename.removesuffix(".npy"): _mapped_member(path, file, one) for one in members}
            arrays = {name: one for name, one in maps.items() if one is not None}
        members = [one for one in members if one.filename.removesuffix(".npy") not in arrays]
        if compressed:
            refuse_beyond_machine(sum(one.file_size for one in members), f"{path}, unpacked,", "Keep fewer rows in it.")
        for member in members:
            with archive.open(member) as stored:
                name = member.filename.removesuffix(".npy")
                arrays[name] = _from_stream(stored, member.file_size, path, f"The array {name[:60]!r}")
                if stored.read(1):
                    raise ValueError(f"{member.filename} holds more than its header says")
        return arrays


def _mapped_member(path: Path | str, file: BinaryIO, member: zipfile.ZipInfo) -> np.memmap | None:
    """Return the array of one member of an .npz archive as a memory map, or None if it must be read into memory.

    None is returned for compressed and encrypted members, text, arrays in Fortran order, empty arrays and vectors.

    Args:
        path: The archive.
        file: The opened archive.
        member: The member to map.

    Raises ValueError if the header does not agree with the size of the member, and `Unreadable` for Python objects.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return None
    if member.header_offset < 0:
        raise ValueError("it is cut off")
    file.seek(member.header_offset)
    local = file.read(_ZIP_HEAD)
    if local[:4] != b"PK\3\4" or len(local) < _ZIP_HEAD:
        raise ValueError(f"the header of {member.filename} is damaged")
    start = file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), io.SEEK_CUR)
    shape, fortran, dtype = _header(file)
    _refuse_objects(dtype, path, f"The array {member.filename.removesuffix('.npy')[:60]!r}")
    if dtype.kind not in "biuf" or fortran or len(shape) < 2 or not math.prod(shape):
        return None
    size = math.prod(shape) * dtype.itemsize
    if file.tell() - start + size != member.file_size or file.tell() + size > Path(path).stat().st_size:
        raise ValueError(f"{member.filename}: its header says {dtype} {shape}, and {member.file_size} bytes are there")
    return np.memmap(path, dtype, "r", file.tell(), shape)


def _header(stream: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of a .npy stream; return the shape, whether the array is in Fortran order, and the dtype."""
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    return read_header(stream)


def _refuse_objects(dtype: np.dtype, path: Path | str, what: str) -> None:
    """Raise `Unreadable` for an array of Python objects, because loading such objects could run code.

    Args:
        dtype: Dtype of the array.
        path: File of the array.
        what: Name of the array at the beginning of the advice, such as "The array".
    """
    if dtype.hasobject:
        advice = f"{what} can be saved as text with .astype(str), or as numbers with .astype(float)."
        raise Unreadable(path, "holds Python objects (dtype object), which are never read, because they may carry code",
                         advice)  # fmt: skip


def _from_stream(stream: io.BufferedIOBase, size: int, path: Path | str, what: str) -> np.ndarray:
    """Read one array in .npy format from a stream, after comparing its header with its size.

    Args:
        stream: The stream, at the beginning of the header.
        size: Number of bytes of the stream.
        path: The file, for the error about Python objects.
        what: Name of the array, for the same error.

    Raises ValueError for a stream that is shorter than its header states, and `Unreadable` for Python objects.
    """
    shape, fortran, dtype = _header(stream)
    _refuse_objects(dtype, path, what)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its header says {dtype} {shape}, and {size} bytes are there")
    values = np.frombuffer(stream.read(math.prod(shape) * dtype.itemsize), dtype)
    return values.reshape(shape, order="F" if fortran else "C").copy()


@contextlib.contextmanager
def open_hdf5(
    path: Path | str, advice: str = "", *, passes: tuple[type[Exception], ...] = (), whole: bool = True
) -> Iterator["h5py.File"]:
    """Open an HDF5 file for reading inside a `with` block; exceptions of the block become `Unreadable`.

    Read datasets and attributes inside the block: the error for a damaged or missing dataset then names the file.

    Args:
        path: File to open.
        advice: Sentence for error messages that says what to do about a problem.
        passes: Exceptions that are not converted, in addition to `UserError`.
        whole: Read the file into memory, and compare its digest, if it has one, before HDF5 parses the bytes. False
            opens the file on disk without a lock and without a check; use it if the bytes were checked before.
    """
    import h5py

    if not whole:
        check_regular(path, advice)
        with parsing(path, "an HDF5 file", advice, passes=passes), h5py.File(path, "r", locking=False) as file:
            yield file
        return
    content = read_bytes(path, "an HDF5 file", advice, limit=None)
    with parsing(path, "an HDF5 file", advice, passes=passes):
        sealed = seals.is_sealed(content)
        with h5py.File(io.BytesIO(content), "r") as file:
            if not sealed and file.attrs.get("format") == seals.FORMAT:
                raise ValueError("its digest is missing")
            yield file


def read_idx(path: Path | str, advice: str = "", *, mapped: bool = False) -> UInt8[np.ndarray, "..."]:
    """Return the array of bytes in an idx file, the format of MNIST, with or without gzip.

    Such a file starts with the bytes 0, 0, 8 (the type) and the number of dimensions. The lengths follow as big-endian
    uint32 numbers, and then the entries. A gzipped file is recognised by its first two bytes, not by its name.

    Args:
        path: File to read.
        advice: Sentence for error messages that says what to do about a problem.
        mapped: Return a read-only memory map if the file is not gzipped.

    Raises `Absent` for a missing file, and `Unreadable` for a file that is truncated, is of another type, has 0 or more
    than 4 dimensions or a length of 0, or has more or fewer bytes than its header states.
    """
    with opened(path, "an idx file", advice, limit=IDX_LIMIT) as file:
        head = file.read(_IDX_HEAD)
        if mapped and not is_gzipped(head):
            shape = _idx_shape(head)
            start, size = 4 * (1 + len(shape)), math.prod(shape)
            _refuse_length(file.seek(0, io.SEEK_END) - start, shape)
            return np.memmap(path, np.uint8, "r", start, shape)
        stored = head + file.read()
        zipped = is_gzipped(stored)
        shape = _idx_shape(unzipped(stored, _IDX_HEAD) if zipped else stored[:_IDX_HEAD])
        start, size = 4 * (1 + len(shape)), math.prod(shape)
        content = unzipped(stored, start + size + 1) if zipped else stored  # one byte more, to read gzip's checksum
        _refuse_length(len(content) - start, shape)
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _refuse_length(length: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `length` is the number of bytes of an array of bytes of the given shape."""
    if length != math.prod(shape):
        more = "more" if length > math.prod(shape) else f"{length:,}"
        raise ValueError(f"its header says an array of {shape}, and {more} bytes follow")


def _idx_shape(head: bytes) -> tuple[int, ...]:
    """Return the shape stated in the header of an idx file. Raises ValueError for an invalid header.

    Args:
        head: First `_IDX_HEAD` bytes of the file.
    """
    if len(head) < 4 or head[:3] != b"\x00\x00\x08":
        raise ValueError(f"it starts with {head[:4].hex() or 'nothing'}, not with 000008")
    if not 1 <= head[3] <= 4:
        raise ValueError(f"it has {head[3]} dimensions, not 1 to 4")
    lengths = head[4 : 4 * (1 + head[3])]
    if len(lengths) < 4 * head[3]:
        raise ValueError("it ends within its header")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    if not 0 < math.prod(shape) <= IDX_LIMIT:
        raise ValueError(f"its header says an array of {shape}, which is empty or too large")
    return shape


def is_gzipped(content: bytes) -> bool:
    """Return whether some bytes start with the signature of gzip."""
    return content[:2] == GZIP


def unzipped(content: bytes, most: int) -> bytes:
    """Return the decompressed bytes of gzipped content, at most the first `most` of them.

    The limit protects the memory, because a few bytes may expand to any size. Gzipped files consist of one or more
    streams. The checksum of a stream is compared if the stream ends within the returned bytes.

    Args:
        content: Bytes of a gzipped file.
        most: Largest number of bytes of the result.

    Raises ValueError for content that is damaged or truncated.
    """
    parts = []
    while content and most > 0:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            parts.append(member.decompress(content, most))
        except zlib.error as error:
            reason = "its CRC differs" if "data check" in str(error) else str(error)
            raise ValueError(f"its gzipped content is damaged: {reason}") from error
        most -= len(parts[-1])
        if not member.eof and most > 0:
            raise ValueError("its gzipped content ends before the end-of-stream marker")
        content = member.unused_data.lstrip(b"\0")  # members may be padded with zeros
    return b"".join(parts)
