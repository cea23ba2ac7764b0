"""Scalar functions over a passed namespace (numpy, jax.numpy, keras.ops): the one thing both sides share."""

from typing import Any


def relu(x: Any, xp: Any) -> Any:
    """max(x, 0), entry by entry."""
    return xp.maximum(x, 0)


def step(x: Any, xp: Any) -> Any:
    """The slope of the ReLU, ½(sign(x) + 1): ½ at 0, as published."""
    return 0.5 * (xp.sign(x) + 1)
