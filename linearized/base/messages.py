"""Messages that are logged once per process, although what they are about is looked at many times."""

from typing import Any

from absl import logging

_told: set[tuple[int, str]] = set()


def log_once(level: int, text: str, *values: Any) -> None:
    """Log a message of a level of `absl.logging`, unless this process has logged the same words before."""
    words = level, text % values
    if words not in _told:
        _told.add(words)
        logging.log(level, text, *values)
