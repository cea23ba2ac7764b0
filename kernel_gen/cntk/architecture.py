"""Descriptions of convolutional networks, for the computation of their convolutional neural tangent kernel (CNTK).

A network is a tuple of steps: `Conv` (3x3, stride 1, SAME padding), `Relu`, `AvgPool`, and at the end the head, which
is `Flatten` or `GlobalAvgPool`. A dense readout follows the head. The kernel is computed one `Stage` after another. A
stage consists of the layers on images of one size: convolutions, each followed by its ReLU, and then one average pool.

A covariance between pixels i of one image and i' of another has an offset i' - i. Only pooling couples different
offsets. Therefore a stage also stores its `reach`, the largest offset whose covariances affect the head. The reach is 0
before Flatten. Before a pool of side p it is p·r + p - 1, where r is the reach after the pool.
"""

import dataclasses

from linearized.base.errors import UserError
from linearized.settings.memory import MYRTLE_CONVS


@dataclasses.dataclass(frozen=True)
class Conv:
    """A step of a network: a 3x3 convolution with stride 1 and zeros around the image."""


@dataclasses.dataclass(frozen=True)
class Relu:
    """A step of a network: the activation max(x, 0), unless a kernel uses another one."""


@dataclasses.dataclass(frozen=True)
class AvgPool:
    """A step of a network: average pooling over `side` x `side` pixels with stride `side`.

    Attributes:
        side: Side of the pool.
    """

    side: int = 2


@dataclasses.dataclass(frozen=True)
class Flatten:
    """The last step of a network (its head) in which every pixel has its own readout weights."""


@dataclasses.dataclass(frozen=True)
class GlobalAvgPool:
    """The last step of a network (its head) that averages over all pixels."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a network with one image size: convolutions, each with its ReLU, and the average pool after them.

    Attributes:
        height: Height of the images.
        width: Width of the images.
        convs: Number of pairs of convolution and ReLU.
        pool: Sides (down, across) of the pool, which are also its strides; (1, 1) for none.
        reach: For each axis the largest offset `|i' - i|` at which the covariance between pixels i and i' of two images
            is needed in the stage.
    """

    height: int
    width: int
    convs: int
    pool: tuple[int, int]
    reach: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A convolutional network up to its dense readout, as a tuple of steps.

    Every convolution is followed by a ReLU, and every ReLU follows a convolution.

    Attributes:
        name: Name of the network in messages.
        steps: The layers in their order; the last one is the head.

    Raises `ValueError` for steps that have no head at the end or do not pair each convolution with a ReLU.
    """

    name: str
    steps: tuple[Conv | Relu | AvgPool | Flatten | GlobalAvgPool, ...]

    def __post_init__(self):
        *body, head = self.steps or (None,)
        if not isinstance(head, Flatten | GlobalAvgPool) or any(isinstance(x, Flatten | GlobalAvgPool) for x in body):
            raise ValueError(f"{self.name} must end with one head, Flatten or GlobalAvgPool. Received: {self.steps}.")
        pairs = zip(body, [*body[1:], None], strict=True)
        if any(isinstance(step, Conv) != isinstance(following, Relu) for step, following in pairs) or (
            body and isinstance(body[0], Relu)
        ):
            raise ValueError(f"{self.name} needs one Relu after each Conv and no other. Received: {self.steps}.")

    @property
    def convs(self) -> int:
        """The number of convolutions."""
        return sum(isinstance(step, Conv) for step in self.steps)

    def stages(self, height: int, width: int) -> tuple[Stage, ...]:
        """Return the network on images of `height` x `width` pixels, divided into stages of one image size each.

        Raises `UserError`, which names the image size and the pool, if a pool does not divide its image.
        """
        here, cut, convs, pool = (height, width), [], 0, (1, 1)
        for step in self.steps:
            if isinstance(step, Conv):
                if pool != (1, 1):  # the pooled image begins a new stage
                    cut.append((*here, convs, pool))
                    here, convs, pool = _divided(here, pool), 0, (1, 1)
                convs += 1
            elif isinstance(step, AvgPool):
                self._check((height, width), _divided(here, pool), step.side)
                pool = (pool[0] * step.side, pool[1] * step.side)
            elif isinstance(step, GlobalAvgPool):
                pool = here
        cut.append((*here, convs, pool))
        stages, reach = [], (0, 0)
        for high, wide, count, (down, across) in reversed(cut):
            reach = min(down * reach[0] + down - 1, high - 1), min(across * reach[1] + across - 1, wide - 1)
            stages.append(Stage(high, wide, count, (down, across), reach))
        return tuple(reversed(stages))

    def _check(self, image: tuple[int, int], here: tuple[int, int], side: int) -> None:
        if min(here) < side or here[0] % side or here[1] % side:
            raise UserError(
                f"{self.name} cannot take images of {image[0]}x{image[1]}: a pool of {side}x{side} does "
                f"not divide {here[0]}x{here[1]}, their size before that pool. Crop or pad the images, or use "
                "--head=gap or --head=flatten, which have no pools."
            )


def _divided(size: tuple[int, int], pool: tuple[int, int]) -> tuple[int, int]:
    return size[0] // pool[0], size[1] // pool[1]


def myrtle(depth: int) -> Architecture:
    """Return the network Myrtle-5, Myrtle-7 or Myrtle-10; `depth` is 5, 7 or 10.

    It has three groups of convolutions with a 2x2 pool after each, two more pools, and flattening; the readout counts
    as a layer of `depth`. Source: Shankar et al., Neural Kernels Without Tangents, 2020.

    Raises `UserError` for any other depth.
    """
    if depth not in MYRTLE_CONVS:
        raise UserError(f"Myrtle networks have a --depth of 5, 7 or 10. Received: {depth}.")
    steps = []
    for convs in MYRTLE_CONVS[depth]:
        steps += [Conv(), Relu()] * convs + [AvgPool(2)]
    return Architecture(f"Myrtle-{depth}", (*steps, AvgPool(2), AvgPool(2), Flatten()))


def plain(depth: int, head: str = "gap") -> Architecture:
    """Return a network of `depth` convolutions, each with its ReLU, and a head.

    Args:
        depth: Number of convolutions, at least 1.
        head: "gap" (global average pool) or "flatten".

    Raises `UserError` for other values.
    """
    if head not in ("gap", "flatten") or depth < 1:
        raise UserError(f"Plain networks have a depth >= 1 and a head, gap or flatten. Received: {depth}, {head!r}.")
    last = GlobalAvgPool() if head == "gap" else Flatten()
    return Architecture(f"{depth} convolutions with {head}", (*([Conv(), Relu()] * depth), last))
