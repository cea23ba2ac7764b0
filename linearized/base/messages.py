"""Messages that are logged only once per process, although their cause is encountered many times."""

from typing import Any

from absl import logging

_told: set[tuple[int, str]] = set()


def log_once(level: int, text: str, *values: Any) -> None:
    """Log a message at a level of `absl.logging`, unless this process has already logged the same text."""
    words = level, text % values
    if words not in _told:
        _told.add(words)
        logging.log(level, text, *values)
