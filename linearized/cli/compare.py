"""Train several models and put them side by side."""

import sys

from linearized.experiments.compare import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
