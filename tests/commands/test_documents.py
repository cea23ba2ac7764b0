"""Every command that CHANGELOG, CONTRIBUTING and docs show is run at a small size; its flags are also read alone."""

import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from linearized.cli import main
from linearized.settings.config import parse

ROOT = Path(__file__).resolve().parents[2]
ROWS = ["--num_train=40", "--num_test=20"]
FIT = [*ROWS, "--num_units=4", "--max_cg_iters=2", "--validation=0.2"]
SETTINGS = {
    "train.py": "linearized.experiments.train:TrainSettings",
    "kernel_fit.py": "linearized.experiments.krr:KernelFitSettings",
    "kernel_gen": "kernel_gen.jobs.gram_job:GramJobSettings", "kernel_gen.embed": "kernel_gen.embed:EmbedSettings",
    "gram": "kernel_gen.jobs.gram_job:GramJobSettings",
    "train": "linearized.experiments.train:TrainSettings", "krr": "linearized.experiments.krr:KernelFitSettings",
    "theory": "linearized.experiments.theory_settings:TheorySettings",
    "compare": "linearized.experiments.compare:CompareSettings",
    "finetune": "linearized.experiments.finetune_settings:FinetuneSettings",
    "launch": "linearized.launch.launch_settings:LaunchSettings", "report": "linearized.cli.report:ReportSettings",
    "reproduce": "linearized.report.reproduce:ReproduceSettings", "data": "linearized.cli.data:ShowDataSettings",
    "status": "kernel_gen.status:StatusSettings", "linearized.train": "linearized.experiments.train:TrainSettings",
}  # fmt: skip
NEEDED = {"finetune": ["--model=a.keras", "--data=b"]}
SIZES = {
    "train.py": FIT, "kernel_fit.py": ROWS, "kernel_gen": ROWS, "kernel_gen.embed": [*ROWS, "--embedding_dim=32"],
    "compare": [*ROWS, "--num_units=4", "--models=RF,NT", "--max_cg_iters=2"],
    "finetune": ["--dataset=DIGITS", *ROWS, "--epochs=1"], "train": FIT, "krr": ROWS, "linearized.train": FIT,
    "gram": ["--dataset=PATCHES", *ROWS], "theory": [*ROWS, "--sizes=10,13"],
    "reproduce": ["--figure=synth_kappa", "--dry_run"],
}  # fmt: skip
SLOW = r"launch|compare|finetune|train|kernel_fit|krr|theory|noise_ind|--out"  # others are run in seconds


def commands():
    files = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    lines = {line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line}
    inline = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = re.findall(r"`((?:python (?:-m )?[\w.]+|linearized \w+)[^`]*)`", inline)
    return sorted(lines | {" ".join(command.split()) for command in found})


def run(words, monkeypatch):
    """Run a command of the suite in this process and return its exit code."""
    monkeypatch.chdir(ROOT)
    if words[0] == "linearized":
        return main(words[1:])
    module = words[1] == "-m"
    monkeypatch.setattr(sys, "argv", words[2:] if module else words[1:])
    with pytest.raises(SystemExit) as ended:
        (runpy.run_module if module else runpy.run_path)(sys.argv[0], run_name="__main__")
    return ended.value.code or 0


@pytest.mark.parametrize("command", commands())
def test_flags_of_a_command_are_read(command):
    words = [word for word in shlex.split(command)[1:] if word != "-m"]
    program = words[0]
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
    words = [word for word in shlex.split(command) if word != "..."]
    program = words[2] if words[1] == "-m" else words[1]
    words += SIZES.get(program, [])
    if program == "report":
        assert run(["python", "train.py", *FIT], monkeypatch) == 0
        out = f"--out={tmp_path / 'report.html'}"
        words = [str(directories / "nn_dir") if word == "FOLDER" else word for word in words]
        words = [*(word for word in words if not word.startswith("--out")), out]
    if program == "finetune":
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        model.save(tmp_path / "model.keras")
        words.append(f"--model={tmp_path / 'model.keras'}")
    if program == "launch":
        flags = ["--grid=seed=0:2", "--workers=1", "--dashboard=0", f"--logs={tmp_path / 'logs'}"]
        words = ["linearized", "launch", *flags, "--", sys.executable, "-c", "0"]
    if program in ("launch", "compare"):  # their children import the program, which must not be the test's
        done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return
    code = run(words, monkeypatch)
    said = capfd.readouterr()
    assert code == 0, said.err
    assert "Traceback" not in said.err


def test_commands_are_found():
    assert len(commands()) >= 10
