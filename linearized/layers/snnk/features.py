"""The two feature maps ("towers") of an SNNK: Φ(x) and Ψ(w, b) with E[Φ(x)·Ψ(w, b)] = f(w·x + b).

x are the inputs of a unit with activation f, w its weights and b its bias. Both towers use the same random projections
g ~ N(0, I) and, for "relu", the same random offset h ~ N(0, 1). Each line of the table is an unbiased estimate from one
projection (n projections gₗ for "power"). m features average over several such estimates.

| features     | Φ(x)                                          | Ψ(w, b)                                              |
|--------------|-----------------------------------------------|------------------------------------------------------|
| "relu"       | √2 relu(g·x + h)                              | √2 relu(g·w + h b)                                   |
| "power"      | Πₗ gₗ·x, n factors                            | aₙ(b) Πₗ gₗ·w, where f(z + b) = Σ aₙ(b) zⁿ           |
| "asymmetric" | κᵈᐟ² exp(±κ s g·x - s²‖x‖²/2 - M‖g‖²)         | κᵈᐟ² Re γ exp(iωb ± iκ(ω/s) g·w + ω²‖w‖²/2s² - M‖g‖²) |
| "symmetric"  | κᵈᐟ² exp(κ√(iω) g·x - iω‖x‖²/2 - M‖g‖²)       | κᵈᐟ² γ exp(iωb + κ√(iω) g·w - iω‖w‖²/2 - M‖g‖²)      |

"power" is for the term n of a power series f(z) = Σ aₙ zⁿ; aₙ(b) are the coefficients of the shifted series. The last
two lines are for one term Re γ e^{iω(w·x + b)} of a Fourier expansion with the frequency ω and the complex amplitude γ.
In these lines M >= 0 is the shift of `UniversalFeatures`, κ = √(1 + 4M), s = scale·√ω, and d is the length of x. For
"symmetric", Φ and Ψ are complex numbers, stored as two features each, and the estimate is the real part of their
product. Both lines are cases of the general form of `snnk.exponentials`.

The relative variance of one estimate is near exp(2ω‖w‖‖x‖) for "asymmetric" and "symmetric", and near 3ⁿ for the power
n. Therefore inputs and weights should have norms near 1 (`normalize`), or Ψ should be fitted (`SNNK.from_dense` with
inputs).

"relu" gives the arc-cosine kernel of (x, 1) and (w, b), or of x and w without a bias: ‖x‖‖w‖(sin θ + (π-θ)cos θ)/π with
the angle θ between the two vectors. This kernel is not relu(w·x + b), but equals it at θ = 0 and has the same
homogeneity; "Scalable Neural Network Kernels" (ICLR 2024) uses it instead of the ReLU. The kernel is twice the kernel
of Cho & Saul, and twice the kernel in the code of the ICLR paper, where the features lack the factor √2. With a floor
c, max(g·x + h, c) replaces relu(g·x + h), as in the ICLR paper's uptraining (c = -5 or .1).
"""

import math

import numpy as np
from keras import ops

from linearized.layers.snnk.expansions import Expansion, Fourier, Power
from linearized.layers.snnk.exponentials import Exponentials, ExponentialTowers

FOURIER_FEATURES = ("asymmetric", "symmetric")
BIAS = 0.3  # typical bias; it affects how many features each power gets, but not the mean of the estimate


LENGTHS = ("chi", "fixed")


def draw(dim: int, count: int, seed: list[int], orthogonal: bool, lengths: str = "chi") -> np.ndarray:
    """Draw the random projections of features, (dim, count) in float32.

    An orthogonal block is uniform over the orthogonal matrices (Haar): the factor Q of the QR decomposition of a
    Gaussian matrix, with the signs of its columns chosen so that R has a positive diagonal. Costs O(count·dim²).

    Args:
        dim: Length of a projection.
        count: Number of projections.
        seed: Random-number seed, one or several integers.
        orthogonal: Whether the columns are orthogonal in blocks of `dim`; otherwise all are independent and N(0, I).
        lengths: Lengths of orthogonal columns. "chi": independent χ(dim) variables, so that each column is N(0, I).
            "fixed": all lengths are √dim, the root mean square of the χ variables. With "fixed", estimates of degree 2
            in each projection (powers, and the ReLU with floor 0) stay unbiased and have a smaller variance; estimates
            of exponentials get a bias of order 1/dim.
    """
    random = np.random.default_rng(seed)
    if not orthogonal:
        return random.standard_normal((dim, count)).astype(np.float32)
    blocks = []
    for start in range(0, count, dim):
        basis, triangle = np.linalg.qr(random.standard_normal((dim, dim)))
        sizes = np.sqrt(random.chisquare(dim, dim)) if lengths == "chi" else np.sqrt(dim)
        blocks.append((basis * np.sign(np.diag(triangle)) * sizes)[:, : count - start])
    return np.concatenate(blocks, axis=1).astype(np.float32)


