"""Compute a Gram matrix, shard by shard: the same as `python -m kernel_gen`."""

import sys

from kernel_gen.__main__ import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
