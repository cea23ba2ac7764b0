"""Settings as one flat frozen dataclass: they make the flags, check themselves, are saved, and name the run."""

import dataclasses
import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from linearized.base.errors import SHOWN, UserError, shown
from linearized.base.names import checked_name
from linearized.base.registry import Registry
from linearized.settings.flags import field_type, read_flags

# Bounds of a number whose setting gives none: far beyond sense, and safe to compute with.
WIDEST = {int: (-(10**9), 10**9), float: (-1e12, 1e12)}
LARGEST_SEED = 2**32 - 1  # of NumPy's generators


def setting(
    default: Any, help: str, *, choices: Registry | Sequence[str] | None = None, minimum: int | float | None = None,
    maximum: int | float | None = None, identity: bool = True, name: bool = False,
    objects: bool = False,
) -> Any:  # fmt: skip
    """Return a field of a `Settings` class.

    Args:
        help: One line of `--help`: meaning and unit.
        choices: A registry (its aliases are accepted) or the allowed strings.
        minimum, maximum: Inclusive bounds of a number; None: those of `WIDEST`.
        objects: Whether Python may give a function or an object in place of the string.
        identity: False for what does not change the result (memory, folders): it does not name the run.
        name: The text becomes one component of a path, see `linearized.base.names.checked_name`.
    """
    if choices is not None and not isinstance(choices, Registry):
        choices = Registry("choice", dict.fromkeys(choices, ""))
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "identity": identity,
                "name": name, "objects": objects}  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of every command's settings; `__post_init__` checks each field against its metadata."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from saved values; names that this version does not know are refused."""
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise UserError(f"Unknown settings: {', '.join(sorted(unknown))}.")
        numbers = {field.name for field in dataclasses.fields(cls) if field_type(field) is float}
        whole = {name: float(value) for name, value in values.items() if name in numbers and type(value) is int}
        return cls(**{**values, **whole})

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.metadata["identity"]
        }

    def flags(self) -> list[str]:
        """Return the command line's words for these settings, without those at their defaults."""
        values = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        return [f"--{field.name}={value}" for field, value in values if value != field.default]

    def command_line(self, program: str) -> str:
        """Return the shell's command line of these settings; `program` is what stands before the flags."""
        return shlex.join([*program.split(), *self.flags()])

    def key(self) -> str:
        """Eight hex digits of `identity`, the same wherever it is computed.

        Settings at their defaults take no part, so that one that a later version adds renames no folder.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        said = {name: value for name, value in self.identity().items() if value != defaults[name]}
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=4).hexdigest()


def bounds(field: dataclasses.Field) -> tuple[int | float, int | float] | None:
    """Return the least and the largest value of a numeric field, both allowed; None for other fields."""
    if (kind := field_type(field)) not in WIDEST:
        return None
    given = field.metadata["minimum"], field.metadata["maximum"]
    low, high = (kind(wide if own is None else own) for own, wide in zip(given, WIDEST[kind], strict=True))
    return low, high


def _checked(field: dataclasses.Field, value: Any) -> Any:
    choices, kind, name = field.metadata["choices"], field_type(field), field.name
    if value is None and field.default is None:
        return None
    if field.metadata["objects"] and not isinstance(value, str) and (callable(value) or hasattr(value, "pair")):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**300:
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        also = ", a function or an object with a dual" if field.metadata["objects"] else ""
        raise UserError(f"--{name} takes a value of type {kind.__name__}{also}. Received: {shown(value)}.")
    if kind is float and not math.isfinite(value):
        raise UserError(f"--{name} must be finite. Received: {value}.")
    if field.metadata["name"]:
        checked_name(value, name)
    if choices is not None:
        try:
            return choices.canonical(value)
        except UserError as error:
            raise UserError(f"--{name}: {error}") from error
    if (limits := bounds(field)) is not None:
        low, high = limits
        if value < low:
            raise UserError(f"--{name} must be at least {_plain(low)}. Received: {shown(value)}.")
        if value > high:
            raise UserError(f"--{name} must be at most {_plain(high)}. Received: {shown(value)}. Lower --{name}.")
    return value


def _plain(bound: int | float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def parse(settings_class: type[Settings], arguments: Iterable[str], *, words: str = "") -> Settings:
    """Return the settings that a command line gives (without the program's name).

    Args:
        words: The field of type tuple that takes the words which are no flags; "": such words are refused.

    Raises `UserError` with one clear line for what cannot be read and for what the settings refuse.
    """
    found, rest = read_flags(settings_class, arguments)
    if rest and not words:
        received = " ".join(rest)
        raise UserError(f"Every setting is a flag such as --name=value. Cannot read: {received[:SHOWN]}.")
    if rest:
        found[words] = (*found.get(words, ()), *rest)
    return settings_class(**found)


def help_text(settings_class: type[Settings], doc: str) -> str:
    """Return what `--help` prints: the command's docstring, then each flag with its default, choices and meaning."""
    lines = [doc.strip(), "", "Flags:"]
    own = vars(settings_class).get("__annotations__", {})  # before those of the groups that the class is made of
    for field in sorted(dataclasses.fields(settings_class), key=lambda field: field.name not in own):
        lines.append(f"  --{field.name}={'' if field.default in (None, ()) else field.default}")
        lines.append(f"      {field.metadata['help']}")
        if field.metadata["choices"] is not None:
            choices = field.metadata["choices"]
            also = f" (also: {', '.join(choices.aliases)})" if choices.aliases else ""
            lines.append(f"      one of: {', '.join(choices)}{also}")
    return "\n".join(lines)
