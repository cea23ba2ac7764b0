"""Reading the stored triangle of a Gram matrix in order, against NumPy reading the same bytes from one flat file.

    python benchmarks/gram_reading.py [n] [tile]

Both read into buffers that are used again, with the files in the operating system's cache; best of five. NumPy may
choose between a large buffer and one that fits in the processor's cache. Every 4,096th byte is summed too, so that the
answers can be compared and no page is left unread.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import record

from kernel_gen.jobs.tiles import divide, good_number
from linearized.storage.gram import CACHE, MEMORY, open_gram
from linearized.storage.manifest import Manifest, save_once
from linearized.storage.shards import write_shard


def best(work: Callable[[], object], times: int = 5) -> tuple[float, object]:
    """Seconds of the fastest of some runs, and the answer."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def main(n: int = 12_000, tile: int = 32) -> None:
    random, rows = np.random.default_rng(0), {"train": n, "test": 1}
    shards = divide(rows, good_number(rows, tile, 4), tile)
    manifest = Manifest({}, "benchmark", "float32", "stax", rows, tile, shards, "python benchmarks/gram_reading.py")
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder, flat = Path("gram"), Path("flat.bin")
        save_once(folder, manifest)
        for shard in range(len(shards)):
            write_shard(folder, manifest, shard, lambda band: random.random(manifest.shape(band), np.float32))
        with flat.open("wb") as file:
            for stored in open_gram(folder)._stored:
                file.write(stored.mapped())
        size = flat.stat().st_size
        print(f"n = {n}: {len(shards)} shards, {sum(map(len, shards))} bands, triangle of {size / 2**30:.2f} GiB")

        def by_numpy(length: int) -> int:
            buffer, total = np.empty(length, np.uint8), 0
            with flat.open("rb", buffering=0) as file:
                while got := file.readinto(buffer):
                    total += int(buffer[:got:4096].sum())
            return total

        def by_fromfile() -> int:
            return int(np.fromfile(flat, np.uint8)[::4096].sum())

        def by_gram(gram) -> float:
            return float(sum(block[:, ::1024].sum(dtype=float) for _, block in gram.row_blocks()))

        reused, expected = min(best(lambda length=length: by_numpy(length)) for length in (CACHE, MEMORY))
        whole, also = best(by_fromfile)
        gram = open_gram(folder)
        gram.check()
        ours, _ = best(lambda: by_gram(gram))
        sums, _ = best(lambda: [stored.check_sum() for stored in gram._stored])
        checked, _ = best(lambda: by_gram(open_gram(folder)), times=3)
        diagonal = gram.to_memory() if n <= 12_000 else None
        if diagonal is not None and not np.array_equal(diagonal, diagonal.T):
            raise RuntimeError("the matrix that was read is not symmetric")
        print(f"NumPy, one flat file, one buffer: {size / reused / 1e9:5.2f} GB/s (check {expected == also})")
        print(f"NumPy, np.fromfile:               {size / whole / 1e9:5.2f} GB/s")
        print(f"row_blocks, sums known:           {size / ours / 1e9:5.2f} GB/s = {reused / ours:.2f} of NumPy's best")
        work = f"reading shards, n = {n:,}, float32, sums known"
        record(work, size / ours / 1e9, "NumPy, one flat file", size / reused / 1e9, "GB/s")
        print(f"checksums of all bands:           {size / sums / 1e9:5.2f} GB/s")
        print(f"opening and first pass with sums: {size / checked / 1e9:5.2f} GB/s")
        v = random.random((n, 10), np.float32)
        product, _ = best(lambda: gram @ v, times=2)
        print(f"K @ V, 10 columns:                {product:.2f} s, {size / product / 1e9:.2f} GB/s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
