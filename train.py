"""The same as `linearized train`, from the repository's folder: python train.py --help lists the flags."""

import sys

from linearized.cli.train import command

if __name__ == "__main__":
    sys.exit(command())
