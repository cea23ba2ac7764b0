"""How every command starts and ends: flags, logging, one clear line for what a user can mend, exit codes.

0 done; 2 the user can mend it; 75 another process is at work on it; 130 stopped by Ctrl-C (the same command goes on).
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

OUT_OF_MEMORY = ("ResourceExhaustedError",)  # TensorFlow's; JAX says RESOURCE_EXHAUSTED
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
LONGEST = 1000  # characters of a line of an error: what came in may be of any length


def run_command(
    settings_class: type[Settings], doc: str, main: Callable[[Any], Any], arguments: Sequence[str] | None = None, *,
    words: str = "",
) -> int:  # fmt: skip
    """Parse the flags, call `main(settings)`, and turn errors that a user can cause into one line and a code.

    Args:
        words: The setting that takes arguments which are no flags; "": they are refused.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"--help", "-h", "-help", "--helpfull"} & set(arguments):
        return guarded(lambda: print(help_text(settings_class, doc), flush=True))
    return guarded(lambda: main(parse(settings_class, arguments, words=words)))


def guarded(work: Callable[[], Any]) -> int:
    """Calls `work`; its errors become one line on stderr and an exit code."""
    flags.FLAGS.mark_as_parsed()  # ours are kept elsewhere; absl would warn of logging before they are parsed
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
    first, listed, rest = message.partition(":\n  ")  # a list of choices keeps a line each
    entries = [first + listed.rstrip(), *rest.split("\n  ")] if listed else [message]
    print("error: " + "\n  ".join(_shortened(" ".join(entry.split())) for entry in entries), file=sys.stderr)
    return code


def _shortened(text: str) -> str:
    """Return the text, with its middle left out where it is longer than `LONGEST`."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
