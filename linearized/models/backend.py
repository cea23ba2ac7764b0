"""Functions that import Keras with a chosen backend, without start-up output except one log line.

The log line names the version of Keras, the backend and the devices. A process has one backend, which is chosen when
Keras is imported for the first time.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from linearized.base.extras import warn_of_unused_gpu


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide the standard error of a `with` block, including that of C++ code; print it if the block raises."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def settled_backend() -> str | None:
    """Return the name of the backend that Keras uses or will use, or None if this is not decided yet.

    The backend is decided if Keras is imported already, or if $KERAS_BACKEND or Keras' file `keras.json` names one. The
    entry "tensorflow" in the file decides nothing, because Keras itself writes this default.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    file = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "keras.json"
    try:
        named = json.loads(file.read_text()).get("backend") if file.is_file() else None
    except ValueError:  # Keras ignores such a file
        return None
    return None if named == "tensorflow" else named


def import_keras(preferred: str = "tensorflow") -> None:
    """Import Keras with the decided backend, see `settled_backend`, or with `preferred` if none is decided.

    The import starts no threads and uses no devices, so the process can still be forked.

    Args:
        preferred: Backend to use if none is decided, "tensorflow" or "jax".
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    chosen = {} if settled_backend() else {"KERAS_BACKEND": preferred}
    os.environ.update(chosen)
    try:
        with _quiet_stderr():
            import keras  # noqa: F401
    finally:
        for name in chosen:
            del os.environ[name]


def import_keras_on_jax() -> None:
    """Import Keras with JAX as its backend, unless another backend is decided (see `settled_backend`)."""
    import_keras("jax")


def load_backend(preferred: str = "tensorflow") -> str:
    """Import Keras, find its devices, log them, and return the name of the backend, such as "tensorflow".

    A warning is logged if the machine has a GPU that the backend does not use.

    Args:
        preferred: Backend to use if none is decided, see `import_keras`.
    """
    import_keras(preferred)
    with _quiet_stderr():
        import keras

        keras.ops.convert_to_numpy(keras.ops.zeros(1))  # the first operation searches for devices and prints messages
        devices = keras.distribution.list_devices()
    logging.info("Keras %s on %s, devices: %s", keras.__version__, keras.backend.backend(), ", ".join(devices))
    warn_of_unused_gpu(keras.backend.backend(), devices)
    return keras.backend.backend()
