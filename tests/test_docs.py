"""The pages of docs: their links, commands and Python, and the site that is built of them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from linearized.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = {str(path.relative_to(ROOT / "docs")): path for path in sorted((ROOT / "docs").rglob("*.md"))
         if "_build" not in path.parts}  # fmt: skip
AS_THEY_STAND = ["feature_machines.md"]  # pages whose commands are small enough; tests/test_readme.py has the guides


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", AS_THEY_STAND)
def test_commands_of_a_page_run_as_they_stand(page, directories, capsys):
    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert commands
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "linearized" and main(words[1:]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_of_a_page_runs(page, directories):
    for code in blocks(page, "python"):
        exec(code, {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_exist(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGES[page].read_text(encoding="utf-8")):
        assert (PAGES[page].parent / target).exists(), target


def test_every_public_name_has_an_entry_in_the_reference():
    import linearized

    reference = "".join(text.read_text(encoding="utf-8") for name, text in PAGES.items() if name.startswith("api/"))
    missing = [name for name in linearized.__all__ if not re.search(rf"\b{name}\b", reference)
               and f"automodule:: {linearized._HOMES[name]}\n" not in reference]  # fmt: skip
    assert not missing


def test_the_site_is_built_without_warnings_and_loads_nothing_from_a_network(tmp_path):
    pytest.importorskip("sphinx")
    built = subprocess.run([sys.executable, str(ROOT / "docs" / "build.py"), str(tmp_path)],
                           capture_output=True, text=True, timeout=500)  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "<math" in (tmp_path / "mathematics.html").read_text(encoding="utf-8")
    assert "empirical_ntk" in (tmp_path / "api" / "tangents.html").read_text(encoding="utf-8")


def test_a_page_that_loads_from_a_network_is_found(tmp_path):
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from build import loaded_from_elsewhere
    finally:
        sys.path.pop(0)
    (tmp_path / "page.html").write_text('<a href="https://example.org">link</a><script src="https://example.org/x.js">')
    assert len(loaded_from_elsewhere(tmp_path)) == 1
