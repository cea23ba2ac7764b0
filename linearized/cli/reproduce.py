"""Make a figure of Ghorbani et al. (arXiv 2006.13409), or one of the suite's own."""

import sys

from linearized.report.reproduce import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
