"""Choice of Keras' backend for networks that are trained by gradients."""

from typing import Any

from absl import logging

from linearized.base.accelerators import may_have_accelerator
from linearized.base.errors import UserError
from linearized.experiments.needs import epoch_operations
from linearized.models import declared
from linearized.models.backend import settled_backend
from linearized.settings.operations import WORTH_XLA

BACKENDS = ("tensorflow", "jax")
NEEDS = {  # setting -> why `--backend=jax` is refused with it
    "max_ncg_iters": "Newton-CG differentiates by TensorFlow",
    "tensorboard": "logs are written by TensorFlow",
}
NOT_MEASURED = ("tangent_at", "mixed_precision")
SMALL_BATCH = 256  # rows; at width 1,024, JAX is 11 % faster at 128 rows and 9 % slower at 1,000 than TensorFlow by XLA


def refuse_jax(config: Any) -> None:
    """Raise `UserError` for `--backend=jax` with a setting of `TrainSettings` that needs TensorFlow."""
    for name, why in NEEDS.items():
        if config.backend == "jax" and getattr(config, name):
            raise UserError(f"--{name} needs --backend=tensorflow: {why}. Received: --backend=jax.")


def chosen_backend(config: Any, rows: int, batch: int, *, alone: bool) -> tuple[str, str]:
    """Return the name of the backend for a run, and the reason for it as one line of text.

    Both are logged if the run reads `--backend`.

    Args:
        config: `TrainSettings` of the run.
        rows: Number of train rows.
        batch: Largest number of rows per batch.
        alone: Whether this process fits only this model. Otherwise the choice would also apply to its other models.

    Raises:
        UserError: If `--backend` differs from a backend that $KERAS_BACKEND, keras.json or an earlier import has set.
    """
    if config.backend == "auto":
        backend, reason = _automatic(config, rows, batch, alone)
    else:
        backend, reason = config.backend, f"--backend={config.backend}"
        if (settled := settled_backend()) not in (None, backend):
            raise UserError(
                f"Keras is on {settled} here, by $KERAS_BACKEND, keras.json or an import before. Received: {reason}. "
                f"Leave it out, or set KERAS_BACKEND={backend} in a new process."
            )
    if config.reads("backend"):
        logging.info("Keras on %s: %s", backend, reason)
    return backend, reason


def _automatic(config: Any, rows: int, batch: int, alone: bool) -> tuple[str, str]:
    if settled := settled_backend():
        return settled, "$KERAS_BACKEND, keras.json or an import before has decided it"
    needed = next((name for name in (*NEEDS, *NOT_MEASURED) if getattr(config, name)), "")
    operations = epoch_operations(config) * config.max_cg_iters * rows
    hindrances = {
        f"{config.model_name()} is not known to train faster on jax": not declared(config).faster_on_jax,
        f"--{needed} is given": needed,
        f"batches of {min(batch, rows):,} rows are not slower on it": min(batch, rows) > SMALL_BATCH,
        "this process may fit other models": not alone,
        "this machine may have an accelerator": may_have_accelerator(),
        f"{operations:.1e} operations a ridge are not worth compiling by jax": operations < WORTH_XLA,
    }
    for reason, holds in hindrances.items():
        if holds:
            return "tensorflow", reason
    return "jax", f"faster on a CPU for {operations:.1e} operations a ridge"
