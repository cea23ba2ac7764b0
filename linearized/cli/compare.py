"""Train several models and put them side by side."""

from linearized.experiments.compare import command

__all__ = ["command"]
