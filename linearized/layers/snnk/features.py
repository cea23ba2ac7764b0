"""The two towers of an SNNK: Φ(x) and Ψ(w, b) with E[Φ(x)·Ψ(w, b)] = f(w·x + b), from one set of random projections.

g ~ N(0, I). Every line is an unbiased estimate; m features consist of m such estimates, scaled.

| features     | Φ(x)                                          | Ψ(w, b)                                              |
|--------------|-----------------------------------------------|------------------------------------------------------|
| "relu"       | √2 relu(g·x + h)                              | √2 relu(g·w + h b)                                   |
| "power"      | Πₗ gₗ·x, n factors                            | aₙ(b) Πₗ gₗ·w, where f(z + b) = Σ aₙ(b) zⁿ           |
| "asymmetric" | κᵈᐟ² exp(±κ s g·x - s²‖x‖²/2 - M‖g‖²)         | κᵈᐟ² Re γ exp(iωb ± iκ(ω/s) g·w + ω²‖w‖²/2s² - M‖g‖²) |
| "symmetric"  | κᵈᐟ² exp(κ√(iω) g·x - iω‖x‖²/2 - M‖g‖²)       | γ e^{iωb} times the same of w; the real part counts  |

The last two lines are for one term Re γ e^{iω(w·x + b)} of a Fourier expansion, with κ = √(1 + 4M), s = scale·√ω; a
complex number counts as two features. They are cases of the general form of `snnk.exponentials`. The relative variance
of one estimate is near exp(2ω‖w‖‖x‖) for them and 3ⁿ for a power, so inputs and weights should have norms near 1
(`normalize`), or Ψ should be fitted (`SNNK.from_dense` with inputs).

"relu" gives the arc-cosine kernel of (x, 1) and (w, b), or of x and w without a bias, ‖x‖‖w‖(sin θ + (π-θ)cos θ)/π:
twice that of Cho & Saul and of the published code, whose features lack the factor √2. It is not relu(w·x + b), but
shares its value at θ = 0 and its homogeneity; the paper uses it instead of the ReLU. With a floor c, max(g·x + h, c)
replaces the ReLU, as in the published uptraining (c = -5 or .1).
"""

import math

import numpy as np
from keras import ops

from linearized.layers.snnk.expansions import Expansion, Fourier, Power
from linearized.layers.snnk.exponentials import Exponentials, ExponentialTowers

FOURIER_FEATURES = ("asymmetric", "symmetric")
BIAS = 0.3  # a typical bias, which affects the number of features of each power but not their mean


LENGTHS = ("chi", "fixed")


def draw(dim: int, count: int, seed: list[int], orthogonal: bool, lengths: str = "chi") -> np.ndarray:
    """Return projections, (dim, count) in float32: columns N(0, I), independent or orthogonal in blocks of `dim`.

    A block is uniform over the orthogonal matrices (Haar): the QR factor of a Gaussian matrix, with the signs of its
    columns chosen so that R has a positive diagonal. With `lengths` "chi" the columns are multiplied by independent
    χ(dim) variables, so that each column is N(0, I). With "fixed" they are multiplied by √dim, their root mean square.
    Estimates of degree 2 in each projection, those of powers and of the ReLU with floor 0, stay unbiased and lose the
    variance of the lengths; those of exponentials get a bias of order 1/dim. Costs O(count·dim²).
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
    """Split `total` in proportion to shares (not negative), with at least 1 for each share above 0.

    The sum of the parts is `total`. Raises ValueError if `total` is smaller than the number of shares above 0.
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
    """Arc-cosine features, one per projection; the bias is one more coordinate, whose projection is the offset h.

    Args:
        num_features: m.
        constant: c, the floor of the features max(g·x + h, c); 0 gives the ReLU.
        biased: Whether inputs have the additional coordinate 1. Without it the kernel is that of x and w alone.
    """

    folds = True  # Φ depends on x through its projections alone
    spread = 4.0  # best norm of inputs for a fit: offsets h matter, and no feature is 0 on all inputs

    def __init__(self, num_features: int, constant: float = 0.0, biased: bool = True):
        self.count = self.projections = num_features
        self.constant = constant
        self.groups = [num_features]  # independent draws that make up the projections
        self.draws_offset = biased

    def of_projected(self, projected):
        """Return Φ, (..., m), of g·x + h, (..., m)."""
        return math.sqrt(2 / self.count) * ops.maximum(projected, self.constant)

    def weights(self, kernel, bias, projection, offset):
        """Return Ψ(W, b), (m, u), of W (d, u) and b (u,)."""
        product = ops.matmul(ops.transpose(projection), kernel) + ops.outer(offset, bias)
        return math.sqrt(2 / self.count) * ops.maximum(product, self.constant)


