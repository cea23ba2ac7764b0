"""Functions that find Keras' cache of downloaded data sets, and download data sets into it.

Keras downloads in a child process, because no module of `linearized.data` imports a framework.
"""

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
    """Return the folders in which Keras stores data sets, below `$KERAS_HOME` or `~/.keras`.

    If that place is read-only, a second folder follows, below the system's folder of temporary files, which Keras then
    uses.
    """
    home = expanded(os.environ.get("KERAS_HOME") or "~/.keras", "$KERAS_HOME")
    if home.is_dir() and not os.access(home, os.W_OK):
        return [home / "datasets", Path(tempfile.gettempdir()) / ".keras" / "datasets"]
    return [home / "datasets"]


def download(name: str) -> None:
    """Download the data set `keras.datasets.<name>` into Keras' cache.

    Raises `UserError` with the last line of Keras' output if that fails.
    """
    logging.info("Downloading %s by Keras (a minute or more) ...", name)
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    command = [sys.executable, "-c", _CHILD.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"Keras could not download {name} ({last}).")


def fetched(files: RawFiles, title: str, name: str, directory: Path) -> Path:
    """Download a data set by Keras, and return the folder or archive where its files are then found.

    Args:
        files: Object that finds the raw files of the data set.
        title: The data set's name for the error message.
        name: Its name in `keras.datasets`.
        directory: Folder of raw data, where the search begins.

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
