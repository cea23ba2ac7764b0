"""Settings that only some networks read: groups of flags that `TrainSettings` inherits."""

import dataclasses

from linearized.base.errors import UserError
from linearized.base.registry import FunctionRegistry
from linearized.settings.config import Settings, setting
from linearized.settings.model_files import VARIABLES_HELP
from linearized.settings.reads import FUNCTION, reads, when

KERVOLUTIONS = ("linear", "polynomial", "gaussian", "sigmoid", "l1", "l2")
SNNK_ACTIVATIONS = ("relu", "sin", "cos", "tanh", "sigmoid", "softplus", "gelu")
RESNET_DEPTHS = (18, 50, 101, 152)
INEXACT = ("tanh", "sigmoid", "softplus", "gelu", FUNCTION)  # activations that SNNKs expand in a series
SNNK_FUNCTIONS = FunctionRegistry(
    "choice", dict.fromkeys(SNNK_ACTIVATIONS, ""), own="linearized.base.activations:OwnFunction"
)
PARAMETRIZATIONS = ("published", "standard", "ntk", "mean_field", "mup")
SCALED = when(parametrization=PARAMETRIZATIONS[1:], solver=("auto", "sgd"))  # with these a table has the layers' scales
FOURIER = when(snnk_activation=("sin", "cos")) | when(snnk_activation=INEXACT, snnk_expansion="fourier")


