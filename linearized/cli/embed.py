"""Compute features of a kernel, shard by shard: the same as `python -m kernel_gen.embed`."""

import sys

from kernel_gen.embed import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
