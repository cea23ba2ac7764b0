"""Registries of names of models, kernels and the like, and the code that belongs to each name.

A registry maps a name to an import path, "module" or "module:attribute". The module is imported only when the name is
looked up with `load`, so that `--help` and the checks of a command line import no framework.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from linearized.base import own_functions
from linearized.base.errors import UserError, shown
from linearized.base.nearest import nearest

FUNCTION_ENTRY = "MODULE:FUNCTION"  # entry in declarations that stands for every user-defined function
FILE_ENTRY = "FILE.keras"  # entry in declarations that stands for every model file
OWN_ENTRIES = {FUNCTION_ENTRY, FILE_ENTRY}


_TABLES: list[dict[str, str]] = []  # import paths by name, of all registries of this process


class Registry(Mapping[str, str]):
    """A read-only table that maps the names of one kind of object ("model", "dataset", ...) to their import paths."""

    def __init__(self, kind: str, paths: Mapping[str, str], aliases: Mapping[str, str] | None = None):
        self.kind = kind
        self._paths = dict(paths)
        self.aliases = dict(aliases or {})
        _TABLES.append(self._paths)

    def __getitem__(self, name: str) -> str:
        return self._paths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def canonical(self, name: str) -> str:
        """Return the canonical spelling of `name`, which may be an alias or in another letter case.

        Raises `UserError` for an unknown name; the message suggests the nearest choice and lists all choices.
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
        """Return the name that stands for `name` in the lists of the settings that each entry of a registry reads.

        This is `name` itself. Subclasses that accept names outside of the table, such as user-defined functions, return
        one common name for all of these. `linearized.settings.reads` describes the lists.

        Args:
            name: Value as returned by `canonical`.
        """
        return name

    def source_digest(self, name: str) -> str | None:
        """Return a digest of the user's file to which a name refers; None for every name of this table.

        Subclasses that accept user-defined functions or files return a digest of the file's content, which shows
        whether results were made with an earlier content. They raise `UserError` if the file cannot be read.
        """
        return None

    def load(self, name: str) -> Any:
        """Import and return the module, or the attribute of a module, that `name` refers to."""
        return loaded(self._paths[self.canonical(name)])


class FunctionRegistry(Registry):
    """A registry that also accepts user-defined functions as `package.module:function`.

    Args:
        kind: Kind of the objects, such as "activation", for error messages.
        paths: Import path of each name.
        aliases: Canonical name of each alias.
        own: Import path of the class or module that `load` returns for a user-defined function.
    """

    def __init__(self, kind: str, paths: Mapping[str, str], aliases: Mapping[str, str] | None = None, *, own: str):
        super().__init__(kind, paths, aliases)
        self.own = own

    def canonical(self, name: str) -> str:
        """Return the canonical spelling of a name; import a user-defined function and return its text unchanged.

        Raises `UserError` for an unknown name, and for a function that cannot be imported.
        """
        if not own_functions.is_reference(name):
            return super().canonical(name)
        own_functions.load_function(name)
        return name

    def entry(self, name: str) -> str:
        """Return the name that stands for `name` in the lists of the settings that each entry of a registry reads.

        This is `FUNCTION_ENTRY` for every text `package.module:function`, and `name` itself for all other names.
        """
        return FUNCTION_ENTRY if own_functions.is_reference(name) else name

    def source_digest(self, name: str) -> str | None:
        """Return the digest of the file of a user-defined function; None for names of the table.

        Raises `UserError` if the function cannot be imported.
        """
        return own_functions.digest(name) if own_functions.is_reference(name) else None

    def load(self, name: str) -> Any:
        """Import and return the module or attribute that `name` refers to.

        For every text `package.module:function`, this is the class or module at the import path `own`, not the
        function.
        """
        return loaded(self.own) if own_functions.is_reference(name) else super().load(name)


def all_entries() -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return the names and import paths of all registries, as a key for caches of results that depend on them."""
    return tuple(map(tuple, map(dict.items, _TABLES)))


def loaded(path: str) -> Any:
    """Import and return the module or attribute at an import path "module" or "module:attribute"."""
    module, _, attribute = path.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
