"""A name becomes code in one table: name -> "module" or "module:attribute", imported when it is looked up.

Tables hold paths, not modules, so that `--help` and the checks of a command line need no framework.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from linearized.base.errors import UserError, shown
from linearized.base.nearest import nearest


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

    def load(self, name: str) -> Any:
        """Imports and returns the module, or the module's attribute, behind `name`."""
        module, _, attribute = self._paths[self.canonical(name)].partition(":")
        loaded = importlib.import_module(module)
        return getattr(loaded, attribute) if attribute else loaded
