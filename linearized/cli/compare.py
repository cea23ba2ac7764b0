"""Train several models on the same data and compare them."""

import sys

from linearized.experiments.compare import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
