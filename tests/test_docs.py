"""Commands of docs/*.md are read, and those of the pages in RUN are run, with their Python, as they stand."""

import re
import shlex
from pathlib import Path

import pytest

from linearized.cli import main

ROOT = Path(__file__).resolve().parent.parent
RUN = ["feature_machines.md"]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", RUN)
def test_the_commands_and_the_python_of_a_page_run(page, directories, capsys):
    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert commands
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "linearized" and main(words[1:]) == 0, capsys.readouterr().err
    for code in blocks(page, "python"):
        exec(code, {"__name__": "page"})


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_links_of_a_page_exist(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target
