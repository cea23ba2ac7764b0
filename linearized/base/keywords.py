"""Checks of keyword arguments of public functions: an unknown one is refused and the nearest name is suggested."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from linearized.base.errors import UserError, shown
from linearized.base.nearest import hint

Function = TypeVar("Function", bound=Callable[..., Any])


class UnknownKeyword(UserError, TypeError):
    """An error for a keyword that a function does not take: both a `UserError` and the usual TypeError of Python."""


def refuse_unknown(given: Iterable[str], known: Iterable[str], call: str, more: str = "") -> None:
    """Raise `UnknownKeyword` for the first keyword that is not known, and suggest the nearest known one.

    Args:
        given: Names of the keywords that were passed.
        known: Names of the keywords that the function takes.
        call: Name of the function in the error message.
        more: One sentence for the end of the message, such as a list of the known keywords.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise UnknownKeyword(f"{call} has no argument {shown(name)}.{hint(name, known)} {more}".rstrip())


def suggests_keywords(function: Function) -> Function:
    """Decorate a function so that an unknown keyword raises `UnknownKeyword`, which suggests the nearest known one.

    The signature of the function is kept.
    """
    known = [name for name, one in inspect.signature(function).parameters.items()
             if one.kind is not one.POSITIONAL_ONLY]  # fmt: skip

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        refuse_unknown(keywords, known, f"{function.__name__}()", f"It has: {', '.join(known)}.")
        return function(*args, **keywords)

    return call
