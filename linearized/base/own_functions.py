"""Import of user-defined functions, given in settings as `package.module:function`, and digests of their files.

A function is imported as `python -m` would import it: from the current folder first, then from installed packages. The
digest is computed from the module's file at the time of the import, so that it belongs to the function that is called.
It does not cover other modules that the file imports.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from linearized.base.errors import UserError, shown
from linearized.base.nearest import nearest
from linearized.base.reading import one_line

MOST_NAMES = 12  # largest number of names of a module that an error message lists
_digests: dict[str, tuple[Any, str]] = {}  # module -> its import specification, which a reload replaces, and the digest


def is_reference(text: Any) -> bool:
    """Return whether a text has the form `package.module:function`, without importing anything."""
    if not isinstance(text, str):
        return False
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def load_function(text: str) -> Any:
    """Import and return the object to which a text `package.module:function` refers.

    The object is a function or another object that can be called, or one with closed-form kernels of an activation (a
    method `pair`).

    Raises `UserError` if the module cannot be imported (with the message of the import error), if it has no such
    attribute (with the names that it has), and if the attribute is not such an object.
    """
    module, _, name = text.partition(":")
    found = _imported(module)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(f"{getattr(found, '__name__', text)} has no {part}.{_has(found, part)}")
        found = getattr(found, part)
    if isinstance(found, type) or not (callable(found) or hasattr(found, "pair")):
        raise UserError(f"{text} must be a function. It is {shown(found)}.")
    return found


def digest(text: str) -> str:
    """Return a digest, 16 hex digits, of a text `package.module:function` and of the file of its module.

    The digest changes when the file changes, and thus shows whether stored results belong to the present function.
    Raises `UserError` if the function cannot be imported.
    """
    load_function(text)
    module = text.partition(":")[0]
    return hashlib.blake2b(f"{text} {_digests[module][1]}".encode(), digest_size=8).hexdigest()


def reference_to(function: Any) -> str | None:
    """Return the text `package.module:function` from which another process can import a function, or None.

    Only functions at the top level of a module that has a file can be imported in this way.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or module == "__main__" or not is_reference(text := f"{module}:{name}"):
        return None
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return text if found is function and _file(sys.modules[module]) is not None else None


def named_function(function: Any, flag: str) -> str:
    """Return the text `package.module:function` of a function that was passed from Python as the value of a setting.

    Args:
        function: The function.
        flag: Name of the setting, for the error message.

    Results are stored under this text, so every process must be able to import the function by it. Raises `UserError`
    if that is not possible (see `reference_to`).
    """
    text = reference_to(function)
    if text is None:
        raise UserError(
            f"Results are kept under the text of --{flag}, and this function or object has none. Define it at the top "
            f"of a .py file and give {flag}='module:function', or use kernel_gen.gram on arrays. "
            f"Received: {shown(function)}."
        )
    return text


def folders() -> list[str]:
    """Return the folders from which user-defined functions were imported, for the search path of child processes."""
    found = []
    for module in _digests:
        top = module.partition(".")[0]
        loaded = sys.modules.get(top)
        if loaded is not None:
            place = Path(next(iter(getattr(loaded, "__path__", [])), None) or loaded.__file__)
            found.append(str(place.absolute().parent))
    return list(dict.fromkeys(found))


def takes_namespace(function: Any) -> bool:
    """Return whether a function is to be called as f(x, xp); False if it is to be called as f(x).

    It is True for functions with exactly two positional arguments without defaults. `xp` is the namespace of array
    functions to use, such as jax.numpy. Functions without a signature, such as NumPy's ufuncs, count as f(x).
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # ufuncs and other functions written in C have no signature
        return False
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len([one for one in places if one.default is one.empty]) == 2


def _imported(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()  # the file may be newer than the cached listing of its folder
    try:
        before = _content(name)
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(f"There is no module {error.name} in the current folder or among the installed packages. "
                            f"Received: {name}.") from error  # fmt: skip
        raise UserError(f"The import of {name} fails: {one_line(error)}.") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"The import of {name} fails: {type(error).__name__}: {one_line(error)}.") from error
    known = _digests.get(name)
    if known is None or known[0] is not module.__spec__:
        _digests[name] = module.__spec__, hashlib.blake2b(before, digest_size=8).hexdigest()
    return module


def _content(name: str) -> bytes:
    """Return the bytes of the file of the module `name` without importing it; empty for a built-in module."""
    spec = sys.modules[name].__spec__ if name in sys.modules else importlib.util.find_spec(name)
    path = Path(spec.origin) if spec is not None and spec.origin else None
    return path.read_bytes() if path is not None and path.is_file() else b""


def _file(module: ModuleType) -> Path | None:
    path = getattr(module, "__file__", None)
    return Path(path) if path and Path(path).is_file() else None


def _has(holder: Any, wanted: str) -> str:
    """Return a sentence that lists the public functions of a module, for error messages.

    Args:
        holder: The module.
        wanted: Name that was not found; the function with the most similar name is listed first.
    """
    names = [name for name in vars(holder) if not name.startswith("_") and callable(getattr(holder, name))]
    near = nearest(wanted, names)
    names = list(dict.fromkeys([*([near] if near else []), *names]))
    if not names:
        return " It has no functions."
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" It has: {', '.join(names[:MOST_NAMES])}{more}."
