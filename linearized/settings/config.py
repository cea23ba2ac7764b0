"""Settings of a command as one frozen dataclass, whose fields define the flags, their checks and the name of a run."""

import dataclasses
import functools
import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from linearized.base.errors import SHOWN, UserError, shown
from linearized.base.names import checked_name
from linearized.base.nearest import hint
from linearized.base.own_functions import named_function
from linearized.base.registry import FunctionRegistry, Registry, all_entries
from linearized.settings.flags import field_type, read_flags
from linearized.settings.reads import ALWAYS, Declarations, When, is_read, refuse, where_read

# Bounds of a number whose setting gives none: far outside any sensible range, and safe to compute with.
WIDEST = {int: (-(10**9), 10**9), float: (-1e12, 1e12)}
LARGEST_SEED = 2**32 - 1  # largest seed that NumPy's generators accept
CODE = "code"  # key under which files store `Settings.code` among the saved settings


def setting(
    default: Any, help: str, *, choices: Registry | Sequence[str] | None = None, minimum: int | float | None = None,
    maximum: int | float | None = None, identity: bool = True, name: bool = False,
    objects: bool = False, when: When = ALWAYS, group: str = "", aliases: tuple[str, ...] = (), unkeyed: Any = None,
) -> Any:  # fmt: skip
    """Return a dataclass field for a class derived from `Settings`; it defines one flag of the command line.

    Args:
        default: Value without the flag; None means unset.
        help: One line of `--help`: meaning and unit.
        choices: A registry (its aliases are accepted) or the allowed strings.
        minimum: Inclusive lower bound of a number; None: the bound in `WIDEST`.
        maximum: Inclusive upper bound of a number; None: the bound in `WIDEST`.
        identity: False for a setting that does not change the result (memory, folders) and is not part of the run's
            name.
        name: Whether the text becomes one component of a path, see `linearized.base.names.checked_name`.
        objects: Whether Python code may pass a function or an object in place of the string.
        when: Condition on other settings under which this one is read; see `linearized.settings.reads`.
        group: Heading of `--help` under which the flag is listed; "": the heading of the class.
        aliases: Other names of the flag.
        unkeyed: A second value that is left out of the run's key (`Settings.key`), as the default is. It was the
            default of an earlier version, whose results thus keep their folders. None: there is no such value.
    """
    if choices is not None and not isinstance(choices, Registry):
        choices = Registry("choice", dict.fromkeys(choices, ""))
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "identity": identity,
                "name": name, "objects": objects, "when": when, "group": group,
                "aliases": aliases, "unkeyed": default if unkeyed is None else unkeyed}  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base class of every command's settings, a frozen dataclass with one field per flag.

    When an object is made, each value is checked against the bounds and choices of its field, and values that follow
    from others are set. A setting without effect that differs from its default, such as the width of a network for a
    kernel, raises `UserError`.

    Attributes:
        GROUP: Heading of `--help` under which the settings of a class are listed.
        STORED: Names under which files store some settings, by current name. The meaning of these settings has changed
            since version 0.1.
    """

    GROUP = "Settings"
    STORED: ClassVar[dict[str, str]] = {}

    def __post_init__(self):
        fields = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        given = {field.name: _checked(field, value) for field, value in fields if value is not field.default}
        vars(self).update(_defaults(type(self)) | given)
        self.complete()
        self.refuse_unread(field.name for field in dataclasses.fields(self)
                           if getattr(self, field.name) != field.default)  # fmt: skip

    @classmethod
    def own(cls) -> tuple[str, ...]:
        """Return the names of the settings that this class itself defines, without those of its base classes."""
        return tuple(vars(cls).get("__annotations__", {}))

    @classmethod
    def draft(cls, **values: Any) -> "Settings":
        """Return settings whose combination is not checked: settings without effect may differ from their defaults.

        A value outside of its own bounds and choices still raises `UserError`.

        Args:
            **values: Settings by name; others have their defaults.
        """
        made = object.__new__(cls)
        fields = (field for field in dataclasses.fields(cls) if field.name in values)
        vars(made).update(_defaults(cls) | {field.name: _checked(field, values[field.name]) for field in fields})
        made.complete()
        return made

    def complete(self) -> None:
        """Set values that follow from other settings, such as a model's default width; subclasses implement this."""

    @classmethod
    def kinds(cls) -> Declarations:
        """Return which settings are read by which model, kernel, solver and the like.

        Returns: A dictionary for each registry from which the command selects an entry, such as "model". It maps the
            name of each entry, such as "RF", to the settings that the entry reads, with their conditions.
        """
        return {}

    def declarations(self) -> Declarations:
        """Return the result of `kinds`, which is computed once for each class and each content of the registries."""
        return _declarations(type(self), all_entries())

    def chosen(self) -> Mapping[str, str | None]:
        """Return the selected entry of each registry, such as {"model": "RF"}; None for a registry without a selection.

        A registry is a table of models, kernels, solvers and the like. The keys are those of `kinds`.
        """
        return {}

    def reads(self, name: str) -> bool:
        """Return whether a setting has an effect, because the command or the selected model, kernel or solver reads it.

        Args:
            name: Name of the setting.
        """
        return is_read(name, self, self.declarations(), self.chosen())

    def where_read(self, name: str) -> str:
        """Return a phrase that states when the setting called `name` is read.

        An example is "by --model=RF, or with --subset=random".
        """
        return where_read(name, self, self.declarations(), self.chosen())

    def refuse_unread(self, given: Iterable[str]) -> None:
        """Raise `UserError` for a setting that is given although nothing reads it; the message states when it is read.

        Args:
            given: Names of the settings that differ from their defaults, or that the command line contains.
        """
        refuse(given, self, self.declarations(), self.chosen())

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> "Settings":
        """Return settings from a stored file, without those that have no effect (version 0.1 stored such settings).

        Args:
            values: Values by the names under which they were stored. The entry "code", the digests of user-defined
                functions, is ignored.

        Raises `UserError` for names that this version does not have.
        """
        values = {name: value for name, value in values.items() if name != CODE}
        names = {stored: name for name, stored in cls.STORED.items()}
        draft = cls.draft(**{names.get(name, name): value for name, value in values.items()})
        unknown = set(cls.__dataclass_fields__) | set(names)
        return cls.from_dict({name: value for name, value in values.items()
                              if name not in unknown or draft.reads(names.get(name, name))})  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name as plain values that JSON can represent."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """Return settings with the given values; others have their defaults.

        Args:
            values: Values by name, such as those that a file stores; whole numbers are converted to floats where
                needed.

        Raises `UserError` for names that this version does not have, and for values that are refused.
        """
        names = {stored: name for name, stored in cls.STORED.items()}
        values = {names.get(name, name): value for name, value in values.items()}
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            near = hint(min(unknown), [field.name for field in dataclasses.fields(cls)])
            raise UserError(f"Unknown settings: {', '.join(sorted(unknown))}.{near}")
        numbers = {field.name for field in dataclasses.fields(cls) if field_type(field) is float}
        whole = {name: float(value) for name, value in values.items() if name in numbers and type(value) is int}
        return cls(**{**values, **whole})

    def refuse_aliases(self, given: set[str]) -> None:
        """Raise `UserError` if the command line gives a flag by a misleading alias; subclasses implement this.

        An example is `--epochs`, an alias of `--max_cg_iters`, for a solver that has iterations but no epochs.

        Args:
            given: Aliases that the command line contains.
        """

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, by the names under which files store them.

        Folders, memory and the like are left out.
        """
        fields = (field for field in dataclasses.fields(self) if field.metadata["identity"])
        return {self.STORED.get(field.name, field.name): getattr(self, field.name) for field in fields}

    def flags(self) -> list[str]:
        """Return the command-line arguments that give these settings, such as "--model=RF"; defaults are left out."""
        values = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        return [f"--{field.name}={value}" for field, value in values if value != field.default]

    def command_line(self, program: str) -> str:
        """Return the shell command line that gives these settings.

        Args:
            program: Text before the flags, such as "linearized krr".
        """
        return shlex.join([*program.split(), *self.flags()])

    def code(self) -> dict[str, str]:
        """Return digests of the user's own functions and model files that are values of settings, by setting."""
        tables = {field.name: field.metadata["choices"] for field in dataclasses.fields(self)}
        named = {name: value for name, table in tables.items()
                 if table is not None and (value := getattr(self, name)) is not None}  # fmt: skip
        found = {name: tables[name].source_digest(value) for name, value in named.items()}
        return {name: digest for name, digest in found.items() if digest is not None}

    def content(self) -> dict[str, str]:
        """Return digests of the files that are values of settings, by setting; in `key` they replace the paths.

        Subclasses add further files, such as those of the user's data.
        """
        return self.code()

    def key(self) -> str:
        """Return eight hex digits that identify the result; they are a part of the name of its folder.

        They are a digest of those settings that are read and determine the result, and of the content of files that
        settings name. They are the same on every machine. Settings at their defaults are left out. A setting that a
        later version adds therefore does not rename any folder.
        """
        identity, kinds, chosen = self.identity(), self.declarations(), self.chosen()
        named = ((self.STORED.get(field.name, field.name), field) for field in dataclasses.fields(self))
        said = {
            stored: identity[stored] for stored, field in named
            if identity.get(stored, field.default) not in (field.default, field.metadata["unkeyed"])
            and is_read(field.name, self, kinds, chosen)
        } | self.content()  # fmt: skip
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=4).hexdigest()


