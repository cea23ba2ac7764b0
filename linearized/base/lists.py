"""Parsing of lists and counts in flags: indices "all", "5", "0,4,9" or "3:8", and values "0.1,1,10"."""

import math

from linearized.base.errors import UserError

LONGEST = 10_000  # largest number of entries of a list


def listed_indices(text: str, size: int) -> list[int]:
    """Return the sorted, distinct indices that a text lists, such as [0, 4, 9] for "0,4,9" or [3, 4, 5] for "3:6".

    The caller has to refuse indices outside of 0 to `size` - 1. To save memory, a range that extends beyond these
    limits is shortened: only its indices within the limits and its first and last index are returned.

    Args:
        text: "all", one index, indices separated by commas, or ranges "start:stop" that exclude stop.
        size: Number of indices that exist, to which "all" and ranges without a stop refer.

    Raises ValueError for a text of another form.
    """
    if text == "all":
        return list(range(size))
    indices: set[int] = set()
    for piece in text.split(","):
        start, colon, stop = piece.partition(":")
        if not colon:
            indices.add(int(piece))
        elif (first := int(start or 0)) < (last := int(stop or size)):
            indices |= {first, *range(max(first, 0), min(last, size)), last - 1}
    return sorted(indices)


def listed_numbers(text: str, name: str, *, least: float, most: float) -> list[float]:
    """Return the numbers of a comma-separated list as floats, in the order of the list.

    Args:
        text: The list, such as "0.1,1,10".
        name: Name of the flag in error messages.
        least: Lower bound of each number, inclusive.
        most: Upper bound of each number, inclusive.

    Raises `UserError` for an entry that is not a number or is out of bounds, and for more than `LONGEST` entries.
    """
    pieces = text.split(",")
    if len(pieces) > LONGEST:
        raise UserError(f"--{name} takes at most {LONGEST} numbers. Received: {len(pieces)}.")
    try:
        numbers = [float(piece) for piece in pieces]
    except ValueError as error:
        raise UserError(f"--{name} takes numbers such as 0.1,1,10. Received: {text[:60]!r}.") from error
    if not all(least <= number <= most for number in numbers):  # also refuses NaN
        raise UserError(f"--{name} must be finite, at least {least:g} and at most {most:g}. Received: {text[:60]!r}.")
    return numbers


def count_or_share(value: int | float, total: int, what: str) -> int:
    """Convert the value of a flag that is a fraction or a count of train rows to a number of rows.

    Args:
        value: A fraction of `total` if it is below 1, otherwise a whole count; 0 gives 0.
        total: Number of train rows.
        what: Name of the flag in error messages.

    Raises `UserError` for other values, for all of the rows or more, and for a positive fraction that rounds to no row.
    """
    if not math.isfinite(value) or value < 0 or (value >= 1 and value != int(value)):
        raise UserError(f"--{what} takes a fraction below 1 or a whole count. Received: {value}.")
    count = round(value * total) if value < 1 else int(value)
    if count >= total > 0:
        raise UserError(f"--{what}={value:g} takes all of the {total} train rows. Leave at least one to train on.")
    if value > 0 and count == 0:
        raise UserError(f"--{what}={value:g} of {total} rows is none. Give a larger fraction or a count.")
    return count
