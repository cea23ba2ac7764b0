"""Runs every reader and some commands on bad files, each in a process of its own, and counts tracebacks and hangs.

    python tests/bad_inputs.py --count=500

The processes are forks of this one, in which everything is imported already, so that a trial takes milliseconds. A
trial ends well if the file is read or is refused by a `UserError` of one line. Prints a line for each trial that does
not, and a table; the exit code is 1 if there was one.
"""

import argparse
import contextlib
import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before tests/data
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from bad_files import CHANGES, KINDS, TARGETS, Target, damage

from linearized.base.errors import UserError

LIMIT = 120.0  # seconds of a trial on a machine that is busy; more is taken for waiting without end
CPU_LIMIT = 20  # seconds of computing; reading takes milliseconds, drawing a page takes two seconds
MEMORY = 4 * 2**30  # bytes that a trial may take beyond what this process has
READ, REFUSED, TRACEBACK = 0, 2, 3
WORDS = ("read", "refused", "traceback", "hang", "crash")


def trial(target: Target, pristine: Path, victim: Path, kind: Callable, seed: int) -> tuple[str, str]:
    """Damage one file of a copy of `pristine` and read it in a fork. Returns how it ended, and what it wrote."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "input"
        shutil.copytree(pristine, folder)
        damage(folder / victim, kind, np.random.default_rng(seed))
        log = Path(name) / "log"
        child = os.fork()
        if not child:
            _in_child(target, folder, log)
        deadline = time.monotonic() + LIMIT
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "hang", log.read_text(errors="replace")
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(status)
        words = {READ: "read", REFUSED: "refused", 75: "refused", TRACEBACK: "traceback", -signal.SIGXCPU: "hang"}
        word = words.get(code, "crash")
        return word, f"exit code {code}\n" + log.read_text(errors="replace")


def _in_child(target: Target, folder: Path, log: Path) -> None:
    """Read, and end this process with a code that says how that went. Never returns."""
    code = TRACEBACK
    try:
        sys.stdout = sys.stderr = log.open("w", errors="backslashreplace", buffering=1)
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(sys.stdout.fileno(), 2)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 1))
        try:
            answer = target.read(folder)
            code = answer if target.command else READ
        except UserError as error:
            code = REFUSED
            if "\n" in str(error) or not str(error).isprintable():
                print(f"not one line: {str(error)!r}", file=sys.stderr)
                code = TRACEBACK
    except BaseException:  # noqa: BLE001 - any exception is what is looked for
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def made(target: Target, folder: Path) -> list[Path]:
    """Write a target's good input and return its files; a target that computes with Keras does so in a fork."""
    if not target.keras:
        return target.make(folder)
    child = os.fork()
    if not child:
        _in_child(target._replace(read=target.make, command=False), folder, folder.with_suffix(".log"))
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(folder.with_suffix(".log").read_text(errors="replace"))
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def run(count: int, seed: int, names: list[str], *, hdf5_changes: bool = True) -> dict[str, Counter]:
    """Run `count` trials over all targets and kinds of damage in turn. Returns how they ended, for each target.

    Args:
        hdf5_changes: Also change bytes of files that go to the HDF5 library unchecked.
    """
    random = np.random.default_rng(seed)
    found: dict[str, Counter] = {name: Counter() for name in names}
    with tempfile.TemporaryDirectory() as root:
        victims = {}
        for number, name in enumerate(names):
            folder = Path(root) / str(number)
            folder.mkdir()
            victims[name] = (folder, [path.relative_to(folder) for path in made(TARGETS[name], folder)])
        for number in range(count):
            name = names[number % len(names)]
            target, (folder, files) = TARGETS[name], victims[name]
            victim = files[int(random.integers(0, len(files)))]
            kinds = CHANGES + KINDS if random.random() < 0.4 else CHANGES
            kind = kinds[int(random.integers(0, len(kinds)))]
            if target.hdf5 and not hdf5_changes and kind in CHANGES and victim.suffix in (".h5", ".part"):
                kind = KINDS[int(random.integers(0, len(KINDS)))]
            word, said = trial(target, folder, victim, kind, seed + number)
            found[name][word] += 1
            if word not in ("read", "refused"):
                print(f"{word}: {name}, {victim}, {kind.__name__.strip('_')}, --seed={seed} trial {number}\n{said}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="trials")
    parser.add_argument("--seed", type=int, default=0, help="of the damages")
    parser.add_argument("--only", default="", help="targets whose names contain this text")
    parser.add_argument("--apart", action="store_true", help="only commands and HDF5, without Keras")
    arguments = parser.parse_args()
    names = [name for name in TARGETS if arguments.only in name]
    if arguments.apart:
        names = [name for name in names if TARGETS[name].command or (TARGETS[name].hdf5 and not TARGETS[name].keras)]
    warm_up(names)
    started = time.monotonic()
    found = run(arguments.count, arguments.seed, names)
    total = sum(found.values(), Counter())
    width = max(map(len, names))
    print(f"{'':{width}}  " + "  ".join(f"{word:>9}" for word in WORDS))
    for name, counts in [*found.items(), ("all", total)]:
        print(f"{name:{width}}  " + "  ".join(f"{counts[word]:9d}" for word in WORDS))
    print(f"{time.monotonic() - started:.0f} seconds")
    return int(any(total[word] for word in WORDS[2:]))


def warm_up(names: list[str]) -> None:
    """Import what the targets import late, by reading every good input once; Keras is imported without computing."""
    if any(TARGETS[name].keras for name in names):
        importlib.import_module("linearized.models.common")
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stdout(None):
        for number, target in enumerate(TARGETS[name] for name in names if not TARGETS[name].keras):
            folder = Path(root) / str(number)
            folder.mkdir()
            target.make(folder)
            answer = target.read(folder)
            if target.command and answer:
                raise RuntimeError(f"a command refuses its good input with exit code {answer}")


if __name__ == "__main__":
    sys.exit(main())
