"""Fine-tune a saved Keras model, of which `--swap` can first replace layers by SNNKs, kervolutions or lambda layers."""

import sys

from linearized.experiments.finetune import command

__all__ = ["command"]


if __name__ == "__main__":
    sys.exit(command())
