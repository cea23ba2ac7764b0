"""The console command `linearized`, with one module per subcommand.

Each module has a function `command(arguments)` that runs the subcommand and returns its exit code.
"""

import importlib
import sys
from collections.abc import Sequence

from linearized.base.nearest import hint

COMMANDS = {
    "train": "train a model, for one ridge or a grid (python train.py)",
    "krr": "kernel ridge regression over a grid of ridges (python kernel_fit.py)",
    "gram": "compute a Gram matrix in shards (python -m kernel_gen)",
    "embed": "compute features of a kernel in shards (python -m kernel_gen.embed)",
    "status": "what there is of a Gram matrix or of features (python -m kernel_gen.status)",
    "data": "list the data sets, or get one",
    "theory": "predict the error of kernel ridge regression from the kernel's spectrum",
    "compare": "train several models and put them side by side",
    "finetune": "fine-tune a saved Keras model after a swap of layers",
    "report": "draw results: one page, or one picture",
    "reproduce": "make a figure of the published experiment",
    "launch": "run commands on this machine's cores, on Slurm or on a Dask scheduler",
}


def usage() -> str:
    """Return the text that `linearized --help` prints: the subcommands, each with a short description."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "linearized COMMAND [--flag=value ...]",
            "",
            "When do neural networks outperform kernel methods, and what can be linearized without loss?",
            "",
            *lines,
            "",
            "linearized COMMAND --help lists the flags of a command; linearized --version prints the version.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that the first argument names, and return its exit code.

    Args:
        arguments: Words of the command line after `linearized`; None: the command line of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("--help", "-h", "help"):
        print(usage())
        return 0 if words else 2
    name, rest = words[0], words[1:]
    if name == "--version":
        from importlib.metadata import version  # slow to import

        print(version("linearized"))
        return 0
    if name not in COMMANDS:
        print(f"error: Unknown command {name[:60]!r}.{hint(name, COMMANDS)} The commands are: {', '.join(COMMANDS)}.",
              file=sys.stderr)  # fmt: skip
        return 2
    return importlib.import_module(f"linearized.cli.{name}").command(rest)
