"""Make a figure of the published experiment."""

import sys

from linearized.report.reproduce import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
