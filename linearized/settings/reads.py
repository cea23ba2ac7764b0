"""Declarations of the settings that each model, kernel or solver reads, and refusal of settings without effect.

A registry is a table of models, kernels, solvers or data sets; its entries are selected by flags (`--model=RF`,
`--solver=cg`, ...). The module of an entry declares which settings the entry reads, and under which conditions:

    READS = reads("num_units", "weight_seed") | reads("law", when=when(num_units=SET))

`Settings` (linearized.settings.config) checks the selected entries. It refuses a setting if some entry declares it but
no selected entry does. A setting that no entry declares belongs to the command, and is always read unless its own
condition (`setting(when=...)`) fails.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from linearized.base.errors import UserError
from linearized.base.own_functions import is_reference
from linearized.base.registry import OWN_ENTRIES

SET = object()  # stands for any true value: not 0, "", False or None
FUNCTION = "module:function"  # stands for any function of the user's own


@dataclasses.dataclass(frozen=True)
class When:
    """A condition on settings, such as num_units > 0 or activation = "relu", made by `when`.

    It consists of alternatives. Each alternative requires certain values of one or more settings, and the condition
    holds if one alternative is met. `one | other` holds if at least one of the two holds; `one & other` if both hold.
    """

    alternatives: tuple[tuple[tuple[str, tuple[Any, ...]], ...], ...] = ((),)

    def __or__(self, other: "When") -> "When":
        return When((*self.alternatives, *other.alternatives))

    def __and__(self, other: "When") -> "When":
        return When(tuple((*one, *two) for one in self.alternatives for two in other.alternatives))

    def holds(self, settings: Any) -> bool:
        """Return whether `settings`, an object with the settings as attributes, meets one of the alternatives."""
        return any(all(_is_one_of(getattr(settings, name), values) for name, values in needed)
                   for needed in self.alternatives)  # fmt: skip

    def names(self) -> set[str]:
        """Return the names of the settings that the condition depends on."""
        return {name for needed in self.alternatives for name, _values in needed}

    def __str__(self) -> str:
        return ", or ".join(" and ".join(_needed(*pair) for pair in needed) for needed in self.alternatives)


ALWAYS = When()


def when(**needed: Any) -> When:
    """Return the condition that each named setting has one of the given values.

    Args:
        **needed: For each setting a value, a tuple of values, or `SET` for any true value.
    """
    pairs = ((name, values if isinstance(values, tuple) else (values,)) for name, values in needed.items())
    return When((tuple(pairs),))


def reads(*names: str, when: When = ALWAYS) -> dict[str, When]:
    """Return a declaration that the settings with these names are read under the condition `when`, by default always.

    Declarations can be joined with `|`.
    """
    return dict.fromkeys(names, when)


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    return any(
        bool(value) if one is SET else is_reference(value) if one is FUNCTION else value == one for one in values
    )


def _needed(name: str, values: tuple[Any, ...]) -> str:
    if values == (SET,):
        return f"--{name}"
    return f"no --{name}" if values == ("",) else f"--{name}=" + " or ".join(map(str, values))


Declarations = Mapping[str, Mapping[str, Mapping[str, When]]]
"""Kind of registry (the flag that selects of it) -> name -> what that entry reads. Kind "" is the command itself."""


def declared(registry: Mapping[str, str]) -> dict[str, Mapping[str, When]]:
    """Return which settings each entry of a registry reads, and under which conditions, by name of the entry.

    Entries are modules or objects with an attribute `READS`. All of them are imported.

    Raises `AttributeError` for an entry without this attribute.
    """
    return {name: registry.load(name).READS for name in registry}


def is_read(name: str, settings: Any, kinds: Declarations, chosen: Mapping[str, str | None]) -> bool:
    """Return whether a setting has an effect: a selected entry reads it, or it belongs to the command.

    A setting that no entry of any registry declares belongs to the command. In both cases the setting's own condition
    (`setting(when=...)`) must hold too.

    Args:
        name: Name of the setting.
        settings: The values, which decide whether conditions hold.
        kinds: Settings that the entries of each registry read, as `Settings.kinds` returns them.
        chosen: The selected entry of each registry, as `Settings.chosen` returns it; None if none is selected.
    """
    if not _own_condition(name, settings).holds(settings):
        return False
    if not any(name in entry for entries in kinds.values() for entry in entries.values()):
        return True
    return any(
        entry is not None and (condition := kinds[kind][entry].get(name)) is not None and condition.holds(settings)
        for kind, entry in chosen.items()
    )


def _own_condition(name: str, settings: Any) -> When:
    return type(settings).__dataclass_fields__[name].metadata["when"]


def readers(name: str, kinds: Declarations) -> dict[str, list[str]]:
    """Return the entries that may read a setting, by registry, such as {"model": ["RF", "NT"]}.

    Args:
        name: Name of the setting.
        kinds: Settings that the entries of each registry read, as `Settings.kinds` returns them.
    """
    found = {kind: [entry for entry, names in entries.items() if name in names] for kind, entries in kinds.items()}
    return {kind: entries for kind, entries in found.items() if entries}


def refuse(names: Iterable[str], settings: Any, kinds: Declarations, chosen: Mapping[str, str | None]) -> None:
    """Raise `UserError` for the first of the named settings that has no effect; the message states when it would.

    Args:
        names: Names of the settings to check.
        settings: The values, which decide whether conditions hold.
        kinds: Settings that the entries of each registry read, as `Settings.kinds` returns them.
        chosen: The selected entry of each registry, as `Settings.chosen` returns it; None if none is selected.
    """
    for name in names:
        if not is_read(name, settings, kinds, chosen):
            raise UserError(
                f"--{name} is read {where_read(name, settings, kinds, chosen)}. Received: --{name}="
                f"{str(getattr(settings, name))[:60]}{_at_work(name, settings, kinds, chosen)}."
            )


def where_read(name: str, settings: Any, kinds: Declarations, chosen: Mapping[str, str | None]) -> str:
    """Return a phrase that states when a setting is read, such as "by --model=RF, NT, or with --subset=random".

    Args:
        name: Name of the setting.
        settings: The values, which decide whether conditions hold.
        kinds: Settings that the entries of each registry read, as `Settings.kinds` returns them.
        chosen: The selected entry of each registry, as `Settings.chosen` returns it; None if none is selected.
    """
    own, words = _own_condition(name, settings), []
    for kind, entries in readers(name, kinds).items():
        at_work = chosen.get(kind)
        entries = [at_work] if at_work in entries else entries
        conditions = {kinds[kind][entry][name] for entry in entries}
        condition = conditions.pop() if len(conditions) == 1 else ALWAYS
        if not own.holds(settings):
            condition = own if condition.names() <= own.names() else condition & own
        by = f"by --{kind}={', '.join(entries)}" if kind else ""
        words.append(" ".join(filter(None, (by, "" if condition == ALWAYS else f"with {condition}"))))
    return ", or ".join(words) or f"with {own}"


def _at_work(name: str, settings: Any, kinds: Declarations, chosen: Mapping[str, str | None]) -> str:
    """Return a phrase that names the selected entries of the registries that could read a setting.

    An example is " with --model=RF". The phrase is "" if there are no such entries.

    Args:
        name: Name of the setting.
        settings: The values of all settings.
        kinds: Settings that the entries of each registry read, as `Settings.kinds` returns them.
        chosen: The selected entry of each registry, as `Settings.chosen` returns it; None if none is selected.
    """
    found = {kind: chosen[kind] for kind in readers(name, kinds) if kind and chosen.get(kind)}
    named = [f"--{kind}={getattr(settings, kind) if entry in OWN_ENTRIES else entry}" for kind, entry in found.items()]
    return f" with {' '.join(named)}" if named else ""
