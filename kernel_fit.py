"""The same as `linearized krr`, from the repository's folder: python kernel_fit.py --help lists the flags."""

import sys

from linearized.cli.krr import command

if __name__ == "__main__":
    sys.exit(command())