class PowerTowers:
    """Products of n projections for zⁿ; the bias is included by the exact shift of the polynomial."""

    folds = True
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
        """Return one product per feature, by degree; the factors of a feature come from independent draws."""
        parts, start = [ops.ones_like(projected[..., :1])], 0
        for n, count in self.terms:
            product = 1 / math.sqrt(count)
            for _ in range(n):
                product = product * projected[..., start : start + count]
                start += count
            parts.append(product)
        return parts

    def of_projected(self, projected):
        """Return Φ, (..., m), of the projections, (..., projections)."""
        return ops.concatenate(self._products(projected), axis=-1)

    def weights(self, kernel, bias, projection, offset):
        """Return Ψ(W, b), (m, u), of W (d, u) and b (u,)."""
        products = self._products(ops.matmul(ops.transpose(kernel), projection))
        powers = [0, *(n for n, _ in self.terms)]
        parts = [self._shifted(n, bias)[:, None] * part for n, part in zip(powers, products, strict=True)]
        return ops.transpose(ops.concatenate(parts, axis=-1))

    def _shifted(self, n, bias):
        """Return aₙ(b) = Σ_k C(k, n) a_k b^(k-n), by Horner's rule."""
        value = ops.zeros_like(bias)
        for k in range(len(self.expansion.coefficients) - 1, n - 1, -1):
            value = value * bias + math.comb(k, n) * float(self.expansion.coefficients[k])
        return value


class FourierTowers:
    """Exponentials for cos and sin, asymmetric or symmetric; a frequency of 0 is one constant feature."""

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
        """Return Φ(x), (..., m), of x (..., d)."""
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
        """Return Ψ(W, b), (m, u), of W (d, u) and b (u,)."""
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
        """Return Re γ e^{i·angle} with γ = c - is."""
        return self.cosines * ops.cos(angle) + self.sines * ops.sin(angle)

    def _imaginary(self, angle):
        return self.cosines * ops.sin(angle) - self.sines * ops.cos(angle)

    @staticmethod
    def _lengths(projection):
        return ops.sum(ops.square(ops.cast(projection, "float32")), axis=0)

    def _joined(self, parts, constant, dtype):
        """Return the scaled features side by side, followed by 1 if the expansion has a constant."""
        parts = [constant * self.factors * part for part in parts]
        parts += [ops.ones_like(parts[0][..., :1])] if self.constant else []
        return ops.cast(ops.concatenate(parts, axis=-1), dtype)


def towers(num_features, expansion: Expansion | None, *, kind, shift, scale, reach, constant=0.0, biased=True):
    """Return the towers of an expansion (None: the ReLU), with at most `num_features` features (`count` of them)."""
    if expansion is None:
        return ReluTowers(num_features, constant, biased)
    if isinstance(expansion, Power):
        return PowerTowers(num_features, expansion, reach, biased)
    if isinstance(expansion, Exponentials):
        return ExponentialTowers(num_features, expansion, shift)
    return FourierTowers(num_features, expansion, kind, shift, scale)
