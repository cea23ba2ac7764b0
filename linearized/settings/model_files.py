"""Flags whose value is the path of a saved Keras model.

In the key of a run, a digest of the file's content replaces the path.
"""

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
    """Return the sentence of error messages that says what to do if the model file `path` is missing.

    For the model of a finished run, the sentence states that the run may have been made with `--no_model`.
    """
    path = Path(path)
    if path.name == MODEL_FILE and (path.parent / "result.json").is_file():
        return f"The run in this folder was made with --no_model, or its model was removed. {NO_MODEL_ADVICE}"
    return ADVICE


class ModelFiles(Registry):
    """Registry for a flag whose value is the path of a `.keras` file or, if the registry has names, one of the names.

    A registry without names also accepts an empty text, which stands for no file.
    """

    @staticmethod
    def is_file(name: str) -> bool:
        """Return whether a value of the flag is the path of a model file."""
        return name.lower().endswith(SUFFIX)

    def canonical(self, name: str) -> str:
        """Return the canonical spelling of a name of the registry, or a path unchanged; no file is read.

        Raises `UserError` for an unknown name, and for a path without the suffix `.keras`.
        """
        if self.is_file(name) or (not name and not len(self)):
            return name
        if not len(self):
            raise UserError(f"a saved Keras model is a {SUFFIX} file. {ADVICE} Received: {shown(name)}.")
        return super().canonical(name)

    def source_digest(self, name: str) -> str | None:
        """Return the digest of the content of a model file; None for other values.

        Raises `Absent` for a missing file, and `Unreadable` for one that cannot be read.
        """
        return MECHANISM.load("file_digest")(name, "a saved model", advice(name)) if self.is_file(name) else None
