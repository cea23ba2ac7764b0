"""Scalar functions and their duals: what a layer of them does to a kernel, entry by entry.

`ACTIVATIONS` is the table, `activation("leaky_relu(0.1)")` one of it. A new one is a function and a name in
`data.activations` and a line here; tests/contracts tests it as soon as it is listed.
"""

import functools

from data.activations import parse
from data.registry import Registry

_HERE = "kernel_gen.activations"

# Each is a function of a `data.activations.Scalar` that gives an `Activation`.
ACTIVATIONS = Registry(
    "activation",
    {
        "sin": f"{_HERE}.smooth:Sin",
        "cos": f"{_HERE}.smooth:Cos",
        "rbf": f"{_HERE}.smooth:Rbf",
        "erf": f"{_HERE}.smooth:Erf",
        "sigmoid_like": f"{_HERE}.smooth:SigmoidLike",
        "gelu": f"{_HERE}.smooth:Gelu",
        "gelu_tanh": f"{_HERE}.series:Series",
        "exp": f"{_HERE}.smooth:Exp",
        "gaussian": f"{_HERE}.smooth:Gaussian",
        "exp_normalized": f"{_HERE}.smooth:ExpNormalized",
        "gabor": f"{_HERE}.smooth:Gabor",
        "hermite": f"{_HERE}.polynomials:hermite",
        "monomial": f"{_HERE}.polynomials:monomial",
        "polynomial": f"{_HERE}.polynomials:polynomial",
        "rectified_monomial": f"{_HERE}.piecewise:rectified_monomial",
        "sign": f"{_HERE}.piecewise:sign",
        "abs": f"{_HERE}.piecewise:absolute",
        "relu": f"{_HERE}.piecewise:relu",
        "leaky_relu": f"{_HERE}.piecewise:leaky_relu",
        "relu6": f"{_HERE}.piecewise:relu6",
        "hard_sigmoid": f"{_HERE}.piecewise:hard_sigmoid",
        "hard_silu": f"{_HERE}.piecewise:hard_silu",
        "hard_tanh": f"{_HERE}.piecewise:hard_tanh",
        "softsign": f"{_HERE}.polar:Polar",
        "elu": f"{_HERE}.polar:Polar",
        "celu": f"{_HERE}.polar:Polar",
        "selu": f"{_HERE}.polar:Polar",
        "silu": f"{_HERE}.series:Series",
        "softplus": f"{_HERE}.series:Series",
        "tanh": f"{_HERE}.series:Series",
        "sigmoid": f"{_HERE}.series:Series",
    },
)


@functools.cache
def _activation(text: str):
    scalar = parse(text)
    return ACTIVATIONS.load(scalar.name)(scalar)


def activation(text: str):
    """The `Activation` that a name, or a name with numbers, stands for; made once.

    Raises `UserError` for an unknown name, with a line for each that there is, and for arguments that do not fit.
    """
    return _activation(parse(text).text)
