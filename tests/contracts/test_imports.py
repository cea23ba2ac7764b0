"""No module imports itself through others, whether at module level, within functions or for type checking."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("kernel_gen", "linearized")


def module_name(path: Path) -> str:
    """Return the dotted name of a file within the repository; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, modules: set[str]) -> set[str]:
    """Return which of `modules` a source imports, wherever the statement stands.

    `from package import name` counts as the module `package.name` where there is one, else as the package.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & modules) | ({node.module} if whole - modules else set())
    return found & modules


def cycle(sources: dict[str, str]) -> list[str]:
    """Return the modules of one import cycle, the first one repeated at the end; empty if there is none."""
    graph = {name: imports(source, set(sources)) - {name} for name, source in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_import_cycles():
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    sources = {module_name(path): path.read_text() for path in paths}
    assert len(sources) > 200 and "linearized.data.dataset" in sources
    assert cycle(sources) == []


@pytest.mark.parametrize(
    "statement", ["import a", "from a import x", "def f():\n    import a", "if typing.TYPE_CHECKING:\n    import a"]
)
def test_a_cycle_is_found_wherever_the_import_stands(statement):
    assert set(cycle({"a": "from b import y", "b": statement, "c": "import a"})) == {"a", "b"}
    assert cycle({"a": "from b import y", "b": "import c", "c": ""}) == []
