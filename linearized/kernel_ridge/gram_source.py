"""The Gram matrix of a kernel on a dataset: found in its folder, or made there by a command of its own.

Every Gram matrix takes one road: `python -m kernel_gen` writes shards, `linearized.open_gram` reads them. What this
process needs and does not find is made by a child process with that command, so that the next fit finds it.
"""

import codecs
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

import linearized
from linearized.base.child_processes import end_with_parent
from linearized.base.errors import TryLater, UserError
from linearized.base.own_functions import folders
from linearized.data.dataset import Dataset
from linearized.data.own.memory import keep
from linearized.settings.gram_settings import GramSettings, KernelSettings
from linearized.storage.gram import Gram, open_gram
from linearized.storage.manifest import load_manifest, refuse_changed_code

_ROOT = Path(linearized.__file__).resolve().parent.parent  # where the packages lie
WAIT = 10  # seconds for another process on a shard: one that is being killed needs a moment to end
_LAST_WORDS = 2000  # characters of a child's output that are kept
_ERROR = "error: "  # start of the line in which a command of this suite says why it fails


def find_or_make(
    settings: Any, dataset: Dataset, *, opened: Callable = open_gram, module: str = "kernel_gen"
) -> tuple[Any, bool]:  # fmt: skip
    """Return the matrix (or the embedding) that the settings name, and whether it had to be made.

    `python -m kernel_gen` makes it where it is not ready.

    Args:
        dataset: What the settings' `data()` gives: its fingerprint is compared.
        opened: Opens the folder: `open_gram`, or `linearized.storage.embeddings.open_embedding`.
        module: Of the command that fills it.

    Raises `UserError` with the command's last words if it fails. What it had finished is kept.
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
    """Open the matrix in a folder of shards, which must be of the dataset's rows.

    Args:
        asked: Kernel settings of the command line; those not at their defaults must be the matrix'.

    Raises `UserError` if it is of other rows, another noise level or another kernel.
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
    """Return the settings that the matrix in a folder of shards was made with. Reads `gram.json` alone."""
    manifest = load_manifest(folder)
    try:
        return GramSettings.from_saved(manifest.current_settings())
    except UserError as error:
        raise UserError(f"{folder} was made with settings that this version does not know: {error}") from error


def run_child(words: list[str], command: str) -> None:
    """Runs a command of this suite; what it writes appears on stderr as it comes.

    It ends with this process, however that ends (Linux' parent-death signal). Raises `UserError` with its last words if
    its exit code is not 0.

    Args:
        command: What a user would type.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *folders(), os.environ.get("PYTHONPATH", "")]),
    }
    if sys.stderr.isatty():  # its progress lines are drawn as if it had the terminal itself
        environment |= {"FORCE_COLOR": "1", "COLUMNS": str(os.get_terminal_size(sys.stderr.fileno()).columns)}
    decoder, words_left = codecs.getincrementaldecoder("utf-8")("replace"), ""
    pending = ""  # the end of its output that is not shown yet
    child = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=end_with_parent()
    )
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
        lines = [line.strip() for line in words_left.splitlines() if line.strip()] or ["nothing was said"]
        last = next((line for line in reversed(lines) if line.startswith(_ERROR)), lines[-1])
        kind = TryLater if code == TryLater.code else UserError
        raise kind(f"{command} ended with exit code {code}: {last.removeprefix(_ERROR)}")


def _held_back(text: str) -> str:
    """Return the end of a text that is, or may become, the line of an error, which is told by our own."""
    last = text[text.rfind("\n") + 1 :]
    return last if last and (last.startswith(_ERROR) or _ERROR.startswith(last)) else ""


def _show(text: str) -> None:
    """Write a child's output to stderr without the lines of errors and what `_held_back` keeps."""
    text = text[: len(text) - len(_held_back(text))]
    lines = text.splitlines(keepends=True)
    sys.stderr.write("".join(line for line in lines if not line.startswith(_ERROR)))
    sys.stderr.flush()
