"""Grids of flags: one command per combination of values, in the order of a nested loop."""

import itertools
import math
from collections.abc import Sequence

from linearized.base.errors import UserError

Command = tuple[str, ...]
MOST = 100_000  # largest number of commands of one launch


def combinations(words: Command, axes: Sequence[str]) -> list[Command]:
    """Return one command for each combination of the axes' values, which are appended to `words` as flags.

    The last axis varies fastest.

    Args:
        words: Command line that the flags are appended to.
        axes: Axes such as "noise_ind=0:15" (0 to 14), "noise_ind=0:15:2", "model=RF,NT,NN" or, for values that contain
            commas, "reg_index=0,4;5,9". Two flags that vary together form one axis: "model,num_units=RF,4096;NT,256".

    Raises:
        UserError: For an axis that does not have this form, for a flag that is given twice, and for more than 100,000
            commands.
    """
    named = [_axis(text) for text in axes]
    if (count := math.prod(len(values) for _, values in named)) > MOST:
        raise UserError(f"--grid={', '.join(axes)[:60]} makes {count} commands; at most {MOST} are planned at once.")
    names = [name for flags, _ in named for name in flags]
    given = {word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")}
    if twice := sorted({name for name in names if names.count(name) > 1} | (given & set(names))):
        raise UserError(f"--{twice[0]} is given twice: in a --grid and in another one, or in the command.")
    return [
        (*words, *(f"--{name}={value}" for name, value in zip(names, itertools.chain(*choice), strict=True)))
        for choice in itertools.product(*(values for _, values in named))
    ]


def _axis(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the flags of an axis, and one list of their values for each step of the axis.

    Args:
        text: The axis, such as "model,num_units=RF,4096;NT,256".

    Raises:
        UserError: For a text that does not have the form of an axis.
    """
    left, equals, right = text.partition("=")
    names = [name.strip().lstrip("-") for name in left.split(",")]
    if not equals or not all(name.isidentifier() for name in names) or not right.strip():
        raise UserError(f"--grid takes flag=values, such as noise_ind=0:15 or model=RF,NT. Received: {text!r}.")
    if ";" in right:
        values = [piece.strip() for piece in right.split(";") if piece.strip()]
    else:
        values = (
            _range(right, text) if ":" in right and len(names) == 1 else [piece.strip() for piece in right.split(",")]
        )
    together = [[value] if len(names) == 1 else [part.strip() for part in value.split(",")] for value in values]
    for parts in together:
        if len(parts) != len(names) or not all(parts):
            raise UserError(f"--grid={text}: each value needs {len(names)} parts for {left}. Received: {parts}.")
    if len({tuple(parts) for parts in together}) < len(together):
        raise UserError(f"--grid={text} names a value twice.")
    return names, together


def _range(right: str, text: str) -> list[str]:
    """Return the integers of start:stop or start:stop:step, without the stop, as texts.

    A text whose part before the first colon is not a number, such as a URL, is split at commas and returned as values.

    Raises `UserError` if it starts with a number but is no range, or if the range is empty or has more than 100,000
    values.

    Args:
        right: Part of the axis after the equals sign.
        text: The whole axis, used in error messages.
    """
    try:
        numbers = range(*(int(part) for part in right.split(":")))
    except (ValueError, TypeError) as error:
        if any(part.strip("- ").isdigit() for part in right.split(":")[:1]):
            raise UserError(f"--grid={text}: a range is start:stop or start:stop:step of integers.") from error
        return [piece.strip() for piece in right.split(",")]
    if not numbers:
        raise UserError(f"--grid={text} holds no value.")
    count = 1 + (numbers[-1] - numbers[0]) // numbers.step  # len() fails for ranges longer than a machine word
    if count > MOST:
        raise UserError(f"--grid={text[:60]} holds {count} values; at most {MOST} are planned at once.")
    return [str(number) for number in numbers]
