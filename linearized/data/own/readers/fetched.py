"""Common base of readers of data sets by name: arrays that are fetched once per process, and their digest."""

import functools

from linearized.base.errors import UserError
from linearized.base.reading import one_line
from linearized.data.dataset import fingerprint
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.memory import contents
from linearized.settings.own_settings import OwnDataSettings


class Fetched:
    """A reader of `scheme:name`. A subclass implements `fetch` and sets `scheme`."""

    reads: tuple[str, ...] = ()
    scheme: str

    def fits(self, text: str) -> bool:
        """Return whether the text starts with the scheme, see `Reader`."""
        return text.startswith(f"{self.scheme}:")

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """Return the digest of the arrays, which are kept in memory for `read`; see `Reader`."""
        return _digest(self, text, *self._own(options))

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the fetched arrays, see `Reader`."""
        return _arrays(self, text, *self._own(options))

    def fetch(self, name: str, **own: str) -> OwnArrays:
        """Return the arrays of a name. Raises `UserError` if that fails.

        Args:
            name: Name of the data set, without the scheme.
            **own: The settings that the reader's `reads` names.
        """
        raise NotImplementedError

    def _own(self, options: OwnDataSettings) -> tuple[tuple[str, str], ...]:
        return tuple((name, getattr(options, name)) for name in self.reads)


@functools.lru_cache(maxsize=2)
def _arrays(reader: Fetched, text: str, *own: tuple[str, str]) -> OwnArrays:
    name = text.removeprefix(f"{reader.scheme}:").strip()
    if not name:
        raise UserError(f"--data={text} names no data set. Give one after the colon.")
    return reader.fetch(name, **dict(own))


@functools.lru_cache(maxsize=8)
def _digest(reader: Fetched, text: str, *own: tuple[str, str]) -> str:
    return fingerprint(*contents(_arrays(reader, text, *own)))


def failed(text: str, error: Exception, advice: str) -> UserError:
    """Return the error for a data set that could not be fetched, with its cause in one line."""
    return UserError(f"{text} could not be fetched ({type(error).__name__}: {one_line(error)}). {advice}")
