"""Import of Keras and its backend without their start-up output; one log line names the versions and devices."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging

from linearized.base.extras import warn_of_unused_gpu


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what C++ code writes to file descriptor 2; write it if the block fails."""
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
    """Import Keras on the backend of $KERAS_BACKEND (default: TensorFlow); start no thread and ask for no device."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        import keras  # noqa: F401


def load_backend() -> str:
    """Import Keras, find its devices, and return the name of its backend."""
    import_keras()
    with _quiet_stderr():
        import keras

        keras.ops.convert_to_numpy(keras.ops.zeros(1))  # the first operation searches for devices and prints messages
        devices = keras.distribution.list_devices()
    logging.info("Keras %s on %s, devices: %s", keras.__version__, keras.backend.backend(), ", ".join(devices))
    warn_of_unused_gpu(keras.backend.backend(), devices)
    return keras.backend.backend()
