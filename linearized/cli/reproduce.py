"""Make a figure of the published experiment."""

from linearized.report.reproduce import command

__all__ = ["command"]
