"""Settings of the SNNK, the kervolutional and the residual networks: groups of flags that `train.Config` is made of."""

import dataclasses
from typing import Any

from data.config import Settings, setting
from data.errors import UserError

KERVOLUTIONS = ("linear", "polynomial", "gaussian", "sigmoid", "l1", "l2")
SNNK_ACTIVATIONS = ("relu", "sin", "cos", "tanh", "sigmoid", "softplus", "gelu")
RESNET_DEPTHS = (18, 50, 101)
# Flags that start so are read by these models alone.
GROUPS = {
    "snnk_": ("SNNK_MLP",),
    "kervolution_": ("KERV_CNN",),
    "resnet_": ("RESNET", "LAMBDA_RESNET"),
    "lambda_": ("LAMBDA_RESNET",),
}
# Flags of these names are read by these models alone. (--num_layers and --drop_rate are refused by the others too.)
SINGLE = {
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
    """Of SNNK_MLP, see `linearized.layers.snnk`."""

    snnk_features: int = setting(256, "SNNK_MLP: random features m of each layer", minimum=2)
    snnk_activation: str = setting("relu", "f of f(Wx + b)", choices=SNNK_ACTIVATIONS)
    snnk_trained: str = setting("psi", "trained: Ψ, or W and b that it is computed from", choices=("psi", "weights"))
    snnk_orthogonal: bool = setting(True, "projections orthogonal in blocks, else independent")
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
        read = {"snnk_expansion": not exact, "snnk_reach": not exact, "snnk_degree": not exact, "snnk_kind": fourier,
                "snnk_shift": fourier, "snnk_scale": fourier and self.snnk_kind == "asymmetric"}  # fmt: skip
        for field in dataclasses.fields(self):
            if not read.get(field.name, True) and getattr(self, field.name) != field.default:
                raise UserError(f"--{field.name} is not read with --snnk_activation={self.snnk_activation} "
                                f"--snnk_expansion={self.snnk_expansion} --snnk_kind={self.snnk_kind}. "
                                f"Received: --{field.name}={getattr(self, field.name)}.")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class KervolutionSettings(Settings):
    """Of KERV_CNN, see `linearized.layers.kervolution`."""

    kervolution_kernel: str = setting("polynomial", "KERV_CNN: kernel of patch and filter", choices=KERVOLUTIONS)
    kervolution_degree: int | None = setting(None, "degree p of the polynomial kernel; unset: 3", minimum=1)
    kervolution_offset: float | None = setting(None, "c of the polynomial (unset: 1) and the sigmoid kernel (unset: 0)")
    kervolution_gamma: float | None = setting(None, "γ of the Gaussian; unset: 1 / length of a patch", minimum=1e-12)
    kervolution_learnable: bool = setting(False, "train c (polynomial, sigmoid) or γ (Gaussian), one a layer")
    kervolution_layers: int = setting(0, "so many first convolutions are kervolutions; 0: all", minimum=0)


@dataclasses.dataclass(frozen=True)
class ResNetSettings(Settings):
    """Of RESNET and LAMBDA_RESNET, see `linearized.models.resnet` and `linearized.layers.lambda_layer`."""

    resnet_depth: int = setting(50, "layers of the residual network: 18, 50 or 101", minimum=18, maximum=101)
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
        "corrected", "published: the CIFAR-10 reproduction's normalisation and absolute embeddings",
        choices=("corrected", "published"),
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.resnet_depth not in RESNET_DEPTHS:
            raise UserError(f"--resnet_depth must be 18, 50 or 101. Received: {self.resnet_depth}.")
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