def allocate(total: int, shares: np.ndarray) -> np.ndarray:
    """Divide a number of features among the terms of an expansion, in proportion to `shares`.

    Args:
        total: Number of features.
        shares: Weight of each term, not negative. A term with a weight above 0 gets at least one feature, a term with
            the weight 0 none.

    Returns:
        Number of features of each term; the sum is `total`.

    Raises:
        ValueError: If `total` is smaller than the number of terms with a weight above 0.
    """
    needed = int(np.count_nonzero(shares))
    if total < needed:
        raise ValueError(f"`num_features` is too small: {needed} terms of the expansion need one each. "
                         f"Received: {total} to share.")  # fmt: skip
    ideal = shares / shares.sum() * (total - needed)
    counts = np.floor(ideal).astype(int)
    counts[np.argsort(counts - ideal, kind="stable")[: total - needed - counts.sum()]] += 1
    return counts + (shares > 0)


class ReluTowers:
    """Arc-cosine features √2 max(g·x + h, c) of inputs x, and √2 max(g·w + h b, c) of weights w and a bias b.

    Each feature has its own random projection g ~ N(0, I). With a bias, it also has a random offset h ~ N(0, 1), as if
    the inputs were (x, 1), the weights (w, b) and the projection (g, h). All features are divided by √m, so that
    Φ(x)·Ψ(w, b) is a mean over the m features.

    Args:
        num_features: m, the number of features and projections.
        constant: c, the floor of the features: smaller values of g·x + h become c; 0 gives the ReLU.
        biased: Whether inputs have the additional coordinate 1. Without it, the kernel depends only on x and w.
    """

    folds = True  # Φ depends on x through its projections alone
    spread = 4.0  # best norm of inputs for a fit: offsets h matter, and no feature is 0 on all inputs

    def __init__(self, num_features: int, constant: float = 0.0, biased: bool = True):
        self.count = self.projections = num_features
        self.constant = constant
        self.groups = [num_features]  # independent draws that make up the projections
        self.draws_offset = biased

    def of_projected(self, projected):
        """Return the features Φ(x) = √(2/m) max(g·x + h, c), (..., m), with the floor c.

        Args:
            projected: Random projections of the inputs, g·x + h, (..., m).
        """
        return math.sqrt(2 / self.count) * ops.maximum(projected, self.constant)

    def weights(self, kernel, bias, projection, offset):
        """Return the features Ψ(W, b), (m, u), of the weights and biases of u units.

        Args:
            kernel: Weights W, (d, u).
            bias: Biases b, (u,).
            projection: Random projections g, (d, m).
            offset: Random offsets h, (m,).
        """
        product = ops.matmul(ops.transpose(projection), kernel) + ops.outer(offset, bias)
        return math.sqrt(2 / self.count) * ops.maximum(product, self.constant)


