"""Rows whose contributions to a kernel are computed when a block needs them, and cached as far as memory allows.

Contributions (see `contributions`) may be far larger than the rows: three convolutions of 32 channels take about 1 MB
per row. They are computed in chunks of rows, whose size depends only on the model and not on the free memory. A Gram
matrix is computed in bands of rows. The blocks of a band have the same rows and take their columns from left to right;
each band starts further to the right than the band before, because the matrix is symmetric. If not all contributions
fit in memory, those of the band's rows have priority, then the chunks furthest to the right; the others are recomputed
for each band.
"""

import weakref
from collections.abc import Callable, Iterator

import numpy as np

from linearized.tangents.contributions import Contribution

Prepared = list[Contribution]


class ChunkStore:
    """Cache of chunks of contributions, whose total size is at most `most_bytes`.

    Args:
        make: Function from rows to their contributions.
        rows: Number of rows of a chunk.
        most_bytes: Largest total size of the cached chunks; the chunks in use by a block, at most two, are extra.
    """

    def __init__(self, make: Callable[[np.ndarray], Prepared], rows: int, most_bytes: int):
        self._make, self.rows, self.most_bytes = make, rows, most_bytes
        self._runs: weakref.WeakValueDictionary[int, _RowRun] = weakref.WeakValueDictionary()
        self._count = 0
        self._held: tuple[int, range] = (-1, range(0))
        self.made = 0  # number of rows whose contributions were computed, repetitions included

    def run(self, x: np.ndarray) -> "KeptRows":
        """Return rows whose contributions are computed when they are needed. `x` are the rows (n, ...)."""
        run = _RowRun(x, self._count)
        self._runs[self._count] = run
        self._count += 1
        return KeptRows(self, run, 0, len(x))

    def hold(self, rows: "KeptRows") -> None:
        """Give the chunks of some rows priority over all others, until the next call of this method."""
        self._held = rows.chunks()

    def chunk(self, run: "_RowRun", index: int) -> Prepared:
        """Return the contributions of chunk `index` of a run of rows.

        They are cached if there is room, or if chunks of lower rank can be dropped.
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
        """Return the rank of a chunk; chunks of lower rank are dropped first."""
        return (number == self._held[0] and index in self._held[1], number, index)

    def _room_for(self, size: int, place: tuple[bool, int, int]) -> bool:
        """Drop chunks of lower rank until `size` bytes fit, and return True; return False if they cannot."""
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
    """Rows that were given together; their cached chunks are freed with the last reference to the run."""

    def __init__(self, x: np.ndarray, number: int):
        self.x, self.number = x, number
        self.chunks: dict[int, Prepared] = {}


class KeptRows:
    """Consecutive rows of a `ChunkStore`, which can be sliced further; their contributions are computed on demand."""

    def __init__(self, store: ChunkStore, run: _RowRun, start: int, stop: int):
        self._store, self._run, self._start, self._stop = store, run, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, rows: slice) -> "KeptRows":
        start, stop, _ = rows.indices(len(self))
        return KeptRows(self._store, self._run, self._start + start, self._start + max(start, stop))

    def chunks(self) -> tuple[int, range]:
        """Return the number of the run, and the indices of the chunks that these rows lie in."""
        size = self._store.rows
        return self._run.number, range(self._start // size, -(-self._stop // size))

    def parts(self) -> Iterator[tuple[slice, Prepared]]:
        """Yield the contributions of these rows chunk by chunk, after the slice of the rows that they belong to."""
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
