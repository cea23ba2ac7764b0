"""Print how much of a Gram matrix or of features has been made: the same as `python -m kernel_gen.status`."""

import sys

from kernel_gen.status import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
