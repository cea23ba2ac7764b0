"""Fine-tune a saved Keras model; `--swap` first replaces some of its layers by SNNKs, kervolutions or lambda layers."""

import sys

from linearized.experiments.finetune import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
