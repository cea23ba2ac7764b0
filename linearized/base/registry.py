"""A name becomes code in one table: name -> "module" or "module:attribute", imported when it is looked up.

Tables hold paths, not modules, so that `--help` and the checks of a command line need no framework.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from linearized.base import own_functions
from linearized.base.errors import UserError, shown
from linearized.base.nearest import nearest

FUNCTION_ENTRY = "MODULE:FUNCTION"  # stands in declarations for every function of the user's own
FILE_ENTRY = "FILE.keras"  # and for every model file
OWN_ENTRIES = {FUNCTION_ENTRY, FILE_ENTRY}


class Registry(Mapping[str, str]):
    """A read-only table of the names of one kind of thing ("model", "dataset", ...) and where each is made."""

    def __init__(self, kind: str, paths: Mapping[str, str], aliases: Mapping[str, str] | None = None):
        self.kind = kind
        self._paths = dict(paths)
        self.aliases = dict(aliases or {})

    def __getitem__(self, name: str) -> str:
        return self._paths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def canonical(self, name: str) -> str:
        """The table's own spelling of `name` (aliases and letter case are forgiven).

        Raises `UserError` with all the choices, the nearest one first, for an unknown name.
        """
        if name in self._paths:
            return name
        spelled = {known.lower(): known for known in self._paths}
        spelled |= {alias.lower(): known for alias, known in self.aliases.items()}
        if name.lower() in spelled:
            return spelled[name.lower()]
        near = nearest(name, spelled)
        hint = f" Did you mean {spelled[near]}?" if near else ""
        raise UserError(f"Unknown {self.kind} {shown(name)}.{hint} The choices are: {', '.join(self._paths)}.")

    def entry(self, name: str) -> str:
        """Return the entry whose declarations count for a value: the name itself, unless the table also takes others.

        Args:
            name: As `canonical` returns it.
        """
        return name

    def source_digest(self, name: str) -> str | None:
        """Return the digest of what a value of the user's own names (a function, a file); None for names of the table.

        Raises `UserError` where it cannot be read.
        """
        return None

    def load(self, name: str) -> Any:
        """Imports and returns the module, or the module's attribute, behind `name`."""
        return loaded(self._paths[self.canonical(name)])


class FunctionRegistry(Registry):
    """A table that also takes functions of the user's own, as `package.module:function`.

    Args:
        own: What `load` returns for a reference, as a path of the table.
    """

    def __init__(self, kind: str, paths: Mapping[str, str], aliases: Mapping[str, str] | None = None, *, own: str):
        super().__init__(kind, paths, aliases)
        self.own = own

    def canonical(self, name: str) -> str:
        """As `Registry`; a reference is imported. Raises `UserError` where that fails."""
        if not own_functions.is_reference(name):
            return super().canonical(name)
        own_functions.load_function(name)
        return name

    def entry(self, name: str) -> str:
        """As `Registry`."""
        return FUNCTION_ENTRY if own_functions.is_reference(name) else name

    def source_digest(self, name: str) -> str | None:
        """As `Registry`."""
        return own_functions.digest(name) if own_functions.is_reference(name) else None

    def load(self, name: str) -> Any:
        """As `Registry`."""
        return loaded(self.own) if own_functions.is_reference(name) else super().load(name)


def loaded(path: str) -> Any:
    """Import and return what a path of a table names."""
    module, _, attribute = path.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
