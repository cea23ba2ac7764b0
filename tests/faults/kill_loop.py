"""Kill commands at random moments, give them again, and compare what they leave with an uninterrupted run.

    python tests/faults/kill_loop.py --kills=200 --seed=0

A warm process forks a child for each run, so that a kill (SIGKILL at a time uniform over the command's duration) hits
the work and not the start of Python. Killed is either the command's own process alone, as by a user, or every process
that it started as well, as by the end of a machine. The next run starts at once, whatever survives, and is given again
while it ends with code 75 (the folder is busy). Counted are values that differ from those of the uninterrupted run,
files that differ (something left over or missing), runs that end with an error, and processes that never end.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kill_commands import NAMES, Command, commands, warm_up
from kill_values import as_words, differences, values

from linearized.base.directories import KEYS
from linearized.base.errors import TryLater

MARK = "KILL_LOOP_TRIAL"  # environment variable of every process that a trial starts
PATIENCE = 120.0  # seconds that a busy folder and surviving processes are waited for
_RETRY = 0.2  # seconds between two tries


def start(command: Command, folder: Path) -> int:
    """Fork a child that runs a command in `folder`, with its output in `log`; return its process number.

    The child leads a session of its own, and what it starts finds `MARK` in its environment.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["DIRECTORIES"] = str(folder / "directories.txt")
        os.environ[MARK] = str(folder)
        paths = (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from linearized.settings.command import run_command

        code = run_command(command.settings, "", command.main, command.flags)
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - whatever a command raises belongs into its log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def processes(folder: Path, sessions: set[int]) -> set[int]:
    """Return the living processes that the runs in a folder started.

    Args:
        sessions: Those of the runs, for forks that have not replaced their environment.
    """
    found, mark = set(), f"{MARK}={folder}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended in between
            state, _, _, session = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            marked = mark in entry.joinpath("environ").read_bytes().split(b"\0")
            if state not in "ZX" and (marked or int(session) in sessions):
                found.add(int(entry.name))
    return found


def kill(child: int, folder: Path, *, alone: bool) -> bool:
    """Kill a run, alone or with all processes that it started. Return whether the signal ended it."""
    os.kill(child, signal.SIGKILL)
    while not alone and (others := processes(folder, {child}) - {child}):
        for other in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def finish(command: Command, folder: Path, sessions: set[int]) -> int:
    """Run a command to its end, again while the folder is busy; return its exit code or minus its signal."""
    end = time.monotonic() + PATIENCE
    while True:
        child = start(command, folder)
        sessions.add(child)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != TryLater.code or time.monotonic() > end:
            return code
        time.sleep(_RETRY)


def survivors(folder: Path, sessions: set[int]) -> set[int]:
    """Wait for all processes of a folder to end. Return those that did not, after killing them."""
    end = time.monotonic() + PATIENCE
    while (left := processes(folder, sessions)) and time.monotonic() < end:
        time.sleep(_RETRY)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left


def workplace(folder: Path) -> Path:
    """Make a folder with a `directories.txt` of its own."""
    folder.mkdir()
    (folder / "directories.txt").write_text("".join(f"{key} storage/{key}\n" for key in KEYS))
    return folder


def files(folder: Path) -> list[str]:
    """Return the names of everything below a folder, without the trial's own log."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path != folder / "log")


class Count(NamedTuple):
    """What happened: kills of a running command by its name, and the trials that ended badly, in words."""

    kills: Counter
    wrong: list[str]
    leftovers: list[str]
    errors: list[str]

    def bad(self) -> list[str]:
        """Return everything that went wrong."""
        return [*self.wrong, *self.leftovers, *self.errors]


class Reference(NamedTuple):
    """What an uninterrupted run leaves, and how long it takes."""

    values: dict[str, object]
    files: list[str]
    seconds: float


def reference(root: Path, known: dict[str, Command], name: str) -> Reference:
    """Run what comes before a command, keep that as `before_NAME`, and run the command itself to its end."""
    folder = workplace(root / f"before_{name}")
    for one in (*known[name].before, name):
        if one == name:
            folder = Path(shutil.copytree(folder, root / f"reference_{name}"))
        began = time.monotonic()
        code = finish(known[one], folder, set())
        took = time.monotonic() - began
        if code:
            raise RuntimeError(f"{one} ended with {code}: {(folder / 'log').read_text()[-2000:]}")
    return Reference(values(folder), files(folder), took)


def kill_loop(
    root: Path, kills: int, seed: int = 0, names: tuple[str, ...] = NAMES, *, seconds: float = float("inf"),
    report: Callable[[str], None] = lambda line: None,
) -> Count:  # fmt: skip
    """Kill each command until `kills` runs of it were hit, the commands in turn, or `seconds` have passed.

    Args:
        report: Called with a line after each trial.
    """
    end = time.monotonic() + seconds
    known, chance = commands(names), random.Random(seed)
    warm_up(names)
    count, trial = Count(Counter(), [], [], []), 0
    references = {name: reference(root, known, name) for name in names}
    while left := [name for name in names if count.kills[name] < kills]:
        for name in left:
            if time.monotonic() > end:
                return count
            trial += 1
            _try(root, f"trial {trial} of {name}", known[name], references[name], chance, name, count)
            said = [*count.wrong, *count.leftovers, *count.errors]
            report(f"{name}: {count.kills[name]} kills; {count.kills.total()} in {trial} trials, {len(said)} bad")
    return count


def _try(
    root: Path, where: str, command: Command, expected: Reference, chance: random.Random, name: str, count: Count
) -> None:
    """Kill a command one to four times in a new folder, run it to its end, and add what differs to `count`."""
    folder = Path(shutil.copytree(root / f"before_{name}", root / where.replace(" ", "_")))
    sessions: set[int] = set()
    for _ in range(chance.choice((1, 2, 3, 4))):
        child = start(command, folder)
        sessions.add(child)
        time.sleep(chance.uniform(0, expected.seconds))
        count.kills[name] += kill(child, folder, alone=chance.random() < 0.5)
    code = finish(command, folder, sessions)
    if remaining := survivors(folder, sessions):
        count.errors.append(f"{where}: {len(remaining)} processes do not end")
    if code:
        count.errors.append(f"{where}: code {code}: {(folder / 'log').read_text()[-1500:]}")
    else:
        if different := set(files(folder)) ^ set(expected.files):
            count.leftovers.append(f"{where}: {sorted(different)}")
        try:
            found = values(folder)
        except (ValueError, OSError) as error:
            count.errors.append(f"{where}: {error}")
        else:
            count.wrong.extend(
                f"{where}: {one}: {as_words(expected.values.get(one))}, not {as_words(found.get(one))}"
                for one in differences(expected.values, found)
            )
    shutil.rmtree(folder)


def main() -> int:
    """Run the loop and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="kills that hit a running command, over all commands")
    parser.add_argument("--seed", type=int, default=0, help="random-number seed of the moments of the kills")
    parser.add_argument("--commands", default=",".join(NAMES), help="which commands, comma-separated")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    asked = parser.parse_args()
    began = time.monotonic()
    names = tuple(asked.commands.split(","))
    with tempfile.TemporaryDirectory() as folder:
        each = -(-asked.kills // len(names))
        count = kill_loop(Path(folder), each, asked.seed, names, seconds=asked.seconds,
                          report=lambda line: print(line, flush=True))  # fmt: skip
    print(", ".join(f"{name} {count.kills[name]}" for name in names))
    print(f"{count.kills.total()} kills in {time.monotonic() - began:.0f} s: {len(count.wrong)} wrong values, "
          f"{len(count.leftovers)} leftovers, {len(count.errors)} errors")  # fmt: skip
    return int(bool(count.bad()))


if __name__ == "__main__":
    sys.exit(main())
