"""The settings that decide a kernel: its name, kind, architecture, precision and scale."""

import dataclasses

from data.config import Settings, setting
from kernel_gen import KERNELS


@dataclasses.dataclass(frozen=True)
class KernelSettings(Settings):
    """Settings of any kernel; each kernel reads those that it has."""

    kernel: str = setting("NTK", "the kernel", choices=KERNELS)
    kind: str = setting("ntk", "neural tangent kernel or neural network Gaussian process", choices=("ntk", "nngp"))
    num_layers: int = setting(2, "NTK: dense layers, 2 is one hidden layer", minimum=1)
    depth: int = setting(5, "CNTK: Myrtle-5, 7 or 10; any number of convolutions with another --head", minimum=1)
    head: str = setting(
        "myrtle", "CNTK: Myrtle, or plain convolutions and a head", choices=("myrtle", "gap", "flatten")
    )
    weight_std: float = setting(1.0, "standard deviation of weights", minimum=0.0)
    bias_std: float = setting(0.0, "standard deviation of biases, 0: none", minimum=0.0)
    num_units: int = setting(0, "RF: width N of the finite Gram matrix, 0: infinite", minimum=0)
    law: str = setting("gaussian", "RF: weights N(0, 1/d) or on the unit sphere", choices=("gaussian", "sphere"))
    block: int = setting(50000, "RF: units a draw, part of the published draw", minimum=1)
    weight_seed: int = setting(1990, "RF: of the weights", minimum=0)
    degree: int = setting(2, "POLYNOMIAL: p of (c + x·z/√d)^p", minimum=1)
    offset: float = setting(1.0, "POLYNOMIAL: c of (c + x·z/√d)^p")
    architecture: str = setting("", "STAX: over neural_tangents.stax, such as serial(Dense(1), Relu(), Dense(1))")
    dtype: str = setting("float32", "of the entries", choices=("float32", "float64"))
    scale: str = setting("published", "published, stax or input, see Kernel", choices=("published", "stax", "input"))
