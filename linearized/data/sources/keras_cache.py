"""Keras' download cache, and downloads by a child process, because no module of `data` imports a framework."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import logging

from linearized.base.errors import UserError
from linearized.base.reading import expanded
from linearized.data.source import RawFiles, missing

# NumPy's backend, because a download needs no TensorFlow. A server without response for 20 seconds is unreachable.
_CHILD = "import socket; socket.setdefaulttimeout(20); import keras; keras.datasets.{name}.load_data()"


def folders() -> list[Path]:
    """Return Keras' folders of datasets: in `$KERAS_HOME` or `~/.keras`, and a temporary one if it is read-only."""
    home = expanded(os.environ.get("KERAS_HOME") or "~/.keras", "$KERAS_HOME")
    if home.is_dir() and not os.access(home, os.W_OK):
        return [home / "datasets", Path(tempfile.gettempdir()) / ".keras" / "datasets"]
    return [home / "datasets"]


def download(name: str) -> None:
    """Download `keras.datasets.<name>` into Keras' cache. Raises `UserError` with the last line of Keras' output."""
    logging.info("Downloading %s by Keras (a minute or more) ...", name)
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    command = [sys.executable, "-c", _CHILD.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"Keras could not download {name} ({last}).")


def fetched(files: RawFiles, title: str, name: str, directory: Path) -> Path:
    """Download a dataset by Keras, and return the place where `files` then finds it.

    Args:
        files: The raw files of the dataset.
        title: The dataset's name for the error.
        name: Its name in `keras.datasets`.
        directory: The dataset's folder.

    Raises `UserError` if the files do not exist afterwards, with the reason why the download failed.
    """
    reason = ""
    try:
        download(name)
    except UserError as error:
        reason = f"{error} "
    found = files.find(directory)
    if found.place is None:
        raise missing(title, found, reason)
    return found.place
