"""Parser of a command line, which reads flags into the fields of a settings class.

A flag is written --name=value or --name value; a boolean flag may also be --name or --noname. If a flag is given twice,
the last value counts, except for flags that collect values (type tuple). Numbers are decimal; hexadecimal digits,
underscores and blanks are refused.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

from linearized.base.errors import UserError, shown
from linearized.base.nearest import hint

INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def field_type(field: dataclasses.Field) -> type:
    """Return the type of the values of a dataclass field; for `int | None` this is int."""
    if isinstance(field.type, types.UnionType):
        return next(kind for kind in typing.get_args(field.type) if kind is not types.NoneType)
    return field.type


def read_flags(settings_class: type, arguments: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values given on a command line by field name, and the list of the words that are not flags.

    A field's `aliases` are accepted in its place. If a flag is given under two of its names, the last value counts.

    Args:
        settings_class: A dataclass whose fields are the flags.
        arguments: The words after the program's name. No word after "--" is a flag.

    Raises `UserError` for an unknown flag, a flag without its value, a value that cannot be read, and bytes that are
    not UTF-8.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_class)}
    fields |= {alias: field for field in tuple(fields.values()) for alias in field.metadata.get("aliases", ())}
    found: dict[str, Any] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UserError(f"Arguments must be UTF-8. Received: {shown(word)}.")
        if word == "--":
            rest += words
            break
        if not word.startswith("-") or len(word) < 2:
            rest.append(word)
            continue
        name, equals, text = word.lstrip("-").partition("=")
        field, negated = fields.get(name), False
        if field is None and not equals and (other := fields.get(name.removeprefix("no"))) is not None:
            field, negated = (other, True) if field_type(other) is bool else (None, False)
        if field is None:
            raise UserError(f"Unknown flag {shown('--' + name)}.{hint(name, fields, '--{}')} (--help lists all flags)")
        kind = field_type(field)
        if kind is bool and not equals:
            value = not negated
        else:
            if not equals and (text := next(words, None)) is None:
                raise UserError(f"--{name} needs a value: --{name}=... (--help lists all flags)")
            value = _read(field.name, kind, text)
        if kind is tuple:
            found[field.name] = (*found.get(field.name, ()), value)
        else:
            found[field.name] = value
    return found, rest


def _read(name: str, kind: type, text: str) -> Any:
    if kind is bool:
        if text.lower() not in BOOLEANS:
            raise UserError(f"--{name} takes true or false. Received: {shown(text)}.")
        return BOOLEANS[text.lower()]
    if kind is int:
        if not INTEGER.fullmatch(text):
            raise UserError(f"--{name} takes one whole number, such as 10. Received: {shown(text)}.")
        return int(text)
    if kind is float:
        if not NUMBER.fullmatch(text):
            raise UserError(f"--{name} takes one number, such as 0.5 or 1e-3. Received: {shown(text)}.")
        return float(text)
    return text