class PowerTowers:
    """Random features Φ(x) and Ψ(w, b) of a power series f, with E[Φ(x)·Ψ(w, b)] = f(w·x + b).

    A feature of the power zⁿ is a product of n projections, and one more feature is constant. A bias b adds no error: f
    is expanded in powers of z = w·x with coefficients that depend on b.

    Args:
        num_features: m, the number of features. Each power gets a number in proportion to the size of its term at
            `|z|` = reach / 2.
        expansion: Power series of f.
        reach: Half the length of the interval on which the expansion holds.
        biased: Whether f has a bias; if so, every power below the last gets features.

    Raises:
        ValueError: If there are fewer features than powers.
    """

    folds = True  # Φ depends on x through its projections alone
    spread = 1.0  # irrelevant for a fit, because scaling the inputs only multiplies the features of a power

    def __init__(self, num_features: int, expansion: Power, reach: float, biased: bool):
        self.expansion = expansion
        sizes, last = np.abs(expansion.coefficients), len(expansion.coefficients) - 1
        bias = BIAS if biased else 0.0  # with a bias every power below the last has a share
        shares = [
            sum(sizes[k] * math.comb(k, n) * bias ** (k - n) for k in range(n, last + 1)) * (reach / 2) ** n
            for n in range(1, last + 1)
        ]
        counts = allocate(num_features - 1, np.array(shares)).tolist()
        self.terms = [(n, count) for n, count in enumerate(counts, start=1) if count]  # z⁰ has one feature more
        self.count = 1 + sum(counts)
        self.groups = [count for n, count in self.terms for _ in range(n)]
        self.projections = sum(self.groups)
        self.draws_offset = False

    def _products(self, projected):
        """Return the features of each power that has some, from 0 upwards, one tensor (..., features) per power.

        A feature of the power n is a product of n independent projections.

        Args:
            projected: Projected inputs or weights, (..., projections).
        """
        parts, start = [ops.ones_like(projected[..., :1])], 0
        for n, count in self.terms:
            product = 1 / math.sqrt(count)
            for _ in range(n):
                product = product * projected[..., start : start + count]
                start += count
            parts.append(product)
        return parts

    def of_projected(self, projected):
        """Return the features Φ(x), (..., m), which are products of projections.

        Args:
            projected: Random projections g·x of the inputs, (..., projections).
        """
        return ops.concatenate(self._products(projected), axis=-1)

    def weights(self, kernel, bias, projection, offset):
        """Return the features Ψ(W, b), (m, u), of the weights and biases of u units.

        Args:
            kernel: Weights W, (d, u).
            bias: Biases b, (u,).
            projection: Random projections, (d, projections).
            offset: Not used; other features have random offsets.
        """
        products = self._products(ops.matmul(ops.transpose(kernel), projection))
        powers = [0, *(n for n, _ in self.terms)]
        parts = [self._shifted(n, bias)[:, None] * part for n, part in zip(powers, products, strict=True)]
        return ops.transpose(ops.concatenate(parts, axis=-1))

    def _shifted(self, n, bias):
        """Return the coefficient of zⁿ in f(z + b) = Σₖ aₖ (z + b)ᵏ for each bias b, (u,).

        It is aₙ(b) = Σ_k C(k, n) a_k b^(k-n) with the binomial coefficients C, computed by Horner's rule.

        Args:
            n: Power.
            bias: Biases b, (u,).
        """
        value = ops.zeros_like(bias)
        for k in range(len(self.expansion.coefficients) - 1, n - 1, -1):
            value = value * bias + math.comb(k, n) * float(self.expansion.coefficients[k])
        return value


