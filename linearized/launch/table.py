"""Table at the end of a launch: the outcome of each command, the metrics of its results, and totals.

There is one row per command or, if there are many, per failed command.
"""

import itertools
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from linearized.base.errors import UserError
from linearized.base.terminal import Column, print_columns, say, shell_lines, width_of
from linearized.launch.commands import CommandResult
from linearized.launch.sweep_progress import clock

FEW = 100  # largest number of commands of which each has a row
METRICS = ("test_accuracy", "test_loss")


def print_table(results: Sequence[CommandResult], seconds: float, console: Console | None = None) -> None:
    """Print the table of a launch: the words that all commands share, one row per command, and totals.

    If there are more than 100 commands (`FEW`), only the first 100 of the failed ones have rows. A row has the test
    accuracy and loss, at the chosen ridge, of the results that the command has written. For several results, such as
    one per noise level, the smallest and the largest value are printed. The logs of failed commands are listed below
    the table.

    Args:
        results: Outcome of each command.
        seconds: Duration of the launch.
        console: Console to print to; None for standard output.
    """
    console = console or Console()
    failed = [result for result in results if result.failed]
    rows = results if len(results) <= FEW else failed[:FEW]
    shared, names = shared_words([result.argv for result in rows])
    if shared:
        console.print(shell_lines(shared, width_of(console)), markup=False, highlight=False, soft_wrap=True)
    if rows:
        metrics = [_metrics(result.outcome.written) for result in rows]
        measured = [name for name in METRICS if any(one.get(name) for one in metrics)]
        tries = [Column("tries", [str(result.tries) for result in rows], 5)]
        print_columns(
            "",
            [
                Column("command", names, text=True),
                Column("ended", [verdict(result.outcome.code) for result in rows]),
                *(Column(name.replace("_", " "), [one.get(name, "") for one in metrics], rank)
                  for rank, name in enumerate(measured, start=1)),
                *(tries if any(result.tries > 1 for result in rows) else []),
                Column("seconds", [f"{result.outcome.seconds:.1f}" for result in rows], 4),
            ],
            styles=["bold red" if result.failed else "" for result in rows],
            console=console,
        )  # fmt: skip
    paths = [Path(result.log) for result in rows if result.failed]
    for folder, logs in itertools.groupby(paths, lambda path: path.parent):
        say(f"logs of failed commands in {folder}:", console)
        for log in logs:
            say(log.name, console, indent="  ")
    if len(rows) < len(results):
        more = len(failed) - len(rows)
        say(f"commands that succeeded are not listed, because there are more than {FEW}"
            + (f"; {more} more failed" if more else ""), console)  # fmt: skip
    done = [result.outcome.seconds for result in results if not result.failed]
    mean = f", {sum(done) / len(done):.1f} s each" if done else ""
    say(f"{len(done)} of {len(results)} done in {clock(seconds)}{mean}", console)


def shared_words(commands: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return the words that all commands share, in order, and for each command its other words as one text.

    In these texts, flags have no leading dashes. If there is only one command, or if the texts of some commands would
    be equal or empty, no words count as shared, and the texts are the whole commands.

    Args:
        commands: Commands as lists of words.
    """
    common = set.intersection(*map(set, commands)) if len(commands) > 1 else set()
    shared = [word for word in commands[0] if word in common] if commands else []
    names = [" ".join(shlex.quote(word.removeprefix("--")) for word in argv if word not in common) for argv in commands]
    if not all(names) or len(set(names)) < len(names) or not shared:
        return [], [shlex.join(argv) for argv in commands]
    return shared, names


def _metrics(folders: Sequence[str]) -> dict[str, str]:
    """Return test accuracy and loss of the results in these folders as texts, such as "0.9012" or "0.8511..0.9012".

    Metrics that no result has are left out.
    """
    from linearized.storage.results import load  # imports NumPy and h5py

    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for folder in folders:
        if not Path(folder, "result.json").is_file():
            continue  # a result of another kind, such as one of `linearized theory`
        try:
            record = load(folder)
        except UserError:  # it is damaged: it has no metrics, and `linearized report` names it
            continue
        chosen = record["ridges"][record["chosen"]["position"]]
        for name in METRICS:
            if chosen.get(name) is not None:
                values[name].append(chosen[name])
    return {name: _span(found) for name, found in values.items() if found}


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4f}", f"{max(values):.4f}"
    return low if low == high else f"{low}..{high}"


def verdict(code: int | None) -> str:
    """Return how a command ended in words, such as "done", "code 2" or "SIGKILL".

    Args:
        code: Exit code of the command; None if its worker died.
    """
    if code is None:
        return "worker died"
    if code > 128 and code - 128 in set(signal.Signals):
        return signal.Signals(code - 128).name
    return "done" if code == 0 else f"code {code}"
