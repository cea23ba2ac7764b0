"""Initial standard deviations σ of the filters of a kervolution, for outputs whose variance is of order one.

A kernel is not homogeneous in its filters, so the variance scalings of dense layers do not apply. With the initial
filters of He et al. or of Glorot and Bengio, the inner product of a patch and a filter has a variance of about one, and
four layers that cube it overflow.

Notation: a patch x has P numbers of mean square m, a filter w has entries N(0, σ²), and s = x·w is taken as N(0, t)
with t = P σ² m. p, c and γ are the degree, the offset and the width of the kernels of `linearized.layers.kervolution`.

| kernel       | σ² of the filters           | variance of the outputs for m = 1                                 |
|--------------|-----------------------------|-------------------------------------------------------------------|
| "polynomial" | a² / P                      | .3 (p = 2 and 3, c = 1); at most .6 in a stack of any depth       |
| "sigmoid"    | (5/3)² / P                  | .5                                                                |
| "gaussian"   | 1 / (2 γ P)                 | 4 e⁻³ / P for γ = 1/P                                             |
| "l2"         | 1                           | .75                                                               |
| "l1"         | 1                           | .6 P; at least (1 - 2/π) P for any filters                        |

For "polynomial", a² is chosen so that the mean square of the outputs stays bounded from layer to layer (`_polynomial`).
For "gaussian", σ² makes the variance that x·w causes in exp(-γ‖x - w‖²) as large as possible. If the entries of a patch
are independent, the variance of the outputs is at most 2 e⁻² / P for every σ².

In a stack of distance kernels, the outputs grow from layer to layer. For filters with σ = 1 the mean "l2" distance is
√(P (m + 1)) and the mean "l1" distance P √(2 (m + 1) / π), so each "l2" layer of a stack multiplies the mean square by
about P, and each "l1" layer by about P². Put a normalisation between the layers, as the networks of `linearized.models`
do. Fixed constants cannot replace the normalisation:

- A layer could subtract a fixed mean from its outputs and divide them by a fixed standard deviation, computed for
  m = 1. (This changes the kernel.) On 8x8x3 inputs N(0, 1), the mean squares after one to four such layers of 16
  filters are 1.1, 2.2, 14 and 880 for "l2", and 1.2, 2.2, 20 and 1,700 for "l1". All outputs at a position depend on
  the same ‖x‖. The inputs of the next layer are therefore correlated, and their sums grow with P.
- With σ = 4 and a bias of -√(‖w‖² + P), the mean square stays near 1 for four "l2" layers, because the distance to far
  filters is nearly linear in x. From the sixth layer on the outputs grow.
- The derivative of "l1" is ±1 in each input, so its outputs grow with P for any filters.

In a stack of polynomial kernels, the variance of the outputs stays bounded, but the gradients grow. Each gradient is
multiplied by the derivative p (c + s)^(p-1), and all outputs have a common mean, which makes gradients add up over
positions. Smaller filters would not remove this mean, because the outputs at s = 0 are c^p. Normalise between the
layers, or lower the learning rate. In an experiment, four layers of degree 3 with 16 filters were trained on 256 images
of 8x8 pixels in batches of 32 for five epochs. With plain SGD, 8 of 8 runs diverged at learning rates of .01 and .003,
3 of 8 at .001 and none at .0001; with Adam at .001, none diverged.

Building a model with a stack of distances or of polynomials causes a warning, see `kervolution_stack`.
"""

import math

from scipy.optimize import brentq

SIGMOID_GAIN = 5 / 3
SLOPE = 0.5  # d log(mean square of a polynomial layer's outputs) / d log(mean square of its inputs) at the fixed point
MARGIN = 0.8  # mean square of a polynomial layer's outputs for inputs of mean square one, where |c| is small


def deviation(kernel: str, patch: int, degree: int = 3, offset: float = 1.0, gamma: float | None = None) -> float:
    """Return σ, the standard deviation of the filters' initial entries.

    Args:
        kernel: Name of a kernel of `linearized.layers.kervolution` other than "linear".
        patch: P, the length of a patch: the product of the kernel sizes and the channels per group.
        degree: p of the polynomial.
        offset: c of the polynomial.
        gamma: γ of the Gaussian; None: 1 / P.
    """
    if kernel == "polynomial":
        return math.sqrt(_polynomial(degree, abs(offset)) / patch)
    if kernel == "sigmoid":
        return SIGMOID_GAIN / math.sqrt(patch)
    if kernel == "gaussian":
        return math.sqrt(1 / (2 * (gamma or 1 / patch) * patch))
    return 1.0


def moment(degree: int, offset: float, variance: float) -> float:
    """Return E (c + s)^(2p) for s ~ N(0, t), the mean square of a polynomial kernel's outputs.

    Args:
        degree: p.
        offset: c.
        variance: t, the variance of the inner products s of patches and filters.
    """
    return sum(
        math.comb(2 * degree, 2 * k) * offset ** (2 * degree - 2 * k) * variance**k * _odd_factorial(k)
        for k in range(degree + 1)
    )


def _odd_factorial(k: int) -> int:
    """Return (2k - 1)!!, the moment of order 2k of a standard normal number."""
    return math.prod(range(1, 2 * k, 2))


def _polynomial(degree: int, offset: float) -> float:
    """Return a², the initial variance of x·w for patches x of mean square one and a polynomial kernel (x·w + c)^p.

    From layer to layer the mean square m of the outputs follows the map m ← E (c + s)^(2p) with s ~ N(0, a² m). a² is
    chosen so that this map has a fixed point, and halves small relative deviations of m from the fixed point. The
    outputs of a stack of any depth then stay near the fixed point, which is found for c = 1 and scaled to other c.

    If `|c|` is small, the fixed point lies far below one, and the map can diverge from larger m. In this case a² is
    chosen so that the mean square of the outputs is 0.8 for m = 1.

    Args:
        degree: p of the kernel (x·w + c)^p.
        offset: The absolute value of c.
    """

    def excess(t: float) -> float:
        step = 1e-6 * t
        change = (moment(degree, 1.0, t + step) - moment(degree, 1.0, t - step)) / (2 * step)
        return t * change / moment(degree, 1.0, t) - SLOPE

    fixed = brentq(excess, 1e-6, 10.0)
    if offset:
        variance = fixed / moment(degree, 1.0, fixed) * offset ** (2 - 2 * degree)
        if offset >= 1 or _settles(degree, offset, variance):
            return variance
    return brentq(lambda t: moment(degree, offset, t) - MARGIN, 0.0, 2.0)


def _settles(degree: int, offset: float, variance: float, start: float = 2.0, layers: int = 30) -> bool:
    """Return whether the mean square of the outputs is at most `start` in each layer of a stack of polynomial kernels.

    Args:
        degree: p of the polynomial.
        offset: c of the polynomial.
        variance: a², the variance of x·w for inputs of mean square one.
        start: Mean square of the inputs of the stack.
        layers: Number of layers.
    """
    square = start
    for _ in range(layers):
        square = moment(degree, offset, variance * square)
        if square > start:
            return False
    return True
