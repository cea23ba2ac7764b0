"""Class names are unique over both packages, so that searching for one gives one definition."""

import ast
from collections import defaultdict
from pathlib import Path

from linearized.models import MODELS

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


def test_names_of_models_stand_in_their_module_and_the_registry_alone():
    """What is true of one model is declared in its module, so that a new model touches no other file."""
    names = set(MODELS) - {"RF"}  # RF is also a kernel
    own = {ROOT / f"{path.replace('.', '/')}.py" for path in MODELS._paths.values()}
    allowed = own | {ROOT / "linearized/models/__init__.py"}
    paths = [path for path in sorted((ROOT / "linearized").rglob("*.py")) if path.parent.name != "recipes"]
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        if path not in allowed
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert found == set()


def test_a_name_defined_in_two_files_is_found():
    sources = {"a.py": "class Rows: pass", "b.py": "def f():\n    class Rows: pass", "c.py": "class Other: pass"}
    assert repeated(sources) == {"Rows": ["a.py", "b.py"]}
