"""Tables and lines that fit the terminal: columns are left out by rank, and a number is never cut.

Output that is no terminal, such as a file or a pipe, has no width and gets every column on one line for each row.
"""

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

WORD = 18  # cells of a terminal: longer words of text columns may be broken
UNLIMITED = 10_000  # the width of output that has none


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        rank: 0 is never left out; where the terminal is narrow, columns of higher rank go first.
        text: The cells are words, which may continue on the next line; else they are numbers, right-aligned and whole.
    """

    title: str
    cells: Sequence[str]
    rank: int = 0
    text: bool = False

    @property
    def narrowest(self) -> int:
        """The width below which a number, or a word of the title, would be cut."""
        title = max(map(cell_len, self.title.split()), default=1)
        if not self.text:
            return max(title, *map(cell_len, self.cells), 1)
        words = [word for cell in self.cells for word in cell.split()]
        return max(title, min(max(map(cell_len, words), default=1), WORD))

    @property
    def widest(self) -> int:
        """The width beyond which nothing is gained."""
        return max(cell_len(self.title), *map(cell_len, self.cells), 1)


def width_of(console: Console) -> int:
    """Return the width to keep to, in cells: that of a terminal, else `UNLIMITED`."""
    return console.width if console.is_terminal else UNLIMITED  # COLUMNS alone says nothing: readline exports it


def layout(columns: Sequence[Column], width: int) -> dict[int, int] | None:
    """Return the width of each column that is shown, by its position; None where no table fits."""
    shown = {place: column.narrowest for place, column in enumerate(columns)}
    while _outer(shown) > width:
        place = max(shown, key=lambda place: (columns[place].rank, place))
        if columns[place].rank == 0:
            return None
        del shown[place]
    spare = width - _outer(shown)
    for place in sorted(shown, key=lambda place: not columns[place].text):  # text first, then titles on one line
        more = min(spare, columns[place].widest - shown[place])
        shown[place] += more
        spare -= more
    return shown


def _outer(widths: dict[int, int]) -> int:
    return sum(widths.values()) + 3 * len(widths) + 1  # two blanks and a line for each column, and the last line


def print_columns(
    title: str, columns: Sequence[Column], *, styles: Sequence[str] = (), console: Console | None = None
) -> Console:
    """Print a title and a table no wider than the terminal, and below it the names of the columns that were left out.

    Where not even the columns of rank 0 fit beside each other, each row is printed as a list of its cells.

    Args:
        styles: Rich's style of each row; none: plain.
    """
    console = console or Console()
    width = width_of(console)
    shown = layout(columns, width)
    rows = list(zip(*(column.cells for column in columns), strict=True))
    if title:
        say(title, console)
    if shown is None:
        for row in rows:
            say(", ".join(f"{column.title}: {cell}" for column, cell in zip(columns, row, strict=True)), console)
        return console
    table = Table()
    for place, cells in shown.items():
        side = "left" if columns[place].text else "right"
        table.add_column(Text(columns[place].title), justify=side, width=cells, overflow="fold")
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        table.add_row(*(Text(row[place]) for place in shown), style=style)
    if width == UNLIMITED:
        console.width = UNLIMITED
    console.print(table, no_wrap=True, overflow="crop")
    left_out = [column.title for place, column in enumerate(columns) if place not in shown]
    if left_out:
        say(f"left out for lack of width: {', '.join(left_out)}", console)
    return console


def plain_lines(columns: Sequence[Column], width: int) -> list[str]:
    """Return a table without rules as lines, no wider than `width`; columns are left out as in `print_columns`."""
    shown = layout(columns, width) or {0: width}
    lines = []
    for row in [[column.title for column in columns], *zip(*(column.cells for column in columns), strict=True)]:
        cells = {place: textwrap.wrap(row[place], shown[place]) or [""] for place in shown}
        for number in range(max(map(len, cells.values()))):
            parts = [(cell[number] if number < len(cell) else "").ljust(shown[place]) for place, cell in cells.items()]
            lines.append("  ".join(parts).rstrip())
    return lines


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return text as lines broken between words; a word longer than the width, such as a path, stays whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, initial_indent=indent,
                         subsequent_indent=indent)  # fmt: skip


def say(text: str, console: Console | None = None, *, indent: str = "") -> None:
    """Print text as the lines of `wrapped`."""
    console = console or Console()
    lines = wrapped(text.strip(), width_of(console), indent)
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def say_written(path: Path | str, console: Console | None = None) -> None:
    """Print where a result lies; on a terminal relative to the working folder, if it lies there."""
    console = console or Console()
    path = Path(path)
    if console.is_terminal and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    text = f"written to {path}"
    if cell_len(text) > width_of(console):
        text = f"written to\n{path}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def shell_lines(words: Sequence[str], width: int) -> str:
    """Return a command for the shell, continued with backslashes where it is longer than `width`."""
    lines = [""]
    for word in map(shlex.quote, words):
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width - 2:
            lines.append("    " + word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)
