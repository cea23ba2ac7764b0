"""Kill commands at random moments, give them again, and compare what they leave with an uninterrupted run.

    python tests/faults/kill_loop.py --kills=200 --seed=0

A warm process forks a child for each run, so that a kill (SIGKILL at a time uniform over the command's duration) hits
the work and not the start of Python. After the kill the command runs to its end. Counted are values that differ from
those of the uninterrupted run, files that differ (something left over or missing), and runs that end with an error.
"""

import argparse
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from linearized.base.directories import KEYS
from linearized.settings.config import Settings
from linearized.storage.array_files import read_npz
from linearized.storage.embeddings import open_embedding
from linearized.storage.gram import open_gram
from linearized.storage.results import load, load_arrays

SMALL = ("--dataset=DIGITS", "--num_train=120", "--num_test=40", "--exp_name=killed")
_VARYING = ("fit_seconds", "examples_per_second")  # entries of a ridge that are times


# What the commands import at work. Keras is imported and does nothing yet: its threads would not survive a fork.
WARM = (
    "kernel_gen.kernels.polynomial",
    "kernel_gen.features.rf_features",
    "sklearn.datasets",
    "linearized.data.transforms.noise",
)
WARM_KERAS = (
    "keras", "pandas", "scipy.linalg", "linearized.experiments.gradient_fit",
    "linearized.experiments.least_squares_fit",
    "linearized.models.nn", "linearized.models.rf", "linearized.solvers.linear.band.solver",
    "linearized.solvers.linear.block_lanczos", "linearized.kernel_ridge.embedded_fit", "linearized.experiments.table",
    "linearized.report.page", "linearized.report.run_pictures",
)  # fmt: skip


class Command(NamedTuple):
    """A command that is killed: its settings, its `main`, its flags, and commands that run before it."""

    settings: type[Settings]
    main: Callable
    flags: tuple[str, ...]
    before: tuple[str, ...] = ()


def commands(names: tuple[str, ...]) -> dict[str, Command]:
    """Return the commands of `names` and those that they need, after importing what they import when they run."""
    from kernel_gen import embed
    from kernel_gen.__main__ import main as make_gram
    from kernel_gen.jobs import gram_job as generate

    gram, features = ("--kernel=POLYNOMIAL", *SMALL[:3]), ("--features=RF", "--embedding_dim=64", *SMALL[:3])
    found = {
        "kernel_gen": Command(generate.GramJobSettings, make_gram, (*gram, "--num_shards=4")),
        "embed": Command(embed.EmbedSettings, embed.main, (*features, "--num_shards=4")),
        "kernel_gen_one": Command(generate.GramJobSettings, make_gram, gram),
        "embed_one": Command(embed.EmbedSettings, embed.main, features),
    }
    sys.path.append(str(Path(__file__).resolve().parents[2]))  # where train.py and kernel_fit.py lie
    keras = not set(names) <= set(found)
    for name in (*WARM, *(WARM_KERAS if keras else ())):
        importlib.import_module(name)
    return found | _keras_commands() if keras else found


def _keras_commands() -> dict[str, Command]:
    import kernel_fit
    import train
    from linearized.cli import report as page
    from linearized.experiments import krr as fit
    from linearized.experiments import train as training

    krr = (*SMALL, "--checkpoint_seconds=0", "--ridges=0.01,0.1,1,10")
    least_squares = (*SMALL, "--model=RF", "--num_units=48", "--reg_index=4:12", "--checkpoint_seconds=0")
    gradient = (*SMALL, "--model=NN", "--num_units=12", "--max_cg_iters=3", "--reg_index=0,5",
                "--checkpoint_seconds=0")  # fmt: skip
    return {
        "train_rf": Command(training.TrainSettings, train.main, least_squares),
        "train_nn": Command(training.TrainSettings, train.main, gradient),
        "kernel_fit": Command(fit.KernelFitSettings, kernel_fit.main,
                              ("--kernel=POLYNOMIAL", "--solver=block_lanczos", *krr),
                              before=("kernel_gen_one",)),
        "features_fit": Command(fit.KernelFitSettings, kernel_fit.main, ("--features=RF", "--embedding_dim=64", *krr),
                                before=("embed_one",)),
        "report": Command(page.ReportSettings, page.main, ("--directory=storage/nn_dir", "--out=storage/page.html"),
                          before=("train_rf",)),
    }  # fmt: skip


NAMES = ("kernel_gen", "embed", "train_rf", "train_nn", "kernel_fit", "features_fit", "report")  # those that are killed


def start(command: Command, folder: Path) -> int:
    """Fork a child that runs a command in `folder`, with its output in `log`; return its process number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        os.environ["DIRECTORIES"] = str(folder / "directories.txt")
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from linearized.settings.command import run_command

        code = run_command(command.settings, "", command.main, command.flags)
        sys.stdout.flush()
    finally:
        os._exit(code)


def finish(command: Command, folder: Path) -> tuple[int, float]:
    """Run a command to its end. Returns its exit code (minus the signal that ended it) and its seconds."""
    began = time.monotonic()
    _, status = os.waitpid(start(command, folder), 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began


def workplace(folder: Path) -> Path:
    """Make a folder with a `directories.txt` of its own."""
    folder.mkdir()
    (folder / "directories.txt").write_text("".join(f"{key} storage/{key}\n" for key in KEYS))
    return folder


def files(folder: Path) -> list[str]:
    """The names of everything below a folder's storage."""
    storage = folder / "storage"
    return sorted(str(path.relative_to(storage)) for path in storage.rglob("*"))


