"""Read lists and counts as flags write them: "all", "5", "0,4,9" or "3:8" of indices, "0.1,1,10" of values."""

import math

from linearized.base.errors import UserError

LONGEST = 10_000  # entries of a list


def listed_indices(text: str, size: int) -> list[int]:
    """Return the entries that a text names among `size`, sorted, each once; they may lie outside.

    Of a range that goes beyond the ends only its own first and last entry lie outside, so that no range costs memory.

    Args:
        text: "all", one index, indices with commas, ranges "start:stop" whose stop is left out.

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
    """Return the numbers of a list with commas, in its order.

    Args:
        name: The flag, as an error names it.
        least, most: Bounds of each number, both allowed.

    Raises `UserError` for what is not a number, out of bounds, or a list of more than `LONGEST` entries.
    """
    pieces = text.split(",")
    if len(pieces) > LONGEST:
        raise UserError(f"--{name} takes at most {LONGEST} numbers. Received: {len(pieces)}.")
    try:
        numbers = [float(piece) for piece in pieces]
    except ValueError as error:
        raise UserError(f"--{name} takes numbers such as 0.1,1,10. Received: {text[:60]!r}.") from error
    if not all(least <= number <= most for number in numbers):  # refuses NaN too
        raise UserError(f"--{name} must be finite, at least {least:g} and at most {most:g}. Received: {text[:60]!r}.")
    return numbers


def count_or_share(value: int | float, total: int, what: str) -> int:
    """A fraction below 1 of `total`, else a count; 0 stays 0. Raises `UserError` when no row would be left."""
    if not math.isfinite(value) or value < 0 or (value >= 1 and value != int(value)):
        raise UserError(f"--{what} takes a fraction below 1 or a whole count. Received: {value}.")
    count = round(value * total) if value < 1 else int(value)
    if count >= total > 0:
        raise UserError(f"--{what}={value:g} takes all of the {total} train rows. Leave at least one to train on.")
    if value > 0 and count == 0:
        raise UserError(f"--{what}={value:g} of {total} rows is none. Give a larger fraction or a count.")
    return count
