"""Import of Keras without its start-up output; one log line names the version, the backend and the devices."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging

from linearized.base.extras import warn_of_unused_gpu


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what C++ code prints to standard error in a `with` block; print it only if the block raises an exception."""
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


def import_keras() -> None:
    """Import Keras with the backend that $KERAS_BACKEND names (default: TensorFlow).

    No threads are started and no devices are used, so the process can still be forked.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        import keras  # noqa: F401


def load_backend() -> str:
    """Import Keras, find its devices, log them, and return the name of the backend, such as "tensorflow".

    A warning is logged if the machine has a GPU that the backend does not use.
    """
    import_keras()
    with _quiet_stderr():
        import keras

        keras.ops.convert_to_numpy(keras.ops.zeros(1))  # the first operation searches for devices and prints messages
        devices = keras.distribution.list_devices()
    logging.info("Keras %s on %s, devices: %s", keras.__version__, keras.backend.backend(), ", ".join(devices))
    warn_of_unused_gpu(keras.backend.backend(), devices)
    return keras.backend.backend()
