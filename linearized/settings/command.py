"""The start and end of every command: flags, logging, error messages of one line, and exit codes.

Exit codes: 0, done; 2, an error that the user can correct; 75, another process is working on the same files; 130,
stopped by Ctrl-C (the same command continues where it stopped).
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from linearized.base.errors import UserError
from linearized.settings.config import Settings, parse
from linearized.settings.help import help_text

OUT_OF_MEMORY = ("ResourceExhaustedError",)  # TensorFlow's error; the message of JAX's contains RESOURCE_EXHAUSTED
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
LONGEST = 1000  # characters in a line of an error message, because what the user gave may be of any length


def run_command(
    settings_class: type[Settings], doc: str, main: Callable[[Any], Any], arguments: Sequence[str] | None = None, *,
    words: str = "",
) -> int:  # fmt: skip
    """Run a command: parse its flags, call `main(settings)`, and return its exit code.

    Errors that a user can cause are printed as one line. With `--help`, the help text is printed instead.

    Args:
        settings_class: Class of the command's settings.
        doc: Docstring of the command, which starts the text of `--help`.
        main: Function of the settings that does the work.
        arguments: Words of the command line after the program's name; None uses those of this process.
        words: Name of the setting that receives the arguments that are not flags; "" refuses such arguments.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"--help", "-h", "-help", "--helpfull"} & set(arguments):
        return guarded(lambda: print(help_text(settings_class, doc), flush=True))
    return guarded(lambda: main(parse(settings_class, arguments, words=words)))


def guarded(work: Callable[[], Any]) -> int:
    """Call `work()` and return the exit code of the command; print errors that a user can cause as one line on stderr.

    Other exceptions are re-raised.
    """
    flags.FLAGS.mark_as_parsed()  # absl does not read our flags, and would warn of logging before they are parsed
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    logging.set_stderrthreshold("info")
    try:
        work()
    except UserError as error:
        return _fail(str(error), error.code)
    except MemoryError as error:
        return _fail(f"out of memory ({error or 'no details'}). Lower --memory, --num_train or --num_units.")
    except KeyboardInterrupt:
        print("stopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        advice = "Choose" if error.errno in NOT_ALLOWED else "Free space or choose"
        return _fail(f"{error.strerror or error}{where}. {advice} another folder: in directories.txt, "
                     "$LINEARIZED_STORAGE, or the flag that names it.")  # fmt: skip
    except Exception as error:
        if type(error).__name__ not in OUT_OF_MEMORY and "RESOURCE_EXHAUSTED" not in str(error)[:100]:
            raise
        return _fail(f"out of memory ({str(error)[:200]}). Lower --max_batch_size, --num_train or --num_units.")
    return 0


def _fail(message: str, code: int = UserError.code) -> int:
    first, listed, rest = message.partition(":\n  ")  # in a list of choices each entry keeps its own line
    entries = [first + listed.rstrip(), *rest.split("\n  ")] if listed else [message]
    print("error: " + "\n  ".join(_shortened(" ".join(entry.split())) for entry in entries), file=sys.stderr)
    return code


def _shortened(text: str) -> str:
    """Return the text; if it is longer than `LONGEST`, leave out its middle."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
