"""Build the documentation into docs/_build/html; check its references and that no page loads from a network.

Usage: python docs/build.py
"""

import re
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
LOADED = re.compile(r'<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')


def loaded_from_elsewhere(folder: Path) -> list[str]:
    """Return the parts of the pages of a folder that a browser would load from a network."""
    pages = sorted(folder.rglob("*.html"))
    return [
        f"{page.relative_to(folder)}: {found}" for page in pages for found in LOADED.findall(page.read_text("utf-8"))
    ]


def main(out: Path) -> int:
    """Build the site into `out` and return the exit code."""
    failed = build_main(["-q", "-W", "--keep-going", "-b", "html", str(HERE), str(out)])
    foreign = loaded_from_elsewhere(out)
    for one in foreign:
        print(f"not offline: {one}", file=sys.stderr)
    return failed or bool(foreign)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "_build" / "html"))