def values(folder: Path) -> dict[str, object]:
    """Every value that the commands left: results, arrays, matrices, embeddings, pages without their times."""
    found: dict[str, object] = {}
    for path in (folder / "storage").rglob("*"):
        name = str(path.relative_to(folder))
        if path.name == "result.json":
            record = load(path.parent)
            entries = [{key: value for key, value in entry.items() if key not in _VARYING}
                       for entry in record["ridges"]]  # fmt: skip
            found[name] = json.dumps([entries, record["chosen"], record["settings"]], sort_keys=True)
            found |= {f"{name}:{key}": value for key, value in load_arrays(path.parent).items()}
        elif path.name == "gram.json":
            gram = open_gram(path.parent, check=True)
            found |= {f"{name}:train": gram.to_memory(), f"{name}:test": gram.test.to_memory()}
        elif path.name == "embedding.json":
            found |= {f"{name}:{key}": rows[:] for key, rows in open_embedding(path.parent).splits.items()}
        elif path.suffix == ".html":
            found[name] = len(re.findall("<svg", path.read_text(encoding="utf-8")))
        elif path.suffix == ".npz":
            found |= {f"{name}:{key}": value for key, value in read_npz(path).items()}
    return found


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """The names of values that are missing or differ."""
    wrong = [name for name in expected if name not in found]
    for name in set(expected) & set(found):
        ours, theirs = expected[name], found[name]
        if isinstance(ours, np.ndarray):
            same = ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-5, atol=1e-7)
        elif isinstance(ours, str):
            same = _close(json.loads(ours), json.loads(theirs))
        else:
            same = ours == theirs
        wrong += [] if same else [name]
    return wrong


def _close(ours: object, theirs: object) -> bool:
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_close(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(_close, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return bool(np.isclose(ours, theirs, rtol=1e-5, atol=1e-9))
    return ours == theirs


class Count(NamedTuple):
    """What happened: kills that hit a running command, and the trials that ended badly, in words."""

    kills: int
    wrong: list[str]
    leftovers: list[str]
    errors: list[str]


def kill_loop(
    root: Path, kills: int, seed: int = 0, names: tuple[str, ...] = NAMES, *, seconds: float = float("inf"),
    report: Callable[[str], None] = lambda line: None,
) -> Count:  # fmt: skip
    """Kill until `kills` runs were hit or `seconds` have passed, the commands in turn; see the module.

    Args:
        report: Called with a line after each trial.
    """
    end = time.monotonic() + seconds
    known, chance, hit = commands(names), random.Random(seed), 0
    wrong, leftovers, errors = [], [], []
    references = {}
    for name in names:
        folder = workplace(root / f"before_{name}")
        for one in (*known[name].before, name):
            if one == name:
                folder = Path(shutil.copytree(folder, root / f"reference_{name}"))
            code, whole = finish(known[one], folder)
            if code:
                raise RuntimeError(f"{one} ended with {code}: {(folder / 'log').read_text()[-2000:]}")
        references[name] = (values(folder), files(folder), whole)
    trial = 0
    while hit < kills and time.monotonic() < end:
        name = names[trial % len(names)]
        command, (expected, listed, whole) = known[name], references[name]
        folder = Path(shutil.copytree(root / f"before_{name}", root / f"trial_{trial}"))
        trial += 1
        for _ in range(chance.choice((1, 2, 3, 4))):
            child = start(command, folder)
            time.sleep(chance.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            hit += os.WIFSIGNALED(status)
        code, _ = finish(command, folder)
        where = f"trial {trial} of {name}"
        if code:
            errors.append(f"{where}: code {code}: {(folder / 'log').read_text()[-500:]}")
        else:
            if different := set(files(folder)) ^ set(listed):
                leftovers.append(f"{where}: {sorted(different)}")
            try:
                wrong += [f"{where}: {one}" for one in differences(expected, values(folder))]
            except (ValueError, OSError) as error:
                errors.append(f"{where}: {error}")
        report(f"{hit} kills, {trial} trials, bad: {[*wrong, *leftovers, *errors][-1:]}")
        shutil.rmtree(folder)
    return Count(hit, wrong, leftovers, errors)


def main() -> int:
    """Run the loop and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="kills that hit a running command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--commands", default=",".join(NAMES), help="which commands, comma-separated")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(asked.commands.split(","))
        count = kill_loop(Path(folder), asked.kills, asked.seed, names, seconds=asked.seconds,
                          report=lambda line: print(line, flush=True))  # fmt: skip
    for line in (*count.wrong, *count.leftovers, *count.errors):
        print(line)
    print(f"{count.kills} kills in {time.monotonic() - began:.0f} s: {len(count.wrong)} wrong values, "
          f"{len(count.leftovers)} leftovers, {len(count.errors)} errors")  # fmt: skip
    return int(bool(count.wrong or count.leftovers or count.errors))


if __name__ == "__main__":
    sys.exit(main())
