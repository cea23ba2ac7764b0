"""Class names are unique over both packages, so that searching for one gives one definition."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("kernel_gen", "linearized")


def classes(source: str) -> list[str]:
    """Return the names of all classes that a module defines, nested ones included."""
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def repeated(sources: dict[str, str]) -> dict[str, list[str]]:
    """Return the class names that occur more than once, each with the files that define it."""
    found = defaultdict(list)
    for file, source in sources.items():
        for name in classes(source):
            found[name].append(file)
    return {name: files for name, files in found.items() if len(files) > 1}


def test_every_class_name_is_defined_once():
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > 200
    assert repeated({str(path.relative_to(ROOT)): path.read_text() for path in paths}) == {}


def test_a_name_defined_in_two_files_is_found():
    sources = {"a.py": "class Rows: pass", "b.py": "def f():\n    class Rows: pass", "c.py": "class Other: pass"}
    assert repeated(sources) == {"Rows": ["a.py", "b.py"]}
