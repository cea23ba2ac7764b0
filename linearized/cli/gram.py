"""Compute a Gram matrix, shard by shard: the same as `python -m kernel_gen`."""

from kernel_gen.__main__ import command

__all__ = ["command"]
