"""Cache of limited size for the derivatives from which a tangent kernel is computed.

The derivatives of a row (objects of `linearized.tangents.contributions`) may be far larger than the row: for three
convolutions of 32 channels they take about 1 MB. They are computed when a block of the Gram matrix needs them, in
chunks of rows. The size of a chunk depends only on the model and not on the free memory.

A Gram matrix is computed in bands, which are ranges of its rows. The blocks of a band are computed from left to right.
Each band starts further to the right than the band before, because only the upper triangle of the symmetric matrix is
computed. If not all chunks fit in memory, the chunks for the rows of the present band have the highest priority. Next
are the chunks for the columns furthest to the right, which all later bands need. The other chunks are computed again
for each band.
"""

import weakref
from collections.abc import Callable, Iterator

import numpy as np

from linearized.tangents.contributions import Contribution

Prepared = list[Contribution]


class ChunkStore:
    """Cache of the derivatives from which a tangent kernel is computed, in chunks of rows.

    Args:
        make: Function that computes the derivatives for an array of rows, such as `TangentKernel.prepare`.
        rows: Number of rows of a chunk.
        most_bytes: Largest total size of the cached chunks. Up to two further chunks that are in use may be in memory.
    """

    def __init__(self, make: Callable[[np.ndarray], Prepared], rows: int, most_bytes: int):
        self._make, self.rows, self.most_bytes = make, rows, most_bytes
        self._runs: weakref.WeakValueDictionary[int, _RowRun] = weakref.WeakValueDictionary()
        self._count = 0
        self._held: tuple[int, range] = (-1, range(0))
        self.made = 0  # number of rows whose contributions were computed, repetitions included

    def run(self, x: np.ndarray) -> "KeptRows":
        """Register an array of rows, and return an object that gives access to their derivatives.

        Nothing is computed yet. Cached chunks of these rows are freed when the returned object and all slices of it
        are deleted, or earlier if the memory is needed for other chunks.

        Args:
            x: Rows (n, ...).
        """
        run = _RowRun(x, self._count)
        self._runs[self._count] = run
        self._count += 1
        return KeptRows(self, run, 0, len(x))

    def hold(self, rows: "KeptRows") -> None:
        """Give the chunks that contain `rows` priority over all others, until the next call of this method."""
        self._held = rows.chunks()

    def chunk(self, run: "_RowRun", index: int) -> Prepared:
        """Return the derivatives for one chunk of rows, from the cache or newly computed.

        Computed derivatives are cached if there is enough free memory, or if dropping chunks of lower priority frees
        enough.

        Args:
            run: Array of rows that the method `run` registered.
            index: Index, from 0, of the chunk in this array. The chunk contains the rows from index · chunk size
                onwards.
        """
        if index not in run.chunks:
            rows = run.x[index * self.rows : (index + 1) * self.rows]
            self.made += len(rows)
            made = self._make(rows)
            if not self._room_for(_bytes(made), self._place(run.number, index)):
                return made
            run.chunks[index] = made
        return run.chunks[index]

    def _place(self, number: int, index: int) -> tuple[bool, int, int]:
        """Return the priority of a chunk: a tuple, which compares as larger for a higher priority.

        Chunks given to `hold` have the highest priority. Among the others, chunks of arrays that were registered later
        have a higher priority. Within an array, chunks of larger index have a higher priority.

        Args:
            number: Index of the array of rows in the order of registration, from 0.
            index: Index of the chunk in this array.
        """
        return (number == self._held[0] and index in self._held[1], number, index)

    def _room_for(self, size: int, place: tuple[bool, int, int]) -> bool:
        """Make room in the cache for a chunk, and return whether there is room now.

        Only chunks of lower priority are dropped. If that would not free enough memory, none is dropped.

        Args:
            size: Size of the new chunk in bytes.
            place: Priority of the new chunk, from `_place`.
        """
        kept = {self._place(run.number, index): (run, _bytes(made)) for run in list(self._runs.values())
                for index, made in run.chunks.items()}  # fmt: skip
        total = sum(own for _, own in kept.values())
        lower = sorted(at for at in kept if at < place)
        if total - sum(kept[at][1] for at in lower) + size > self.most_bytes:
            return False
        for at in lower:
            if total + size <= self.most_bytes:
                break
            run, own = kept[at]
            del run.chunks[at[2]]
            total -= own
        return True


class _RowRun:
    """Array of rows registered in a `ChunkStore`, with its cached chunks.

    The chunks are freed when the last reference to this object is deleted.

    Args:
        x: Rows (n, ...).
        number: Index of the array in the order of registration, from 0.
    """

    def __init__(self, x: np.ndarray, number: int):
        self.x, self.number = x, number
        self.chunks: dict[int, Prepared] = {}


class KeptRows:
    """Consecutive rows of an array in a `ChunkStore`; the derivatives for the rows are computed when they are read.

    A slice of this object is an object of the same class for fewer rows.

    Args:
        store: Cache of the derivatives.
        run: Array of rows in this cache.
        start: Index of the first row in this array.
        stop: Index after the last row.
    """

    def __init__(self, store: ChunkStore, run: _RowRun, start: int, stop: int):
        self._store, self._run, self._start, self._stop = store, run, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, rows: slice) -> "KeptRows":
        start, stop, _ = rows.indices(len(self))
        return KeptRows(self._store, self._run, self._start + start, self._start + max(start, stop))

    def chunks(self) -> tuple[int, range]:
        """Return the index of the array in the `ChunkStore`, and the indices of the chunks that contain these rows.

        Both count from 0, arrays in the order in which they were registered.
        """
        size = self._store.rows
        return self._run.number, range(self._start // size, -(-self._stop // size))

    def parts(self) -> Iterator[tuple[slice, Prepared]]:
        """Yield, for each chunk, the slice of these rows that it contains, and the derivatives for that slice."""
        size, start = self._store.rows, self._start
        while start < self._stop:
            index, first = divmod(start, size)
            stop = min((index + 1) * size, self._stop)
            whole = self._store.chunk(self._run, index)
            yield (slice(start - self._start, stop - self._start),
                   [one[first : first + stop - start] for one in whole])  # fmt: skip
            start = stop


def _bytes(made: Prepared) -> int:
    return sum(one.nbytes for one in made)
