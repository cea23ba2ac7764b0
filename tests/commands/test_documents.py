"""Every command that CHANGELOG and CONTRIBUTING show is run at a small size; its flags are also read by themselves."""

import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from linearized.settings.config import parse

ROOT = Path(__file__).resolve().parents[2]
ROWS = ["--num_train=40", "--num_test=20"]
FIT = [*ROWS, "--num_units=4", "--max_cg_iters=2", "--validation=0.2"]
SETTINGS = {
    "train.py": "linearized.experiments.train:Config", "kernel_fit.py": "linearized.experiments.krr:Config",
    "kernel_gen": "kernel_gen.jobs.gram_job:Config", "kernel_gen.embed": "kernel_gen.embed:Config",
    "linearized.experiments.compare": "linearized.experiments.compare:Config", "linearized.experiments.finetune": "linearized.experiments.finetune:Config",
    "launch": "linearized.launch.launch_settings:LaunchSettings", "report": "linearized.cli.report:Config",
    "linearized.report.reproduce": "linearized.report.reproduce:Config", "data": "linearized.cli.data:Config",
}  # fmt: skip
NEEDED = {"linearized.experiments.finetune": ["--model=a.keras", "--data=b"]}
RUN_AS_SCRIPT = {"linearized.experiments.train": "train.py", "linearized.experiments.krr": "kernel_fit.py"}
SIZES = {
    "train.py": FIT, "kernel_fit.py": ROWS, "kernel_gen": ROWS, "kernel_gen.embed": [*ROWS, "--embedding_dim=32"],
    "linearized.experiments.compare": [*ROWS, "--num_units=4", "--models=RF,NT", "--max_cg_iters=2"],
    "linearized.experiments.finetune": ["--dataset=DIGITS", *ROWS, "--epochs=1"], "linearized.experiments.train": FIT,
    "linearized.experiments.krr": ROWS, "linearized.report.reproduce": ["--figure=synth_kappa", "--dry_run"], "data": [],
}  # fmt: skip

SLOW = r"launch|compare|finetune|linearized.experiments.train|kernel_fit|noise_ind|--out"  # others are run in seconds


def commands():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CONTRIBUTING.md"))
    return sorted({" ".join(found.split()) for found in re.findall(r"`(python (?:-m )?[\w.]+[^`]*)`", text)})


def run(words, monkeypatch):
    """Run `python WORDS` in this process and return its exit code."""
    monkeypatch.chdir(ROOT)
    module = words[0] == "-m"
    monkeypatch.setattr(sys, "argv", words[1:] if module else words)
    with pytest.raises(SystemExit) as ended:
        (runpy.run_module if module else runpy.run_path)(words[module], run_name="__main__")
    return ended.value.code or 0


@pytest.mark.parametrize("command", commands())
def test_flags_of_a_command_are_read(command):
    words = [word for word in shlex.split(command)[1:] if word != "-m"]
    program = RUN_AS_SCRIPT.get(words[0], words[0])
    module, _, name = SETTINGS[program].partition(":")
    flags = [word.replace("flag=values", "seed=0:2") for word in words[1:] if word != "..."]
    settings = parse(getattr(importlib.import_module(module), name), [*NEEDED.get(program, []), *flags],
                     words="directory" if program == "report" else "")  # fmt: skip
    assert settings.to_dict()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", [
    pytest.param(command, marks=[pytest.mark.slow] if re.search(SLOW, command) else []) for command in commands()
])  # fmt: skip
def test_command_runs(command, directories, monkeypatch, tmp_path, capfd):
    program, *flags = (word for word in shlex.split(command)[1:] if word not in ("-m", "..."))
    flags = [*flags, *SIZES.get(program, [])]
    if program == "launch":
        grid = "--grid=seed=0:2"
        flags = [grid, "--workers=1", "--dashboard=0", f"--logs={tmp_path / 'logs'}", "--", sys.executable, "-c", "0"]
    if program == "report":
        assert run(["train.py", *FIT], monkeypatch) == 0
        out = f"--out={tmp_path / 'report.html'}"
        flags = [str(directories / "nn_dir") if flag == "FOLDER" else out if flag.startswith("--out") else flag
                 for flag in (flags or [out])]  # fmt: skip
    if program == "linearized.experiments.finetune":
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        model.save(tmp_path / "model.keras")
        flags.append(f"--model={tmp_path / 'model.keras'}")
    if program in (
        "launch",
        "linearized.experiments.compare",
    ):  # their children import the program, which must not be the test's
        done = subprocess.run([sys.executable, "-m", program, *flags], cwd=ROOT, capture_output=True, text=True,
                              timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return
    words = [program, *flags] if program.endswith(".py") else ["-m", program, *flags]
    code = run(words, monkeypatch)
    said = capfd.readouterr()
    assert code == 0, said.err
    assert "Traceback" not in said.err


def test_commands_are_found():
    assert len(commands()) >= 10
