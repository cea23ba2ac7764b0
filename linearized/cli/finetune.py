"""Replace layers of a saved Keras model by others (such as SNNKs or adapters), and fine-tune it."""

import sys

from linearized.experiments.finetune import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
