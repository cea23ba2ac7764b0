"""Keyword arguments of public functions: an unknown one is refused with the nearest name, as an unknown flag is."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from linearized.base.errors import UserError, shown
from linearized.base.nearest import hint

Function = TypeVar("Function", bound=Callable[..., Any])


class UnknownKeyword(UserError, TypeError):
    """A keyword that a function does not take: a `UserError`, and the TypeError that Python raises for it."""


def refuse_unknown(given: Iterable[str], known: Iterable[str], call: str, more: str = "") -> None:
    """Raise `UnknownKeyword` for the first keyword that is not known, with the nearest one that is.

    Args:
        given, known: Names of keywords.
        call: The function, as the error names it.
        more: What there is, one sentence.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise UnknownKeyword(f"{call} has no argument {shown(name)}.{hint(name, known)} {more}".rstrip())


def suggests_keywords(function: Function) -> Function:
    """Decorate a function whose unknown keywords are refused by `refuse_unknown`; its signature stays."""
    known = [name for name, one in inspect.signature(function).parameters.items()
             if one.kind is not one.POSITIONAL_ONLY]  # fmt: skip

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        refuse_unknown(keywords, known, f"{function.__name__}()", f"It has: {', '.join(known)}.")
        return function(*args, **keywords)

    return call