@functools.cache
def _declarations(settings_class: type[Settings], _entries: tuple) -> Declarations:
    """Return `settings_class.kinds()`, cached for each class and each value of `_entries`, which is `all_entries()`."""
    return settings_class.kinds()


@functools.cache
def _defaults(settings_class: type[Settings]) -> dict[str, Any]:
    """Return the checked default of each setting of a class, by name."""
    return {field.name: _checked(field, field.default) for field in dataclasses.fields(settings_class)}


def bounds(field: dataclasses.Field) -> tuple[int | float, int | float] | None:
    """Return the smallest and the largest allowed value of a numeric field; None for other fields."""
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
    if isinstance(choices, FunctionRegistry) and callable(value):
        value = named_function(value, name)
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
    """Return the settings that a command line gives.

    Args:
        settings_class: Class of the command's settings.
        arguments: Words of the command line, without the program's name.
        words: Name of the field of type tuple that receives the words that are not flags; "" refuses such words.

    Raises `UserError` with a one-line message for text that cannot be read, for settings that are refused, and for a
    flag that nothing reads, even if it has its default value.
    """
    arguments = list(arguments)
    found, rest = read_flags(settings_class, arguments)
    if rest and not words:
        received = " ".join(rest)
        raise UserError(f"Every setting is a flag such as --name=value. Cannot read: {received[:SHOWN]}.")
    if rest:
        found[words] = (*found.get(words, ()), *rest)
    settings = settings_class(**found)
    settings.refuse_unread(found)
    aliases = {alias for field in dataclasses.fields(settings) for alias in field.metadata["aliases"]}
    settings.refuse_aliases(aliases.intersection(word.lstrip("-").partition("=")[0] for word in arguments))
    return settings
