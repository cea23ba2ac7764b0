"""Flags that take the path of a saved Keras model; in a run's name its content replaces the path."""

from pathlib import Path

from linearized.base.errors import UserError, shown
from linearized.base.registry import Registry
from linearized.settings.own_settings import MECHANISM

SUFFIX = ".keras"
ADVICE = "Save a model with model.save('name.keras')."
MODEL_FILE = "model.keras"  # name of the fitted model in the folder of a run
NO_MODEL_HELP = f"do not write {MODEL_FILE}, the fitted model, as for sweeps"
NO_MODEL_ADVICE = "To have it, remove the run's folder and run its command again without --no_model."
LEFT_OUT = f"{MODEL_FILE} is not there: the run was made with --no_model. {NO_MODEL_ADVICE}"
VARIABLES_HELP = (
    "EMPIRICAL, --linearize: the variables that take part, by parts of their paths with commas, such as "
    "dense_1,head/kernel; -name leaves one out, * is any text; last_layer: those of the last layer; empty: all "
    "that are trainable"
)


def advice(path: Path | str) -> str:
    """Return what to do if the model file `path` is missing; that of a run may have been left out on purpose."""
    path = Path(path)
    if path.name == MODEL_FILE and (path.parent / "result.json").is_file():
        return f"The run in this folder was made with --no_model, or its model was removed. {NO_MODEL_ADVICE}"
    return ADVICE


class ModelFiles(Registry):
    """Choices of a flag that takes paths of `.keras` files, or names in the table if it has any; "" is no file."""

    @staticmethod
    def is_file(name: str) -> bool:
        """Return whether a value of the flag is the path of a model file."""
        return name.lower().endswith(SUFFIX)

    def canonical(self, name: str) -> str:
        """Return the name as `Registry` does; return paths unchanged, as files are read only when needed."""
        if self.is_file(name) or (not name and not len(self)):
            return name
        if not len(self):
            raise UserError(f"a saved Keras model is a {SUFFIX} file. {ADVICE} Received: {shown(name)}.")
        return super().canonical(name)

    def source_digest(self, name: str) -> str | None:
        """Return the digest of a model file; None for other names. Raises `Absent` or `Unreadable`."""
        return MECHANISM.load("file_digest")(name, "a saved model", advice(name)) if self.is_file(name) else None
