"""Settings as one flat frozen dataclass: they make the flags, check themselves, are saved, and name the run."""

import dataclasses
import hashlib
import json
import math
import shlex
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from data.errors import UserError
from data.names import checked_name
from data.registry import Registry

_DEFINE = {
    int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string, bool: flags.DEFINE_bool,
    tuple: flags.DEFINE_multi_string,  # a flag that may be given more than once
}  # fmt: skip


def setting(
    default: Any, help: str, *, choices: Registry | Sequence[str] | None = None, minimum: int | float | None = None,
    maximum: int | float | None = None, identity: bool = True, name: bool = False,
) -> Any:  # fmt: skip
    """A field of a `Settings` class.

    Args:
        choices: A registry (its aliases are accepted) or the allowed strings.
        minimum, maximum: Inclusive bounds of a number.
        identity: False for what does not change the result (memory, folders): it does not name the run.
        name: The text becomes one component of a path, see `data.names.checked_name`.
    """
    if choices is not None and not isinstance(choices, Registry):
        choices = Registry("choice", dict.fromkeys(choices, ""))
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "identity": identity,
                "name": name}  # fmt: skip
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
        numbers = {field.name for field in dataclasses.fields(cls) if _type(field) is float}
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


def _type(field: dataclasses.Field) -> type:
    """The field's plain type; `int | None` counts as int."""
    if isinstance(field.type, types.UnionType):
        return next(kind for kind in typing.get_args(field.type) if kind is not types.NoneType)
    return field.type


def _checked(field: dataclasses.Field, value: Any) -> Any:
    choices, minimum, maximum = (field.metadata[name] for name in ("choices", "minimum", "maximum"))
    kind = _type(field)
    if value is None and field.default is None:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"--{field.name} takes a value of type {kind.__name__}. Received: {value!r}.")
    if kind is float and not math.isfinite(value):
        raise UserError(f"--{field.name} must be finite. Received: {value}.")
    if field.metadata["name"]:
        checked_name(value, field.name)
    if choices is not None:
        try:
            return choices.canonical(value)
        except UserError as error:
            raise UserError(f"--{field.name}: {error}") from error
    if minimum is not None and value < minimum:
        raise UserError(f"--{field.name} must be at least {minimum:g}. Received: {value}.")
    if maximum is not None and value > maximum:
        raise UserError(f"--{field.name} must be at most {maximum:g}. Received: {value}.")
    return value


def define_flags(settings_class: type[Settings]) -> flags.FlagValues:
    """One absl flag a field, with its default and help, in a set of flags of its own."""
    values = flags.FlagValues()
    for field in dataclasses.fields(settings_class):
        _DEFINE[_type(field)](field.name, field.default, field.metadata["help"], flag_values=values)
    return values


def parse(settings_class: type[Settings], arguments: Iterable[str]) -> Settings:
    """Settings from a command line's arguments (without the program's name). Raises `UserError` with a clear line."""
    values = define_flags(settings_class)
    try:
        rest = values(["command", *arguments])[1:]
    except flags.Error as error:
        raise UserError(f"{error} (--help lists all flags)") from error
    if rest:
        raise UserError(f"Every setting is a flag such as --name=value. Cannot read: {' '.join(rest)}.")
    found = {field.name: values[field.name].value for field in dataclasses.fields(settings_class)}
    return settings_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})


def help_text(settings_class: type[Settings], doc: str) -> str:
    """What `--help` prints: the command's docstring, then each flag with its default, choices and meaning."""
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
