"""Settings of the SNNK, kervolutional and residual networks: groups of flags that `TrainSettings` is made of."""

import dataclasses
from typing import Any

from linearized.base.errors import UserError
from linearized.settings.config import Settings, setting

KERVOLUTIONS = ("linear", "polynomial", "gaussian", "sigmoid", "l1", "l2")
SNNK_ACTIVATIONS = ("relu", "sin", "cos", "tanh", "sigmoid", "softplus", "gelu")
RESNET_DEPTHS = (18, 50, 101, 152)
# Flags that start so are read by these models alone.
GROUPS = {
    "snnk_": ("SNNK_MLP",),
    "kervolution_": ("KERV_CNN", "RESNET"),
    "resnet_": ("RESNET", "LAMBDA_RESNET"),
    "lambda_": ("LAMBDA_RESNET",),
}
# Flags of these names are read by these models alone. (--num_layers and --drop_rate are refused by the others too.)
SINGLE = {
    "kervolution_places": ("RESNET",),
    "kervolution_layers": ("KERV_CNN",),
    "published_weights": ("RESNET", "LAMBDA_RESNET"),
    "num_layers": ("NN", "SNNK_MLP"),
    "drop_rate": ("NN", "SNNK_MLP"),
    "depth": ("CNN", "KERV_CNN"),
    "directions": ("NT",),
    "law": ("RF", "NT"),
    "block": ("RF", "NT"),
    "weight_seed": ("RF", "NT", "SNNK_MLP"),
}


@dataclasses.dataclass(frozen=True)
class SNNKSettings(Settings):
    """Of SNNK_MLP, see `linearized.layers.snnk.layer`."""

    snnk_features: int = setting(256, "SNNK_MLP: random features m of each layer", minimum=2)
    snnk_activation: str = setting("relu", "f of f(Wx + b)", choices=SNNK_ACTIVATIONS)
    snnk_trained: str = setting("psi", "trained: Ψ, or W and b that it is computed from", choices=("psi", "weights"))
    snnk_orthogonal: bool = setting(True, "projections orthogonal in blocks, else independent")
    snnk_lengths: str = setting("chi", "of orthogonal projections: chi(d), or fixed at √d", choices=("chi", "fixed"))
    snnk_constant: float = setting(0.0, "relu: floor c of the features max(g·x + h, c); published: 0, -5, .1")
    snnk_normalize: float = setting(0.0, "scale each layer's inputs to this norm; 0: do not", minimum=0.0)
    snnk_expansion: str = setting("power", "tanh to gelu: powers or frequencies", choices=("power", "fourier"))
    snnk_reach: float = setting(3.0, "tanh to gelu: the expansion serves values up to this", minimum=1e-3)
    snnk_degree: int = setting(8, "tanh to gelu: highest power, or number of frequencies", minimum=1)
    snnk_kind: str = setting("asymmetric", "features of a frequency", choices=("asymmetric", "symmetric"))
    snnk_shift: float = setting(0.0, "M of a frequency's features, which bounds large projections", minimum=0.0)
    snnk_scale: float = setting(1.0, "s of asymmetric features, best at the root of ‖w‖ / ‖x‖", minimum=1e-3)

    def __post_init__(self):
        super().__post_init__()
        exact, fourier = self.snnk_activation in ("relu", "sin", "cos"), self.snnk_activation in ("sin", "cos")
        fourier = fourier or (not exact and self.snnk_expansion == "fourier")
        read = {
            "snnk_lengths": self.snnk_orthogonal, "snnk_constant": self.snnk_activation == "relu",
            **dict.fromkeys(("snnk_expansion", "snnk_reach", "snnk_degree"), not exact),
            **dict.fromkeys(("snnk_kind", "snnk_shift"), fourier),
            "snnk_scale": fourier and self.snnk_kind == "asymmetric",
        }  # fmt: skip
        for field in dataclasses.fields(self):
            if not read.get(field.name, True) and getattr(self, field.name) != field.default:
                raise UserError(f"--{field.name} is not read with --snnk_activation={self.snnk_activation} "
                                f"--snnk_expansion={self.snnk_expansion} --snnk_kind={self.snnk_kind} "
                                f"--snnk_orthogonal={self.snnk_orthogonal}. "
                                f"Received: --{field.name}={getattr(self, field.name)}.")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class KervolutionSettings(Settings):
    """Settings of the kervolutions of KERV_CNN and RESNET, see `linearized.layers.kervolution`."""

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
        None, "degree p of the polynomial kernel; unset: 3, or 2 if published", minimum=1
    )
    kervolution_offset: float | None = setting(None, "c of the polynomial (unset: 1) and the sigmoid kernel (unset: 0)")
    kervolution_gamma: float | None = setting(
        None, "γ of the Gaussian; unset: 1 / length of a patch, or 0.5 if published", minimum=1e-12
    )
    kervolution_learnable: bool = setting(False, "train c (polynomial, sigmoid) or γ (Gaussian), one per layer")
    kervolution_layers: int = setting(
        0, "KERV_CNN: number of its first convolutions that are kervolutions; 0: all", minimum=0
    )

    def __post_init__(self):
        super().__post_init__()
        if getattr(self, "model", "") == "KERV_CNN" and not self.kervolution_kernel:
            object.__setattr__(self, "kervolution_kernel", "polynomial")


@dataclasses.dataclass(frozen=True)
class ResNetSettings(Settings):
    """Of RESNET and LAMBDA_RESNET, see `linearized.models.resnet` and `linearized.layers.lambda_layer`."""

    resnet_depth: int = setting(50, "layers of the residual network: 18, 50, 101 or 152", minimum=18, maximum=152)
    resnet_width: int = setting(
        1, "factor of the inner channels of bottlenecks; 2: wide residual networks (50 layers or more)", minimum=1
    )
    resnet_padding: str = setting(
        "symmetric", "zeros at the borders of strided convolutions and pools: symmetric, as published (PyTorch), or "
        "Keras' same", choices=("symmetric", "same"),
    )  # fmt: skip
    resnet_zero_start: bool = setting(True, "blocks start as the identity: the scales of their last norm start at 0")
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


def readers(flag: str) -> tuple[str, ...] | None:
    """Return the models that read a flag of `GROUPS` or `SINGLE`; None for a flag that all of them read."""
    return SINGLE.get(flag) or next((models for prefix, models in GROUPS.items() if flag.startswith(prefix)), None)


def refuse_foreign(config: Any) -> None:
    """Raise `UserError` for a flag at another value than its default that the model does not read."""
    for field in dataclasses.fields(config):
        value, models = getattr(config, field.name), readers(field.name)
        if models is not None and config.model not in models and value != field.default:
            raise UserError(
                f"--{field.name} is a setting of {' and '.join(models)}. Received: --{field.name}={value} "
                f"--model={config.model}."
            )
    if config.model == "RESNET" and not config.kervolution_kernel:
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if field.name.startswith("kervolution_") and value != field.default:
                raise UserError(f"--{field.name} needs --kervolution_kernel with --model=RESNET. "
                                f"Received: --{field.name}={value}.")  # fmt: skip
