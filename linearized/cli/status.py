"""Print what there is of a Gram matrix or of features: the same as `python -m kernel_gen.status`."""

from kernel_gen.status import command

__all__ = ["command"]
