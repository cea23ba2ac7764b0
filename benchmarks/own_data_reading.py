"""Processor time of reading all of Fashion-MNIST by the path of its idx files, against the built-in loader.

    python benchmarks/own_data_reading.py [FOLDER] [REPEATS]

Each reading is a process of its own, and its user and system time are those of the whole process, imports included; the
least of the repeats counts. Both ways first fill their caches: the built-in loader that of its float32 rows, the reader
of paths that of the unpacked bytes.
"""

import os
import subprocess
import sys
import tempfile

from figures import record

FOLDER = "/usr/share/datasets/fashion-mnist"
COMMON = ["-c", "import sys, linearized; linearized.load(sys.argv[1])"]
EMPTY = ["-c", "import linearized.data"]


def seconds(words: list[str]) -> float:
    """Return user and system time of one Python process."""
    child = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"python {' '.join(words)} ended with status {status}")
    return usage.ru_utime + usage.ru_stime


def main(folder: str = FOLDER, repeats: str = "5") -> None:
    """Print the least processor time of each way, first with empty caches, then with full ones."""
    ways = {"built-in": [*COMMON, "FMNIST"], "by path": [*COMMON, folder], "imports alone": EMPTY}
    with tempfile.TemporaryDirectory() as storage:
        os.environ["LINEARIZED_STORAGE"] = storage
        first = {name: seconds(words) for name, words in ways.items()}
        least = {name: min(seconds(words) for _ in range(int(repeats))) for name, words in ways.items()}
    for name in ways:
        print(f"{name:14} {first[name]:.2f} s at first, then {least[name]:.3f} s")
    print(f"by path over built-in: {least['by path'] / least['built-in']:.2f}")
    record("reading Fashion-MNIST by its path, CPU time", least["by path"], "the built-in reader", least["built-in"])


if __name__ == "__main__":
    main(*sys.argv[1:])
