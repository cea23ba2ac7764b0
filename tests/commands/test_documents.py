"""The flags of every command that CHANGELOG and CONTRIBUTING show are read as the command reads them."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from data.config import parse

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "train.py": "linearized.train:Config", "kernel_fit.py": "linearized.kernel_fit:Config",
    "kernel_gen": "kernel_gen.generate:Config", "kernel_gen.embed": "kernel_gen.embed:Config",
    "linearized.compare": "linearized.compare:Config", "linearized.finetune": "linearized.finetune:Config",
    "launch": "launch.settings:LaunchSettings", "report": "report.__main__:Config",
    "report.reproduce": "report.reproduce:Config", "data": "data.__main__:Config",
}  # fmt: skip
NEEDED = {"linearized.finetune": ["--model=a.keras", "--data=b"]}
RUN_AS_SCRIPT = {"linearized.train": "train.py", "linearized.kernel_fit": "kernel_fit.py"}


def commands():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CONTRIBUTING.md"))
    return sorted({" ".join(found.split()) for found in re.findall(r"`(python (?:-m )?[\w.]+[^`]*)`", text)})


@pytest.mark.parametrize("command", commands())
def test_flags_of_a_command_are_read(command):
    words = [word for word in shlex.split(command)[1:] if word != "-m"]
    program = RUN_AS_SCRIPT.get(words[0], words[0])
    module, _, name = SETTINGS[program].partition(":")
    flags = [word.replace("flag=values", "seed=0:2") for word in words[1:] if word != "..."]
    settings = parse(getattr(importlib.import_module(module), name), [*NEEDED.get(program, []), *flags],
                     words="directory" if program == "report" else "")  # fmt: skip
    assert settings.to_dict()


def test_commands_are_found():
    assert len(commands()) >= 5