@dataclasses.dataclass(frozen=True)
class ParametrizationSettings(Settings):
    """Settings of NN and CNN: an output scale, and how initial weights, outputs and learning rates depend on the width.

    `linearized.models.parametrization` has the table of rules.
    """

    GROUP = "Model"

    parametrization: str = setting(
        "published", "how initial weights, outputs and rates of layers depend on the width: as published (NN: close to "
        "mean_field, CNN: close to standard), or without biases by the table of docs/parametrization.md",
        choices=PARAMETRIZATIONS,
    )  # fmt: skip
    output_scale: float | None = setting(
        None, "α: outputs α h(x; w) that start at 0, trained on loss / α²; large values make training lazy; unset: "
        "outputs h(x; w), which do not start at 0", minimum=1e-6, maximum=1e6,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SNNKSettings(Settings):
    """Settings of SNNK_MLP, whose layers approximate f(Wx + b) by products of random features Φ(x)·Ψ(W, b).

    f is the activation of a layer, W and b are its weights and biases. `linearized.layers.snnk.layer` describes these
    layers.
    """

    GROUP = "Model"

    snnk_features: int = setting(256, "SNNK_MLP: random features m of each layer", minimum=2)
    snnk_activation: str = setting(
        "relu", "f of f(Wx + b); or package.module:function, a smooth f(x) or f(x, xp) of yours, expanded as tanh is",
        choices=SNNK_FUNCTIONS,
    )  # fmt: skip
    snnk_trained: str = setting("psi", "trained: Ψ, or W and b that it is computed from", choices=("psi", "weights"))
    snnk_orthogonal: bool = setting(True, "projections orthogonal in blocks, else independent")
    snnk_lengths: str = setting(
        "chi",
        "of orthogonal projections: chi(d), or fixed at √d",
        choices=("chi", "fixed"),
        when=when(snnk_orthogonal=True),
    )
    snnk_constant: float = setting(
        0.0, "relu: floor c of the features max(g·x + h, c); published: 0, -5, .1", when=when(snnk_activation="relu")
    )
    snnk_normalize: float = setting(0.0, "scale each layer's inputs to this norm; 0: do not", minimum=0.0)
    snnk_expansion: str = setting(
        "power", "tanh to gelu: powers or frequencies", choices=("power", "fourier"), when=when(snnk_activation=INEXACT)
    )
    snnk_reach: float = setting(
        3.0, "tanh to gelu: the expansion serves values up to this", minimum=1e-3, when=when(snnk_activation=INEXACT)
    )
    snnk_degree: int = setting(
        8, "tanh to gelu: highest power, or number of frequencies", minimum=1, when=when(snnk_activation=INEXACT)
    )
    snnk_kind: str = setting("asymmetric", "features of a frequency", choices=("asymmetric", "symmetric"), when=FOURIER)
    snnk_shift: float = setting(
        0.0, "M of a frequency's features, which bounds large projections", minimum=0.0, when=FOURIER
    )
    snnk_scale: float = setting(
        1.0,
        "s of asymmetric features, best at the root of ‖w‖ / ‖x‖",
        minimum=1e-3,
        when=FOURIER & when(snnk_kind="asymmetric"),
    )


@dataclasses.dataclass(frozen=True)
class KervolutionSettings(Settings):
    """Settings of KERV_CNN and RESNET for kervolutions: convolutions with a kernel in place of the inner product.

    `linearized.layers.kervolution` has the table of kernels.
    """

    GROUP = "Model"

    kervolution_kernel: str = setting(
        "", "kernel of patch and filter; unset: polynomial in KERV_CNN, convolutions in RESNET",
        choices=("", *KERVOLUTIONS),
    )  # fmt: skip
    kervolution_places: str = setting(
        "all", "RESNET's kervolutions: all convolutions, as published, or all but the first and those of 1x1 (inner)",
        choices=("all", "inner"),
    )  # fmt: skip
    kervolution_variant: str = setting(
        "standard", "published: p = 2, γ = 0.5 and filters within ±1/√P, as the public PyTorch implementation",
        choices=("standard", "published"),
    )  # fmt: skip
    kervolution_degree: int | None = setting(
        None,
        "degree p of the polynomial kernel; unset: 3, or 2 if published",
        minimum=1,
        when=when(kervolution_kernel="polynomial"),
    )
    kervolution_offset: float | None = setting(
        None,
        "c of the polynomial (unset: 1) and the sigmoid kernel (unset: 0)",
        when=when(kervolution_kernel=("polynomial", "sigmoid")),
    )
    kervolution_gamma: float | None = setting(
        None,
        "γ of the Gaussian; unset: 1 / length of a patch, or 0.5 if published",
        minimum=1e-12,
        when=when(kervolution_kernel="gaussian"),
    )
    kervolution_learnable: bool = setting(
        False,
        "train c (polynomial, sigmoid) or γ (Gaussian), one per layer",
        when=when(kervolution_kernel=("polynomial", "sigmoid", "gaussian")),
    )
    kervolution_layers: int = setting(
        0, "KERV_CNN: number of its first convolutions that are kervolutions; 0: all", minimum=0
    )


@dataclasses.dataclass(frozen=True)
class ResNetSettings(Settings):
    """Settings of the residual networks RESNET and LAMBDA_RESNET, whose blocks have convolutions or lambda layers.

    See `linearized.models.resnet` and `linearized.layers.lambda_layer`.
    """

    GROUP = "Model"

    resnet_depth: int = setting(50, "layers of the residual network: 18, 50, 101 or 152", minimum=18, maximum=152)
    resnet_width: int = setting(
        1, "factor of the inner channels of bottlenecks; 2: wide residual networks (50 layers or more)", minimum=1
    )
    resnet_padding: str = setting(
        "symmetric", "zeros at the borders of strided convolutions and pools: symmetric, as published (PyTorch), or "
        "Keras' same", choices=("symmetric", "same"),
    )  # fmt: skip
    resnet_zero_start: bool = setting(
        True, "blocks start as the identity: the scales of their last norm start at 0", when=when(published_weights="")
    )
    resnet_stem: str = setting(
        "pooled",
        "pooled: 7x7 of stride 2 and a pool, as published; small: 3x3 of stride 1",
        choices=("pooled", "small"),
    )
    lambda_stages: str = setting("LLLL", "each stage's blocks: C with convolutions, L with lambda layers, such as CCLL")
    lambda_heads: int = setting(4, "heads h, queries a pixel", minimum=1)
    lambda_keys: int = setting(16, "depth k of queries and keys", minimum=1)
    lambda_intra: int = setting(1, "intra-depth u, keys and values a pixel", minimum=1)
    lambda_scope: int = setting(0, "a position lambda sees so many pixels a side (odd); 0: all", minimum=0)
    lambda_variant: str = setting(
        "corrected", "published: the CIFAR-10 reproduction's normalisation and absolute embeddings; unpermuted: also "
        "its reshape, which mixes channels and pixels", choices=("corrected", "published", "unpermuted"),
    )  # fmt: skip

    published_weights: str = setting(
        "", "start from the weights in this .npz file, in the layout of the public PyTorch networks (torchvision's "
        "ResNets, the lambda reproduction's); empty: from random ones",
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.resnet_depth not in RESNET_DEPTHS:
            raise UserError(f"--resnet_depth must be 18, 50 or 101, or 152. Received: {self.resnet_depth}.")
        if self.resnet_width > 1 and self.resnet_depth == 18:
            raise UserError("--resnet_width widens bottlenecks, which --resnet_depth=18 does not have. "
                            f"Received: --resnet_width={self.resnet_width}.")  # fmt: skip
        if len(self.lambda_stages) != 4 or set(self.lambda_stages) - set("CL"):
            raise UserError(f"--lambda_stages takes four letters C or L, such as CCLL. Received: {self.lambda_stages}.")
        if self.lambda_scope and self.lambda_scope % 2 == 0:
            raise UserError(f"--lambda_scope must be odd, or 0 for all pixels. Received: {self.lambda_scope}.")


@dataclasses.dataclass(frozen=True)
class KerasFileSettings(Settings):
    """Settings of a network that is read from a saved Keras model (`--model=path.keras`), and of its linearization.

    See `linearized.models.keras_file` and `linearized.models.linearized_file`.
    """

    GROUP = "Model"

    init: str = setting(
        "file", "--model=path.keras: file, train the weights of the file further; fresh, its architecture with new "
        "weights", choices=("file", "fresh"),
    )  # fmt: skip
    linearize: bool = setting(
        False, "--model=path.keras: fit its linearization f(x; θ₀) + J(x)(θ - θ₀) at these weights θ₀ in its place"
    )
    tangent_offset: bool = setting(True, "the linearization has f(x; θ₀); else it is J(x)(θ - θ₀) alone")
    variables: str = setting("", VARIABLES_HELP)


# Settings that the models of a group read in common; the rest of a group is named in the model's module.
PARAMETRIZATION = reads("parametrization", when=when(solver=("auto", "sgd"))) | reads("output_scale", when=SCALED)
KERVOLUTION = (
    "kervolution_variant", "kervolution_degree", "kervolution_offset", "kervolution_gamma", "kervolution_learnable",
)  # fmt: skip
RESNET = (
    "resnet_depth", "resnet_width", "resnet_padding", "resnet_zero_start", "resnet_stem", "published_weights",
)  # fmt: skip
LAMBDA = ("lambda_stages", "lambda_heads", "lambda_keys", "lambda_intra", "lambda_scope", "lambda_variant")
