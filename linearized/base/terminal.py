"""Tables and lines that fit the width of the terminal: columns are left out by rank, and numbers are never truncated.

Output to a file or a pipe has no width limit: each row is one line with all columns.
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

from linearized.base.directories import WRITTEN

WORD = 18  # length in terminal cells above which a word of a text column may be broken
UNLIMITED = 10_000  # width, in cells, of output without a width limit


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: Heading of the column.
        cells: Text of each row's cell.
        rank: Columns of the highest rank are left out first in a narrow terminal; those of rank 0 never are.
        text: Whether the cells are words, which may wrap; otherwise they are numbers, right-aligned on one line.
    """

    title: str
    cells: Sequence[str]
    rank: int = 0
    text: bool = False

    @property
    def narrowest(self) -> int:
        """Smallest width, in characters of the terminal, that truncates no number and no word of the title."""
        title = max(map(cell_len, self.title.split()), default=1)
        if not self.text:
            return max(title, *map(cell_len, self.cells), 1)
        words = [word for cell in self.cells for word in cell.split()]
        return max(title, min(max(map(cell_len, words), default=1), WORD))

    @property
    def widest(self) -> int:
        """Width, in characters of the terminal, at which the title and every cell fit on one line."""
        return max(cell_len(self.title), *map(cell_len, self.cells), 1)


def width_of(console: Console) -> int:
    """Return the maximum width of the output in characters: the terminal's, or `UNLIMITED` for a file or a pipe."""
    return console.width if console.is_terminal else UNLIMITED  # COLUMNS is no sign of a terminal: readline exports it


def layout(columns: Sequence[Column], width: int) -> dict[int, int] | None:
    """Choose the columns of a table that fit, and their widths.

    Args:
        columns: Columns of the table.
        width: Width of the output in characters.

    Returns: Width in characters of each displayed column, by its index in `columns`; None if not even the columns of
        rank 0 fit.
    """
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
    return sum(widths.values()) + 3 * len(widths) + 1  # two blanks and a rule for each column, and the closing rule


def print_columns(
    title: str, columns: Sequence[Column], *, styles: Sequence[str] = (), console: Console | None = None
) -> Console:
    """Print a title, a table that fits the terminal, and the names of the columns that were left out.

    If not even the columns of rank 0 fit side by side, each row is printed as a list of its cells.

    Args:
        title: Text above the table; an empty title is not printed.
        columns: Columns of the table, all of the same length.
        styles: Rich style of each row; empty for plain rows.
        console: Console to print to; None for standard output.

    Returns: The console that was used.
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
    """Format a table as lines of at most `width` characters, without rules between rows and columns.

    The first line has the titles. If the table is wider than `width`, columns of the highest rank are left out first.
    """
    shown = layout(columns, width) or {0: width}
    lines = []
    for row in [[column.title for column in columns], *zip(*(column.cells for column in columns), strict=True)]:
        cells = {place: textwrap.wrap(row[place], shown[place]) or [""] for place in shown}
        for number in range(max(map(len, cells.values()))):
            parts = [(cell[number] if number < len(cell) else "").ljust(shown[place]) for place, cell in cells.items()]
            lines.append("  ".join(parts).rstrip())
    return lines


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Wrap a text between words into lines of at most `width` characters, each of which begins with `indent`.

    A word longer than the width, such as a path, is not broken.
    """
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, initial_indent=indent,
                         subsequent_indent=indent)  # fmt: skip


def say(text: str, console: Console | None = None, *, indent: str = "") -> None:
    """Print a text, wrapped between words to the width of the console (by default standard output).

    Args:
        text: Text to print.
        console: Console to print to; None for standard output.
        indent: Text at the beginning of each line.
    """
    console = console or Console()
    lines = wrapped(text.strip(), width_of(console), indent)
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def say_written(path: Path | str, console: Console | None = None) -> None:
    """Print the path of a result. On a terminal, a path inside the working folder is printed relative to it."""
    console = console or Console()
    path = Path(path)
    if console.is_terminal and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    text = f"{WRITTEN}{path}"
    if cell_len(text) > width_of(console):
        text = f"written to\n{path}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def shell_lines(words: Sequence[str], width: int) -> str:
    """Return a quoted shell command, continued with backslashes on new lines where it exceeds `width` characters."""
    lines = [""]
    for word in map(shlex.quote, words):
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width - 2:
            lines.append("    " + word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)
