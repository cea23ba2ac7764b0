"""Run the commands that are files of the repository from the modules that hold their logic."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_script(name: str) -> None:
    """Run a file of the repository as the program, with this program's arguments; it ends the process.

    Such a file draws pictures, which this package cannot. An installation without the repository's folder has no such
    file: one line says so, with exit code 2.
    """
    path = ROOT / name
    if not path.is_file():
        sys.exit(_fail(f"{path} is not there. Run this in the repository's folder: python {name} ..."))
    sys.path.insert(0, str(ROOT))
    runpy.run_path(str(path), run_name="__main__")


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