class FourierTowers:
    """Random features Φ(x) and Ψ(w, b) of a trigonometric sum f, with E[Φ(x)·Ψ(w, b)] = f(w·x + b).

    The features are exponentials for the cosines and sines of f, and a constant for the frequency 0. The table in the
    module's docstring has the formulas.

    Args:
        num_features: Largest number of features. The exponentials are used in pairs, so one feature may stay unused.
        expansion: Trigonometric sum f.
        kind: "asymmetric" (positive features of x, with w and b in phases) or "symmetric" (complex features of both).
        shift: M >= 0, which bounds the features of large projections.
        scale: Factor of s = scale·√ω, which multiplies x at the frequency ω, for "asymmetric".

    Attributes:
        count: m, the number of features in use: `num_features` or one less.

    Raises:
        ValueError: If there are fewer pairs of features than frequencies.
    """

    folds = False  # Φ depends on the norm of x too
    spread = 1.0  # best norm of inputs for a fit: from 3 on, a few features exp(±g·x) dominate

    def __init__(self, num_features: int, expansion: Fourier, kind: str, shift: float, scale: float):
        self.kind, self.shift, self.scale = kind, shift, scale
        sizes = np.hypot(expansion.cosines, expansion.sines)
        moving = (expansion.frequencies > 0) & (sizes > 0)
        self.constant = float(expansion.cosines[expansion.frequencies == 0].sum())
        pairs = allocate((num_features - bool(self.constant)) // 2, sizes[moving])
        self.projections = int(pairs.sum())
        self.groups = pairs.tolist()
        self.count = 2 * self.projections + bool(self.constant)
        self.draws_offset = False
        self.frequencies, self.cosines, self.sines = (
            np.repeat(values[moving], pairs).astype(np.float32)
            for values in (expansion.frequencies, expansion.cosines, expansion.sines)
        )
        # Each of a pair of ± estimates has weight one half; a complex number is one estimate.
        self.factors = (1 / np.sqrt(np.repeat(pairs, pairs) * (2 if kind == "asymmetric" else 1))).astype(np.float32)

    def of_inputs(self, x, projection):
        """Return the features Φ(x), (..., m), of inputs x (..., d), for random projections (d, projections)."""
        dtype = x.dtype
        product, norms = ops.matmul(x, projection), ops.sum(ops.square(ops.cast(x, "float32")), -1, keepdims=True)
        product, lengths = ops.cast(product, "float32"), self._lengths(projection)
        kappa = math.sqrt(1 + 4 * self.shift)
        if self.kind == "asymmetric":
            scales = self.scale * np.sqrt(self.frequencies)
            lead = kappa * scales * product
            rest = -np.square(scales) / 2 * norms - self.shift * lengths
            parts = [ops.exp(lead + rest), ops.exp(-lead + rest)]
        else:
            lead = kappa * np.sqrt(self.frequencies / 2) * product
            size, angle = ops.exp(lead - self.shift * lengths), lead - self.frequencies / 2 * norms
            parts = [size * ops.cos(angle), -size * ops.sin(angle)]
        return self._joined(parts, kappa ** (projection.shape[0] / 2), dtype)

    def weights(self, kernel, bias, projection, offset):
        """Return the features Ψ(W, b), (m, u), of the weights and biases of u units.

        Args:
            kernel: Weights W, (d, u).
            bias: Biases b, (u,).
            projection: Random projections, (d, projections).
            offset: Not used; other features have random offsets.
        """
        rows = ops.transpose(kernel)
        product, norms = ops.matmul(rows, projection), ops.sum(ops.square(rows), axis=-1, keepdims=True)
        kappa, lengths = math.sqrt(1 + 4 * self.shift), self._lengths(projection)
        turn = self.frequencies * bias[:, None]
        if self.kind == "asymmetric":
            scales = self.scale * np.sqrt(self.frequencies)
            size = ops.exp(np.square(self.frequencies / scales) / 2 * norms - self.shift * lengths)
            lead = kappa * (self.frequencies / scales) * product
            parts = [size * self._real(turn + lead), size * self._real(turn - lead)]
        else:
            lead = kappa * np.sqrt(self.frequencies / 2) * product
            size = ops.exp(lead - self.shift * lengths)
            angle = turn + lead - self.frequencies / 2 * norms
            parts = [size * self._real(angle), size * self._imaginary(angle)]
        joined = self._joined(parts, kappa ** (projection.shape[0] / 2), "float32")
        if self.constant:
            joined = ops.concatenate([joined[:, :-1], self.constant * joined[:, -1:]], axis=-1)
        return ops.transpose(joined)

    def _real(self, angle):
        """Return Re γ e^{i·angle} = c cos(angle) + s sin(angle), with the complex amplitude γ = c - i s.

        c and s are the coefficients of the cosines and of the sines, one of each per projection.

        Args:
            angle: Angles (..., projections).
        """
        return self.cosines * ops.cos(angle) + self.sines * ops.sin(angle)

    def _imaginary(self, angle):
        return self.cosines * ops.sin(angle) - self.sines * ops.cos(angle)

    @staticmethod
    def _lengths(projection):
        return ops.sum(ops.square(ops.cast(projection, "float32")), axis=0)

    def _joined(self, parts, constant, dtype):
        """Return scaled features side by side, followed by a feature 1 if the trigonometric sum has a constant term.

        Args:
            parts: Tensors (..., projections), such as real and imaginary parts.
            constant: Common factor of `parts`, in addition to the factors that turn sums into means.
            dtype: Data type of the result.
        """
        parts = [constant * self.factors * part for part in parts]
        parts += [ops.ones_like(parts[0][..., :1])] if self.constant else []
        return ops.cast(ops.concatenate(parts, axis=-1), dtype)


def towers(num_features, expansion: Expansion | None, *, kind, shift, scale, reach, constant=0.0, biased=True):
    """Return the two feature maps ("towers") Φ(x) and Ψ(w, b) of an activation f, with E[Φ(x)·Ψ(w, b)] = f(w·x + b).

    The attribute `count` of the returned object is the number of features.

    Args:
        num_features: Largest number of features.
        expansion: Expansion of the activation; None: the ReLU.
        kind: "asymmetric" or "symmetric", the kind of the features of a `Fourier`.
        shift: M >= 0, which bounds the features of large projections of a `Fourier` or `Exponentials`.
        scale: Factor of s = scale·√ω, which multiplies x at the frequency ω of a `Fourier`.
        reach: Half the length of the interval on which a `Power` holds.
        constant: Floor of the ReLU features.
        biased: Whether the activation has a bias, for the ReLU and for a `Power`.

    Raises:
        ValueError: If `num_features` is too small for the expansion.
    """
    if expansion is None:
        return ReluTowers(num_features, constant, biased)
    if isinstance(expansion, Power):
        return PowerTowers(num_features, expansion, reach, biased)
    if isinstance(expansion, Exponentials):
        return ExponentialTowers(num_features, expansion, shift)
    return FourierTowers(num_features, expansion, kind, shift, scale)
