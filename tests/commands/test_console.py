"""The console command: its subcommands, its help, and that the scripts are the same code."""

import contextlib
import importlib
import importlib.metadata
import io
import subprocess
import sys
from pathlib import Path

import pytest

from linearized.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def run(*words):
    """The exit code of `linearized WORDS`, what it printed, and what it wrote on stderr."""
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        code = main(words)
    return code, printed.getvalue(), said.getvalue()


def test_help_lists_every_subcommand_within_80_columns():
    code, printed, _ = run("--help")
    assert code == 0
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert max(map(len, printed.splitlines())) <= 80 + 20
    assert run()[0] == 2


def test_every_module_of_the_package_is_listed():
    modules = {path.stem for path in (ROOT / "linearized" / "cli").glob("*.py")} - {"__init__"}
    assert modules == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_subcommand_has_help_and_refuses_unknown_flags(name):
    code, printed, _ = run(name, "--help")
    assert code == 0 and "--" in printed
    code, _, said = run(name, "--no_such_flag=1")
    assert code == 2 and "Unknown flag '--no_such_flag'" in said


def test_help_imports_nothing_that_takes_long():
    slow = ("jaxtyping", "scipy", "pandas", "sklearn", "matplotlib", "keras", "jax", "numba", "importlib.metadata")
    code = (
        "import sys; from linearized.cli import COMMANDS, main\n"
        "for name in COMMANDS: main([name, '--help'])\n"
        f"print([name for name in {slow} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == "[]\n"


def test_an_unknown_subcommand_suggests_the_nearest():
    code, _, said = run("trian")
    assert code == 2 and "Did you mean train?" in said


def test_the_version_is_that_of_the_distribution():
    assert run("--version")[1].strip() == importlib.metadata.version("linearized")


@pytest.mark.parametrize(
    "script, name",
    [
        (["train.py"], "train"),
        (["kernel_fit.py"], "krr"),
        (["-m", "kernel_gen"], "gram"),
        (["-m", "kernel_gen.embed"], "embed"),
        (["-m", "kernel_gen.status"], "status"),
    ],
)
def test_scripts_and_subcommands_are_the_same_code(script, name):
    done = subprocess.run([sys.executable, *script, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == run(name, "--help")[:2]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_module_of_a_subcommand_is_the_subcommand(name):
    module = importlib.import_module(f"linearized.cli.{name}")
    done = subprocess.run(
        [sys.executable, "-m", module.__name__, "--nonsense=1"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "--nonsense" in done.stderr


@pytest.mark.parametrize("words, said", [
    (("status", "--verify_rows=7"), "--verify_rows is read with --verify."),
    (("status", "--verify_seed=7"), "--verify_seed is read with --verify."),
    (("reproduce", "--dry_run", "--out=x"), "--out is read with --dry_run=False."),
])  # fmt: skip
def test_flags_that_another_flag_needs_are_refused_without_it(words, said):
    code, printed, told = run(*words)
    assert (code, printed) == (2, "") and said in told


def test_importing_the_package_loads_no_framework():
    code = (
        "import sys, linearized; print([n for n in ('numpy', 'keras', 'jax', 'numba') if n in sys.modules]);"
        "print(linearized.load('DIGITS', num_train=10).train.x.shape, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n(10, 64) False\n"


def test_public_names_are_there():
    import linearized

    assert all(getattr(linearized, name) is not None for name in linearized.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = linearized.no_such_name


@pytest.mark.parametrize("name", ["compare", "krr", "theory", "train"])
def test_a_function_of_the_package_runs_as_a_module_and_stays_a_function(name):
    """`python -m linearized.train` is the command, and an import of that name hides no function."""
    probe = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--no_such_flag=1']\n"
        f"try: runpy.run_module('linearized.{name}', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 2\n"
        f"import linearized.{name}\n"
        f"from linearized import {name}\n"
        f"assert callable(linearized.{name}) and linearized.{name} is {name}\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no_such_flag" in done.stderr
