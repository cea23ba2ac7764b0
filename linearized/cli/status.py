"""Print what there is of a Gram matrix or of features: the same as `python -m kernel_gen.status`."""

import sys

from kernel_gen.status import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
