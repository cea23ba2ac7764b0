"""Base class of readers of data sets by name, such as `keras:mnist`, whose arrays are fetched once per process."""

import functools

from linearized.base.errors import UserError
from linearized.base.reading import one_line
from linearized.data.dataset import fingerprint
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.memory import contents
from linearized.settings.own_settings import OwnDataSettings


class Fetched:
    """Base class of a reader of `scheme:name` (`Reader`); a subclass implements `fetch` and sets `scheme`.

    Attributes:
        reads: Names of the format-specific flags of `OwnDataSettings` that this reader uses.
        scheme: Text before the colon, such as "keras".
    """

    reads: tuple[str, ...] = ()
    scheme: str

    def fits(self, text: str) -> bool:
        """Return whether `text`, a value of --data, starts with the scheme and a colon."""
        return text.startswith(f"{self.scheme}:")

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """Fetch the data set and return the digest of its arrays, which are kept in memory for `read`.

        Args:
            text: Value of --data, "scheme:name".
            options: Settings of the user's own data.

        Raises `UserError` if the data set cannot be fetched.
        """
        return _digest(self, text, *self._own(options))

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the arrays of the data set, which is fetched unless that was done before.

        Args:
            text: Value of --data, "scheme:name".
            options: Settings of the user's own data.

        Raises `UserError` if the data set cannot be fetched.
        """
        return _arrays(self, text, *self._own(options))

    def fetch(self, name: str, **own: str) -> OwnArrays:
        """Return the arrays of the data set called `name`; subclasses implement this.

        Args:
            name: Name of the data set, without the scheme.
            **own: Values of the flags that `reads` lists.

        Raises `UserError` if the data set cannot be fetched.
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
    """Return the error for a data set that could not be fetched.

    Args:
        text: Name of the data set, "scheme:name".
        error: The cause, which the message states in one line.
        advice: Sentence at the end of the message that says what to do.
    """
    return UserError(f"{text} could not be fetched ({type(error).__name__}: {one_line(error)}). {advice}")
