"""Settings from keyword arguments of a Python call, with the same rules as a command line."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from linearized.base.errors import UserError
from linearized.base.keywords import refuse_unknown
from linearized.settings.config import Settings
from linearized.settings.flags import field_type

AnySettings = TypeVar("AnySettings", bound=Settings)


def from_keywords(kind: type[AnySettings], call: str, given: Mapping[str, Any], *, own: str = "") -> AnySettings:
    """Return the settings that keyword arguments give, with the same checks as for flags of a command line.

    Aliases of a flag (`epochs`) are accepted. A setting that is a text also accepts the Python value that it stands
    for: a path, a number, or a list, tuple or array of them, such as ridges=[0.1, 1] for --ridges=0.1,1.

    Args:
        kind: Class of the settings.
        call: Name of the function in error messages.
        given: Values by name.
        own: Text for the error message about further arguments that the function takes, such as "model, data and ".

    Raises `UserError` for an unknown name (the nearest known one is suggested), for a flag that is given under two
    names, and for a flag that nothing reads (see `linearized.settings.reads`), even with its default value.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    fields |= {alias: field for field in tuple(fields.values()) for alias in field.metadata["aliases"]}
    refuse_unknown(given, fields, call, f"It takes {own}the flags of the command by their names.")
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = fields[name]
        if field.name in values:
            other = next(one for one in given if fields[one] is field and one != name)
            raise UserError(f"{call} is given {other} and {name}, which are one setting. Leave one of them out.")
        plain = value.item() if isinstance(value, np.generic) else value
        values[field.name] = _text(plain) if field_type(field) is str else plain
    settings = kind(**values)
    settings.refuse_unread(values)
    settings.refuse_aliases({name for name in given if fields[name].name != name})
    return settings


def _text(value: Any) -> Any:
    """Return the text of a path, a number or a list of them; return any other value unchanged."""
    if isinstance(value, list | tuple | np.ndarray):
        items = [_text(one.item() if isinstance(one, np.generic) else one) for one in value]
        return ",".join(items) if all(isinstance(one, str) for one in items) else value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
