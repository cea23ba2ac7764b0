"""Fine-tune a saved Keras model after a swap of layers."""

from linearized.experiments.finetune import command

__all__ = ["command"]
