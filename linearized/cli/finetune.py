"""Fine-tune a saved Keras model after a swap of layers."""

import sys

from linearized.experiments.finetune import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
