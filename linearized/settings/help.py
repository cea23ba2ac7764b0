"""The text of `--help`: flags in groups (data, model, solver, run), then flags of some models or kernels only."""

import dataclasses
from collections.abc import Iterator

from linearized.base.registry import OWN_ENTRIES
from linearized.settings.config import Settings
from linearized.settings.reads import readers

ORDER = (
    "Data",
    "Model",
    "Kernel",
    "Features",
    "Solver",
    "Run",
    "Launcher",
)  # further groups follow, such as "Model RF, NT"
KIND_TITLES = {"model": "Model", "kernel": "Kernel", "features": "Features", "solver": "Solver", "dataset": "Data",
               "data": "Data", "launcher": "Launcher"}  # fmt: skip
KERNELS = {"kernel", "features"}  # features are those of a kernel


def help_text(settings_class: type[Settings], doc: str) -> str:
    """Return the text of `--help`: the command's docstring, then each flag with its default, choices and meaning.

    Args:
        settings_class: Class of the command's settings.
        doc: Docstring of the command.
    """
    groups: dict[str, list[dataclasses.Field]] = {}
    for field in dataclasses.fields(settings_class):
        groups.setdefault(group_of(settings_class, field), []).append(field)
    lines = [doc.strip()]
    for title in sorted(groups, key=_rank):
        lines += ["", f"{title}:"]
        for field in groups[title]:
            lines += _flag(field)
    return "\n".join(lines)


def group_of(settings_class: type[Settings], field: dataclasses.Field) -> str:
    """Return the heading of `--help` under which a flag is listed.

    If only some models, kernels or solvers read the flag, the heading contains their names, such as "Model RF, NT".
    Otherwise it is the group of the flag or of the class that defines the flag.

    Args:
        settings_class: Class of the command's settings.
        field: The field of the flag.
    """
    kinds = settings_class.kinds()
    own = field.metadata["group"] or next(
        base.GROUP for base in settings_class.__mro__ if field.name in vars(base).get("__annotations__", {})
    )
    if field.name in kinds:
        return KIND_TITLES[field.name]
    found = readers(field.name, kinds)
    few = {kind: entries for kind, entries in found.items() if set(kinds[kind]) - set(entries) - OWN_ENTRIES}
    one_kind = len(found) == 1 and set(found) <= set(KIND_TITLES)
    if len(few) < len(found) or not (one_kind or set(found) == KERNELS):
        return own
    return _heading(found)


def _heading(found: dict[str, list[str]]) -> str:
    """Return a heading such as "Model RF, NT" for a flag that only some models, kernels or solvers read.

    Args:
        found: Names of these models, kernels or solvers by registry, such as {"model": ["RF", "NT"]}.
    """
    names = list(dict.fromkeys(name for entries in found.values() for name in entries))
    return f"{KIND_TITLES[next(kind for kind in found if kind in KIND_TITLES)]} {', '.join(names)}"


def _rank(title: str) -> tuple[int, int, str]:
    kind = title.split(" ")[0]
    place = ORDER.index(kind) if kind in ORDER else len(ORDER)
    return (0 if title in ORDER else 1, place, "" if title in ORDER else title)


def _flag(field: dataclasses.Field) -> Iterator[str]:
    yield f"  --{field.name}={'' if field.default in (None, ()) else field.default}"
    for alias in field.metadata["aliases"]:
        yield f"  --{alias}="
    yield f"      {field.metadata['help']}"
    if choices := field.metadata["choices"]:  # empty if the flag accepts paths only
        also = f" (also: {', '.join(choices.aliases)})" if choices.aliases else ""
        yield f"      one of: {', '.join(choices)}{also}"
