"""Recognition of commands of this suite, which can run in forks of a process that has imported their modules.

A command is the suite's own if this interpreter runs one of its modules (`python -m linearized train`), one of the
wrappers `train.py` and `kernel_fit.py`, or the console command `linearized`.
"""

import dataclasses
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from linearized.base.errors import UserError
from linearized.models import declaration

_FITS = (
    "linearized.data.transforms.noise",
    "linearized.experiments.least_squares_fit",
    "linearized.experiments.table",
    "linearized.report.run_pictures",
)
_GRAM = ("linearized.base.terminal", "kernel_gen.jobs.gram_job", "kernel_gen.jobs.runner")
_KERNELS = ("kernel_gen.features", "linearized.experiments.path_solve", "linearized.kernel_ridge.gram_source", *_GRAM)
MODULES = {  # subcommand -> modules that most of its runs import
    "train": ("linearized.cli.train", *_FITS),
    "krr": ("linearized.cli.krr", *_FITS, *_KERNELS),
    "theory": ("linearized.cli.theory", "linearized.experiments.theory_table", "linearized.report.theory_plots",
               "linearized.solvers.linear.eigh", *_KERNELS),
    "finetune": ("linearized.cli.finetune", *_FITS),
    "gram": _GRAM,
    "embed": (*_GRAM, "kernel_gen.features"),
}  # fmt: skip
_NAMES = {"kernel_gen": "gram", "kernel_gen.embed": "embed", "linearized.train": "train", "linearized.krr": "krr",
          "linearized.theory": "theory"}  # fmt: skip
WRAPPERS = ("train.py", "kernel_fit.py")
_WRAPPED = re.compile(r"^from linearized\.cli\.(\w+) import command$", re.MULTILINE)
FRAMEWORKS = {  # module that shows that a framework is imported -> how to import it, in this order
    "jax": "jax",
    "keras.src.backend.jax": "linearized.models.backend:import_keras_on_jax",
    "keras": "linearized.models.backend:import_keras",
    "numba": "numba",
}
OF_KERAS = ("keras", "keras.src.backend.jax")


@dataclasses.dataclass(frozen=True)
class SuiteCommand:
    """A command line that runs a subcommand of this suite, such as `python -m linearized train --model=RF`.

    Attributes:
        name: The subcommand of `linearized`, such as "train".
        python: The interpreter, as the command line names it.
        words: Words after the interpreter.
        path: Folder that the interpreter puts in sys.path[0].
    """

    name: str
    python: str
    words: tuple[str, ...]
    path: str

    @property
    def shape(self) -> tuple[str, ...]:
        """Words of the command without the flags whose values are numbers.

        Two commands of the same shape are assumed to import the same frameworks.
        """
        return tuple(word for word in self.words if not re.fullmatch(r"--\w+=[-+.,:\deE]*", word))

    def modules(self, frameworks: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the modules to import before the command is run in a fork.

        Args:
            frameworks: Frameworks, by the names of `FRAMEWORKS`, that an earlier command with the same `shape` has
                imported.
        """
        left_out = OF_KERAS if self.chooses_backend() else ()
        ahead = (how for name, how in FRAMEWORKS.items() if name in frameworks and name not in left_out)
        return (*MODULES[self.name], *ahead)

    def chooses_backend(self) -> bool:
        """Return whether the command itself chooses the backend of Keras, by numbers such as that of the epochs.

        Keras must then not be imported before the fork, because the import would decide the backend."""
        given = dict(word[2:].split("=", 1) for word in self.words if word.startswith("--") and "=" in word)
        if self.name != "train" or given.get("backend", "auto") != "auto":
            return False
        try:
            return "model" not in given or declaration(given["model"]).faster_on_jax
        except UserError:  # an unknown model, which the command refuses
            return True


def suite_command(argv: Sequence[str], folder: str, search: str) -> SuiteCommand | None:
    """Recognise a command of this suite: return it, or None for any other command.

    Subcommands that `MODULES` does not list count as other commands.

    Args:
        argv: Words of the command.
        folder: Its working folder.
        search: Its $PATH.
    """
    program = Path(shutil.which(argv[0], path=search) or "")
    if program.parent != Path(sys.executable).parent:
        return None
    if program.name == "linearized":
        return _command(argv[1:2], sys.executable, (str(program), *argv[1:]), program.resolve().parent)
    words = tuple(argv[1:])
    if not program.samefile(sys.executable) or not words or words == ("-m",):
        return None
    if words[0] == "-m":
        names = words[2:] if words[1] == "linearized" else (_NAMES.get(words[1], ""),)
        return _command(names[:1], argv[0], words, Path(folder))
    script = Path(folder, words[0])
    if script.name not in WRAPPERS or not script.is_file():
        return None
    found = _WRAPPED.search(script.read_text(errors="replace"))
    return _command(found.groups() if found else (), argv[0], words, script.resolve().parent)


def _command(name: Sequence[str], python: str, words: tuple[str, ...], path: Path) -> SuiteCommand | None:
    return SuiteCommand(name[0], python, words, str(path)) if name and name[0] in MODULES else None
