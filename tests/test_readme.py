"""Every command of the README and of the guides is run, at a small size: flags that do not exist fail here."""

import re
import shlex
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from .warm_commands import run

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "docs" / "quickstart.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


def commands_of(page):
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = commands_of(PAGES[0])
PYTHON = list(dict.fromkeys(
    line for page in PAGES for line in commands_of(page) if line.startswith(("python ", "linearized "))
))  # fmt: skip
SMALL = {
    "train.py": ["--num_units=8", "--num_train=60", "--num_test=30", "--max_cg_iters=2", "--validation=0.2"],
    "SYNTH": ["--synth_n=100", "--synth_dim=64", "--synth_eta=0.5"],
}


def test_readme_commands_set_up_check_and_document():
    set_up, check, documentation = (line for line in COMMANDS if line not in PYTHON)
    assert "pip install -c constraints.txt -e . && python train.py" in set_up
    assert check.endswith("pytest -n 2")
    assert documentation.endswith("python docs/build.py")
    assert len(PYTHON) >= 5


def test_guides_hold_commands_alone_in_shell_blocks():
    for page in PAGES[1:]:
        assert all(line in PYTHON for line in commands_of(page)), page.name


def python_words(command):
    """The words after `python` of a command: `linearized ...` is `python -m linearized ...`."""
    words = shlex.split(command)
    return words[1:] if words[0] == "python" else ["-m", *words]


def small(words, folder):
    """The same command at a size that a test has time for; `python` is the one that runs the tests."""
    if "--data=patients.csv" in words:
        random = np.random.default_rng(0)
        path = Path(folder) / "patients.csv"
        table = pd.DataFrame({"age": random.integers(20, 80, 300), "ward": random.choice(["A", "B"], 300)})
        path.parent.mkdir(parents=True, exist_ok=True)
        table.assign(ill=np.where(table.age > 50, "yes", "no")).to_csv(path, index=False)
        words = [f"--data={path}" if word == "--data=patients.csv" else word for word in words]
        words = [f"--out={path}.png" if word.startswith("--out=") else word for word in words]
    if "--model=model.keras" in words:
        path = Path(folder) / "model.keras"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]).save(path)
        words = [f"--model={path}" if word == "--model=model.keras" else word for word in words]
        if "--linearize" in words:
            return [*words, "--num_train=40", "--num_test=20", "--reg_index=10"]
    if words[:3] == ["-m", "linearized", "launch"]:
        end = words.index("--")
        inner = small(python_words(shlex.join(words[end + 1 :])), folder)
        before = [word.replace("0:14:4", "0:5:4") for word in words[:end]]  # two levels, not four
        return [*before, f"--logs={folder}/logs", "--dashboard=0", "--", sys.executable, *inner]
    if words[:3] == ["-m", "linearized", "reproduce"]:
        return words if "--dry_run" in words else [*words, "--dry_run"]  # tests/report runs a small figure
    if words[:3] == ["-m", "linearized", "theory"]:
        return [*words, "--num_train=60", "--num_test=20", "--sizes=10,20", "--draws=2"]
    if words[0] == "train.py":
        return words + SMALL["train.py"] + (SMALL["SYNTH"] if "--dataset=SYNTH" in words else [])
    if words[:3] == ["-m", "linearized", "compare"]:
        return [*words, "--num_units=4", "--num_train=60", "--num_test=30", "--max_cg_iters=2"]
    if words[0] == "kernel_fit.py":
        words = ["--centres=20" if word.startswith("--centres=") else word for word in words]
        features = ["--embedding_dim=64"] if any(word.startswith("--features") for word in words) else []
        return [*words, "--num_train=60", "--num_test=20", *features]
    if words[1] == "kernel_gen.embed":
        return [*words, "--num_train=24", "--num_test=4", "--embedding_dim=256"]
    if words[1].startswith("kernel_gen"):
        return [*words, "--num_train=24", "--num_test=4"]
    return words


@pytest.mark.parametrize("command", PYTHON)
def test_command_runs(command, small_directories):
    words = small(python_words(command), small_directories)
    if words[:3] == ["-m", "linearized", "report"]:
        run(["train.py", *SMALL["train.py"]], cwd=ROOT).check_returncode()
        words = [re.sub(r"^--out=.*/", f"--out={small_directories}/", word) for word in words]
    if words[1] == "kernel_gen.status":
        run(["-m", "kernel_gen", *words[2:], "--shard=0"], cwd=ROOT).check_returncode()
    done = run(words, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_links_into_the_repository_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
