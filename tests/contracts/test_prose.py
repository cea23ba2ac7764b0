"""Docstrings, comments and pages have none of the expressions that readers stumbled over; each has what to write."""

import ast
import functools
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(path for folder in ("linearized", "kernel_gen") for path in (ROOT / folder).rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXPRESSIONS = {
    r"\bere\b": "before",
    r"\banew\b": "again, from scratch",
    r"\btwo roads\b|\bboth roads\b|\bby (?:two|both) roads\b": "ways, methods",
    r"\bthe evidence\b(?! of a trial)": "diagnostics",
    r"\bprove(?:s)? nothing\b": "say what is not shown",
    r"\bhouse style\b": "leave out",
    r"\bthinks? alike\b": "describe the property",
    r"\bsmall change\b": "describe the size",
    r"\bfor it (?:grows|falls|is)\b": "because it",
    r"\bnor (?:does|is) it\b.*\beither\b": "one negation",
}


@functools.cache
def all_prose():
    return [(path.relative_to(ROOT), part) for path in [*CODE, *PAGES] for part in prose(path)]


def prose(path):
    """Yield the docstrings and comments of a module, or the text of a page outside of its blocks of code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (docstring := ast.get_docstring(node)):
            yield docstring
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_prose_has_none_of_the_expressions_that_readers_stumbled_over(expression):
    found = [
        f"{path}: {match[0]}" for path, part in all_prose() for match in re.finditer(expression, part, re.IGNORECASE)
    ]
    assert not found, f"write: {EXPRESSIONS[expression]}"


def test_the_check_reads_docstrings_and_comments(tmp_path):
    (tmp_path / "module.py").write_text('"""Read ere long."""\nVALUE = 1  # made anew\n')
    assert list(prose(tmp_path / "module.py")) == ["Read ere long.", "# made anew"]
