"""Parametrizations of NN and CNN: how initial weights, outputs and learning rates depend on the width of a network.

A layer computes c·(x W) with initial weights W ~ N(0, s²), and momentum SGD trains W at the rate r·learning_rate. n is
the layer's number of inputs (for a convolution 9 times the input channels), and m is its number of outputs (channels).
The first layer is "input", the last one "readout", and all others are "hidden".

| parametrization | layer   | s²  | c    | r   |
|-----------------|---------|-----|------|-----|
| standard        | input   | 1/n | 1    | 1   |
| standard        | hidden  | 1/n | 1    | 1   |
| standard        | readout | 1/n | 1    | 1   |
| ntk             | input   | 1   | 1/√n | 1   |
| ntk             | hidden  | 1   | 1/√n | 1   |
| ntk             | readout | 1   | 1/√n | 1   |
| mean_field      | input   | 1   | 1/√n | m   |
| mean_field      | hidden  | 1   | 1/n  | n·m |
| mean_field      | readout | 1   | 1/n  | n   |
| mup             | input   | 1   | 1/√n | m   |
| mup             | hidden  | 1   | 1/√n | m   |
| mup             | readout | 1   | 1/n  | n   |

The triples (c, s², r) and (c/θ, s²θ², rθ²) give the same training for every θ > 0 (Yang & Hu).

The networks of arXiv 2006.13409 ("published") follow none of the four exactly. NN (`linearized.layers.mean_field`) is
mean_field with biases and two changes. The first layer has s² = 1/n, c = 1 and r = m, which is n times the
rate that would be equivalent to the table. The rate of the readout is multiplied by the number of outputs. CNN is
standard with biases and s² = 2/(9m), He's variance by fan-out, in every convolution.

Sources: Yang & Hu (ICML 2021, arXiv 2011.14522) for the equivalence and mup; Jacot et al. (NeurIPS 2018) for ntk; Mei,
Montanari & Nguyen (PNAS 2018) for mean_field.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from linearized.base.errors import UserError

if TYPE_CHECKING:
    import keras

ROLES = ("input", "hidden", "readout")
Entry = tuple[Callable[[int], float], Callable[[int], float], Callable[[int, int], float]]


def _one(_n: int) -> float:
    return 1.0


def _inverse(n: int) -> float:
    return 1 / n


def _root(n: int) -> float:
    return 1 / math.sqrt(n)


def _fan_in(n: int, _m: int) -> float:
    return float(n)


def _fan_out(_n: int, m: int) -> float:
    return float(m)


def _both(n: int, m: int) -> float:
    return float(n * m)


def _neither(_n: int, _m: int) -> float:
    return 1.0


# Parametrization -> role -> s²(n), c(n), r(n, m)
TABLE: dict[str, dict[str, Entry]] = {
    "standard": dict.fromkeys(ROLES, (_inverse, _one, _neither)),
    "ntk": dict.fromkeys(ROLES, (_one, _root, _neither)),
    "mean_field": {
        "input": (_one, _root, _fan_out), "hidden": (_one, _inverse, _both), "readout": (_one, _inverse, _fan_in)
    },
    "mup": {
        "input": (_one, _root, _fan_out), "hidden": (_one, _root, _fan_out), "readout": (_one, _inverse, _fan_in)
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Rule:
    """Scale factors of one layer, which computes c·(x W) with initial weights W ~ N(0, s²).

    Attributes:
        stddev: s, the standard deviation of the initial weights.
        multiplier: c, the factor of the layer's inputs.
        rate: r, the factor of the learning rate of W.
    """

    stddev: float
    multiplier: float
    rate: float


def rule(parametrization: str, role: str, fan_in: int, fan_out: int) -> Rule:
    """Return the scale factors of one layer: one row of the table in the module's docstring.

    Args:
        parametrization: "standard", "ntk", "mean_field" or "mup".
        role: "input", "hidden" or "readout".
        fan_in: n, the number of inputs of the layer.
        fan_out: m, the number of outputs of the layer.
    """
    variance, multiplier, rate = TABLE[parametrization][role]
    return Rule(math.sqrt(variance(fan_in)), multiplier(fan_in), rate(fan_in, fan_out))


class Scaling:
    """Parametrization of one network h(x; w) and the scale α of its outputs (Chizat, Oyallon & Bach, NeurIPS 2019).

    With an output scale α the outputs are f = α h(x; w), and training minimises (loss + penalty) / α². Every gradient
    is thus multiplied by 1/α², so that f changes at a rate that does not depend on α while the weights w move by
    O(1/α). The units of the last hidden layer start in pairs: both units of a pair have equal input weights and
    opposite readout weights. Their contributions cancel, so that f is 0 at the start for every α.

    Args:
        config: Settings parametrization, output_scale (α; None: the outputs are h(x; w), and all weights are
            independent) and seed.
    """

    def __init__(self, config: Any):
        self.name, self.alpha, self.seed = config.parametrization, config.output_scale, config.seed
        self.published = self.name == "published"

    def layer(
        self, x: Any, made: Callable[..., "keras.layers.Layer"], role: str, fan_in: int, fan_out: int, *, number: int,
        ridge: float = 0.0, paired: str = "", **more: Any,
    ) -> Any:  # fmt: skip
        """Add one layer without a bias to the network, scaled by the parametrization, and return its outputs.

        The layer computes activation(c·(x W)) with initial weights W ~ N(0, s²). W is trained at r times the learning
        rate, or r/α² times with an output scale α. `rule` returns c, s and r for the role and the size of the layer.

        Args:
            x: Inputs of the layer.
            made: Class of the layer, such as `linearized.layers.RatedDense`.
            role: "input" for the first layer, "readout" for the last, "hidden" for all others.
            fan_in: Number of inputs of the layer, for a convolution 9 times the input channels.
            fan_out: Number of outputs (channels) of the layer.
            number: Index of the layer, part of the random-number seed of its weights.
            ridge: λ of the penalty (λ/r) ‖W‖². The division by r makes the weights of all layers decay at the same
                rate.
            paired: Axis along which initial weights form pairs if the network has an output scale: "outputs" for the
                last hidden layer, where the weights of a pair are equal; "inputs" for the readout, where they are
                opposite; "" for all other layers.
            **more: Further arguments of the layer's class, such as its name and number of units.
        """
        import keras

        from linearized.layers.initializers import SeededNormal
        from linearized.models.common import penalty

        entry = rule(self.name, role, fan_in, fan_out)
        if entry.multiplier != 1:
            x = keras.layers.Rescaling(entry.multiplier, dtype=more.get("dtype"), name=f"times_{more['name']}")(x)
        start = SeededNormal(entry.stddev, (self.seed, number), paired if self.alpha else "")
        return made(
            use_bias=False, kernel_initializer=start, rate=entry.rate / (self.alpha or 1) ** 2,
            kernel_regularizer=penalty(ridge / entry.rate), **more,
        )(x)  # fmt: skip

    def readout(self, x: Any, outputs: int, *, number: int) -> Any:
        """Add the last layer of the network, which is linear, and return the network's outputs in float32.

        With an output scale α, the outputs are multiplied by α.

        Args:
            x: Outputs (n, p) of the last hidden layer.
            outputs: Number of outputs.
            number: Index of the layer, part of the random-number seed of its weights.
        """
        import keras

        from linearized.layers.rated import RatedDense

        width = x.shape[-1]
        y = self.layer(
            x, RatedDense, "readout", width, outputs, number=number, paired="inputs", units=outputs, dtype="float32",
            name="readout",
        )  # fmt: skip
        return y if self.alpha is None else keras.layers.Rescaling(self.alpha, dtype="float32", name="alpha")(y)


def check_pairs(config: Any) -> None:
    """Raise `UserError` if an output scale is set and the number of units is odd.

    With an output scale, the units of the last hidden layer start in pairs that cancel each other in the output. The
    two units of a pair have equal input weights and opposite readout weights (see `Scaling`).

    Args:
        config: Settings output_scale and num_units.
    """
    if config.output_scale is not None and config.num_units % 2:
        raise UserError("--output_scale draws the units in pairs, and needs an even --num_units. "
                        f"Received: --num_units={config.num_units}.")  # fmt: skip
