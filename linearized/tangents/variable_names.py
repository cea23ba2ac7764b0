"""Functions that choose variables of a Keras model by parts of their paths, such as "dense_1,head" or "-embedding".

A path has parts that are separated by "/". A name selects every variable whose path contains the name as one or more
whole parts: "dense_1" and "kernel" both select "dense_1/kernel", but "dense" selects neither "dense_1/kernel" nor
"my_dense/kernel". "*" matches any text within a part. A leading "-" excludes the variables of a name from those that
names without "-" select, or from all variables if there is no name without "-".
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from linearized.base.errors import UserError

MOST_PATHS = 12  # largest number of paths that an error message lists


def listed_names(text: str) -> tuple[list[str], list[str]]:
    """Return the names in a text that select variables, and those that exclude variables (without their "-").

    Args:
        text: Names, separated by commas.

    Raises:
        UserError: For an empty name.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(name.strip("-/ ") for name in names):
        raise UserError("--variables takes parts of the paths of variables with commas, such as dense_1,head/kernel or "
                        f"-embedding. Received: {text[:60]!r}.")  # fmt: skip
    return [name for name in names if name[0] != "-"], [name[1:] for name in names if name[0] == "-"]


def chosen_by_name(text: str, paths: Iterable[str]) -> Callable[[Any], bool]:
    """Return a function of a variable that returns whether the names in a text select it.

    Args:
        text: Names, separated by commas, see the module's docstring.
        paths: Paths of the trainable variables.

    Raises:
        UserError: For a name that matches none of the paths, and if no variable is left.
    """
    chosen, left_out = listed_names(text)
    paths = list(paths)
    for name in (*chosen, *left_out):
        if not any(_stands_for(name, path) for path in paths):
            more = f" and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else ""
            raise UserError(f"--variables: no trainable variable has the name {name!r} in its path. They are: "
                            f"{', '.join(paths[:MOST_PATHS])}{more}.")  # fmt: skip
    taken = {
        path for path in paths
        if (not chosen or any(_stands_for(name, path) for name in chosen))
        and not any(_stands_for(name, path) for name in left_out)
    }  # fmt: skip
    if not taken:
        raise UserError(f"--variables={text} leaves no trainable variable out of {len(paths)}.")
    return lambda variable: variable.path in taken


def _stands_for(name: str, path: str) -> bool:
    pattern = "[^/]*".join(re.escape(piece) for piece in name.strip("/").split("*"))
    return re.search(f"(^|/){pattern}(/|$)", path) is not None
