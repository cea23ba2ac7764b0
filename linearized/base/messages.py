"""Messages that are logged only once per process, although their cause is encountered many times."""

from typing import Any

from absl import logging

_told: set[tuple[int, str]] = set()


def log_once(level: int, text: str, *values: Any) -> None:
    """Log a message, unless this process has already logged the same text at the same level.

    Args:
        level: Level of `absl.logging`.
        text: Message with %-placeholders.
        *values: Values of the placeholders.
    """
    words = level, text % values
    if words not in _told:
        _told.add(words)
        logging.log(level, text, *values)
