"""Gram matrix of a kernel on a dataset: loaded from its folder, or computed there by a child process.

Commands that fit kernels, such as `linearized krr`, call these functions. All Gram matrices are written as shards by
`python -m kernel_gen` and read by `linearized.open_gram`. If a matrix does not exist yet, a child process runs this
command, and the next fit finds the matrix.
"""

import codecs
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

import linearized
from linearized.base.errors import TryLater, UserError
from linearized.base.own_functions import folders
from linearized.base.suite_children import start_suite_command
from linearized.data.dataset import Dataset
from linearized.data.own.memory import keep
from linearized.settings.gram_settings import GramSettings, KernelSettings
from linearized.storage.gram import Gram, open_gram
from linearized.storage.manifest import load_manifest, refuse_changed_code

_ROOT = Path(linearized.__file__).resolve().parent.parent  # folder of the packages
WAIT = 10  # seconds to wait for another process that holds a shard, which may be about to exit
_LAST_WORDS = 2000  # characters of a child's output that are kept
_ERROR = "error: "  # prefix of the line in which a command of this suite reports its failure


def find_or_make(
    settings: Any, dataset: Dataset, *, opened: Callable = open_gram, module: str = "kernel_gen"
) -> tuple[Any, bool]:  # fmt: skip
    """Return the Gram matrix or the embedding that settings specify, and whether it had to be computed.

    If shards are missing, a child process computes them.

    Args:
        settings: Settings of the Gram matrix or embedding, which determine its folder.
        dataset: Dataset of the settings. Its fingerprint must be that of the rows from which the shards were computed.
        opened: Function that opens the folder: `open_gram`, or `linearized.storage.embeddings.open_embedding`.
        module: Module of the command that fills the folder.

    Raises:
        UserError: If the command fails; the message contains its last line of output. Finished shards are kept.
    """
    folder = settings.path()
    try:
        return opened(folder, fingerprint=dataset.fingerprint), False
    except UserError as error:
        logging.info("%s", error)
    keep(settings.data)
    logging.info("making it: %s", settings.command())
    run_child([sys.executable, "-m", module, *settings.flags(), f"--wait={WAIT}"], settings.command())
    return opened(folder, fingerprint=dataset.fingerprint), True


def open_folder(folder: Path | str, dataset: Dataset, asked: KernelSettings) -> Gram:
    """Open the matrix in a folder of shards, which must belong to the dataset's rows.

    Args:
        folder: Folder of shards.
        dataset: Dataset of the labels. Its fingerprint must be that of the rows from which the matrix was computed.
        asked: Kernel settings of the command line; values that are not defaults must equal the settings of the matrix.

    Raises:
        UserError: If the rows, the noise level or the kernel differ, if the code of the user's own kernel function has
            changed since the matrix was computed, and if the folder cannot be read.
    """
    manifest, made = load_manifest(folder), settings_of(folder)
    if manifest.fingerprint != dataset.fingerprint:
        names = ("dataset", "noise_ind", "num_train", "num_test", "validation", "subset", "seed")
        flags = " ".join(f"--{name}={getattr(made, name)}" for name in names)
        raise UserError(
            f"{folder} is of other rows than the labels (fingerprint {manifest.fingerprint}, not "
            f"{dataset.fingerprint}). It was made with {flags}."
        )
    for name, default in KernelSettings().to_dict().items():
        received = getattr(asked, name)
        if received not in (default, getattr(made, name)):
            raise UserError(f"{folder} was made with --{name}={getattr(made, name)}. Received: --{name}={received}.")
    refuse_changed_code(folder, manifest, made)
    return open_gram(folder)


def settings_of(folder: Path | str) -> GramSettings:
    """Return the settings with which the matrix in a folder of shards was computed, from its file `gram.json`.

    Raises:
        UserError: If the file cannot be read, or was written with settings that this version does not have.
    """
    manifest = load_manifest(folder)
    try:
        return GramSettings.from_saved(manifest.current_settings())
    except UserError as error:
        raise UserError(f"{folder} was made with settings that this version does not know: {error}") from error


def run_child(words: list[str], command: str) -> None:
    """Run a command of this package in a child process, and copy its output to stderr as it is written.

    The child ends when this process ends for any reason (Linux' parent-death signal).

    Args:
        words: Program and arguments.
        command: The command as a user would type it, for error messages.

    Raises:
        TryLater: If the command ends with the exit code `TryLater.code`, which means that a later attempt may succeed.
        UserError: If the command ends with any other exit code than 0.

    The message of either error contains the error line of the output, or else its last line.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *folders(), os.environ.get("PYTHONPATH", "")]),
    }
    if sys.stderr.isatty():  # so that the child draws progress lines as on a terminal
        environment |= {"FORCE_COLOR": "1", "COLUMNS": str(os.get_terminal_size(sys.stderr.fileno()).columns)}
    decoder, words_left = codecs.getincrementaldecoder("utf-8")("replace"), ""
    pending = ""  # end of its output that is not shown yet
    child = start_suite_command(words, environment)
    try:
        while chunk := child.stdout.read1(2**16):
            text = decoder.decode(chunk)
            _show(pending + text)
            pending = _held_back(pending + text)
            words_left = (words_left + text)[-_LAST_WORDS:]
        code = child.wait()
    finally:
        child.terminate()
        child.stdout.close()
        child.wait()
    if code:
        lines = [line.strip() for line in words_left.splitlines() if line.strip()] or ["it printed nothing"]
        last = next((line for line in reversed(lines) if line.startswith(_ERROR)), lines[-1])
        kind = TryLater if code == TryLater.code else UserError
        raise kind(f"{command} ended with exit code {code}: {last.removeprefix(_ERROR)}")


def _held_back(text: str) -> str:
    """Return the last line of a child's output if it is, or may become, a line that starts with "error: "; else "".

    Such lines are not shown at once, because this process reports the error itself.
    """
    last = text[text.rfind("\n") + 1 :]
    return last if last and (last.startswith(_ERROR) or _ERROR.startswith(last)) else ""


def _show(text: str) -> None:
    """Write a child's output to stderr, without lines that start with "error: " and what `_held_back` returns."""
    text = text[: len(text) - len(_held_back(text))]
    lines = text.splitlines(keepends=True)
    sys.stderr.write("".join(line for line in lines if not line.startswith(_ERROR)))
    sys.stderr.flush()
