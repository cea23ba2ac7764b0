"""Examples in docstrings run and give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernel_gen", "linearized")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if ">>> " in path.read_text()
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_show(name, directories, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINEARIZED_STORAGE", str(tmp_path / "storage"))
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0 and failed == 0


def test_the_examples_are_those_of_the_reference():
    """At least one example on each page of the reference."""
    for page in (ROOT / "docs" / "api").glob("*.md"):
        shown = [module for module in MODULES if module in page.read_text()]
        assert shown or page.name == "index.md", page.name
