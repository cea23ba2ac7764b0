"""The activation σ as a layer on features: features of the kernels after σ, computed from those before σ.

The kernels are Σ, the covariance of a layer's outputs at initialisation (NNGP), and Θ, the tangent kernel (NTK). The
features of each kernel are an array (rows, columns), with one row for each feature and one column for each input.

The activation maps Σ to E[σ(u)σ(v)] and Θ to Θ E[σ'(u)σ'(v)], where (u, v) is normal with the covariance Σ of two
inputs. Both means are power series in the correlation c of the inputs, such as Σ_j a_j(s₁) a_j(s₂) c^j. Here s₁² and
s₂² are the exact values Σ(x, x) of the two inputs. c is approximated by the product û₁·û₂ of their normalised features
û. The number of rows of the result is given. The constant term of Σ takes one row and is exact. The linear term of Σ is
exact too, unless it needs more than a quarter of the available rows. The same holds for Θ times the constant term of
E[σ'(u)σ'(v)]. The other terms, called the rest, are approximated by one of two methods:

    random   Random neurons σ(s W û) without the exact terms, with Gaussian W. For ReLU they are arc-cosine features.
             Includes all terms of the series. Costs a product of W (rows, rows of û) with each û.
    sketch   a_j T_j(û) with the sketched powers T_j of PolySketch (Han, Zandieh, Lee, Novak, Xiao & Karbasi, NeurIPS
             2022). The number of rows of a power is in proportion to its weight. Includes terms up to a degree. Costs a
             fast transform per degree.

The rest of Θ E[σ'(u)σ'(v)] is a product of two kernels. With sketches, its features are a sketch (TensorSRHT) of the
tensor product of the features of both factors. With random neurons, a sketch (SRHT) of the features of Θ is multiplied
entry by entry with neurons σ'(s W û). At the first activation, whose inputs are exact, both methods are unbiased:
E[φ(x)·φ(z)] is the kernel or, for a sketch, the kernel truncated at the degree. At later activations c has an error of
1/√m for m features, and the terms that are nonlinear in c have a bias of 1/m.
"""

import dataclasses
import math

import numpy as np

from kernel_gen.activations import hermite
from kernel_gen.features.linear import Step
from kernel_gen.features.nonlinearity import Nonlinearity, ScaledSeries
from kernel_gen.features.poly_sketch import PolySketch
from kernel_gen.features.state import FeatureState, Shape, squares_of
from kernel_gen.features.tensor_srht import Srht, TensorSrht
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Int
from linearized.settings.memory import EXACT

# Means over neurons with E σ⁴/(E σ²)² above HEAVY are refused if their relative error is above TOO_MUCH
HEAVY, TOO_MUCH = 30, 0.1
SMALL = 1e-20  # weights below this share of their sum are 0 by symmetry, except for rounding


@dataclasses.dataclass(frozen=True)
class Approximation:
    """The method of approximating the kernels after an activation by features.

    Attributes:
        method: "random" (random neurons) or "sketch" (sketched powers of a series).
        terms: Highest power in a sketch.
        field: Signs of a sketch, "real" (±1) or "complex" (powers of i).
        dtype: Data type of the features, "float32" or "float64".
    """

    method: str = "random"
    terms: int = 8
    field: str = "real"
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class DividedRows:
    """The numbers of rows (features) that represent the terms of the kernels after an activation.

    The kernels are Σ (NNGP) and Θ (NTK), power series in the correlation of the inputs. Constant and linear terms can
    be represented exactly; all other terms, the rest, are approximated. The constant term of Σ takes one row, which is
    not counted here.

    Attributes:
        linear: Rows of the exact linear term of Σ; 0: the linear term is part of the rest.
        tangent: Rows of Θ times the exact constant term of its factor E[σ'(u)σ'(v)]; 0: the constant term is part of
            the rest.
        nngp, ntk: Rows of the rest of Σ, and rows of the rest of Θ.
        summed: Whether the linear term of Σ, times √2, also represents Θ times the constant term of its factor.
    """

    linear: int
    tangent: int
    nngp: int
    ntk: int
    summed: bool = False


class ActivationStep:
    """An activation σ as a layer: it maps features of the kernels before σ to features of the kernels after σ.

    Args:
        nonlinearity: σ with its series.
        how: The method by which the kernels after it are approximated.
    """

    def __init__(self, nonlinearity: Nonlinearity, how: Approximation):
        self.nonlinearity, self.how = nonlinearity, how
        self.terms = how.terms if how.method == "sketch" else 1  # number of terms requested from the series

    def least(self, shape: Shape) -> int:
        """Return the smallest possible number of features after the layer, of Σ (NNGP) and Θ (NTK) together.

        The constant term of Σ needs one feature, each approximated term one, and Θ one unless it is 0. `shape` is the
        shape of the layer's inputs.
        """
        return 1 + self._parts(0) + (1 if shape.ntk else 0)

    def plan(
        self, shape: Shape, rows: int, share: int | None, random: np.random.RandomState, *, summed: bool = False
    ) -> tuple[Step, Shape]:
        """Return the function that applies the layer to the features of a batch, and the shape of its result.

        The features of Σ (NNGP) and of Θ (NTK) are two arrays with one row for each feature.

        Args:
            shape: Shape of the layer's inputs.
            rows: Number of rows of both arrays together in the result.
            share: Number of rows of the array of Σ; None: rows that are not needed for exact terms are divided in
                proportion to the diagonal entries of the approximated terms of Σ and of Θ.
            random: Generator of the random weights and signs.
            summed: Whether only the sum Σ + Θ of the result is needed. If Σ and Θ of the inputs have equal features,
                then the linear term of Σ and the constant term of Θ have equal features too, because
                a_1(s) = s E σ'(s z) for z ~ N(0, 1). One set of these features, times √2, then represents both.
        """
        series = self.series(np.array([math.sqrt(shape.square)]))
        divided = self._divide(shape, series, rows, share, summed and shape.twins)
        make = RandomRest if self.how.method == "random" else SketchRest
        rest = make(self, shape, divided, series, random)

        def step(state: FeatureState) -> FeatureState:
            return _applied(self, state, divided, rest)

        planned = Shape(
            1 + divided.linear + rest.nngp, (0 if divided.summed else divided.tangent) + rest.ntk, shape.image,
            float(series.square[0]), float(shape.tangent * series.slope_square[0]),
        )  # fmt: skip
        return step, planned

    def series(self, scales: Float[np.ndarray, " columns"]) -> ScaledSeries:
        """Return the Hermite series of σ(s z) at the scale s of each column, up to the terms that the layer uses.

        Args:
            scales: The standard deviation s of the activation's input for each column, (columns,).
        """
        return self.nonlinearity.series(scales, self.terms)

    def _parts(self, linear: int) -> int:
        """Return the smallest number of rows that the approximated terms of Σ (NNGP) need.

        It is 1 for random neurons, which represent all terms together. A sketch needs one row for each power of the
        correlation, except for the linear power if that term is exact.

        Args:
            linear: Number of rows of the exact linear term; 0: it is approximated too.
        """
        return 1 if self.how.method == "random" else max(self.terms - (1 if linear else 0), 0)

    def _divide(self, shape: Shape, series: ScaledSeries, rows: int, share: int | None, summed: bool) -> DividedRows:
        most = (rows, rows) if share is None else (share, rows - share)
        linear = shape.nngp if EXACT * shape.nngp <= most[0] and self.terms else 0
        tangent = shape.ntk if EXACT * shape.ntk <= most[1] else 0
        summed = summed and linear > 0 and tangent > 0
        parts, products = self._parts(linear), int(shape.ntk > 0 and not (tangent and not self.terms))
        left = rows - 1 - linear - (0 if summed else tangent)
        if left < parts + products:  # few rows: each term gets one row before any term is exact
            linear, tangent, summed = 0, 0, False
            parts, products, left = self._parts(0), int(shape.ntk > 0), rows - 1
        if share is not None:
            nngp = max(share - 1 - linear, parts)
        else:
            value, slope = series.value[:, 0] ** 2, series.slope[:, 0] ** 2
            value, slope = value[1 + (linear > 0) :].sum(), slope[(tangent > 0) :].sum() * shape.tangent
            if self.how.method == "random":
                value = max(series.square[0] - (series.value[: 1 + (linear > 0), 0] ** 2).sum(), 0)
                slope = max(series.slope_square[0] - (series.slope[0, 0] ** 2 if tangent else 0), 0) * shape.tangent
            nngp = round(left * value / (value + slope)) if value + slope > 0 else left
        nngp = min(max(nngp, parts), left - products) if parts else 0
        return DividedRows(linear, tangent, nngp, left - nngp if products else 0, summed)


def _applied(
    layer: ActivationStep, state: FeatureState, rows: DividedRows, rest: "RandomRest | SketchRest"
) -> FeatureState:
    flat, ntk = state.flat(state.nngp), state.flat(state.ntk)
    scales = np.sqrt(state.square.ravel())
    norms = np.sqrt(squares_of(flat))
    unit = flat * np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    series = layer.series(scales)
    value, slope = (part.astype(flat.dtype) for part in (series.value, series.slope))
    nngp, tangent = rest(unit, ntk, scales.astype(flat.dtype), value, slope)
    first = [value[:1]]
    if rows.linear:
        first.append(value[1] * flat.dtype.type(math.sqrt(2) if rows.summed else 1) * unit)
    nngp = np.concatenate([*first, nngp])
    tangent = np.concatenate([slope[0] * ntk, tangent]) if rows.tangent and not rows.summed else tangent
    shape = state.square.shape
    square = series.square.astype(state.square.dtype).reshape(shape)
    return FeatureState(nngp.reshape(len(nngp), *shape), tangent.reshape(len(tangent), *shape), square)


class RandomRest:
    """Random neurons σ(s W û), which represent the approximated terms of an activation's kernels.

    Here û are the features of an input, normalised to length 1, s is the standard deviation of the activation's input,
    and W are Gaussian weights. The constant term of the series of σ is subtracted, and also the linear term if it is
    represented exactly. The factor E[σ'(u)σ'(v)] of the tangent kernel Θ is represented by neurons σ'(s W û) with the
    same weights W.

    Args:
        layer: The activation's layer.
        shape: Shape of the inputs of the layer.
        rows: Division of the rows of the layer's result.
        series: Not used; it is an argument because `SketchRest` needs it.
        random: Generator of the weights and signs.

    Attributes:
        nngp, ntk: Numbers of rows (features) of the results for Σ (NNGP) and for Θ (NTK).

    Raises `UserError` for an activation whose neurons have heavy tails, see `refuse_heavy_tails`.
    """

    def __init__(
        self, layer: ActivationStep, shape: Shape, rows: DividedRows, series: ScaledSeries,
        random: np.random.RandomState,
    ):  # fmt: skip
        self._layer, self._rows, dtype = layer, rows, layer.how.dtype
        self.nngp, self.ntk = rows.nngp, rows.ntk
        units = max(rows.nngp, rows.ntk)
        refuse_heavy_tails(layer.nonlinearity, math.sqrt(shape.square), rows.nngp)
        self._weights = random.standard_normal((units, shape.nngp)).astype(dtype)
        self._tangent = Srht(shape.ntk, rows.ntk, random, dtype) if rows.ntk else None

    def __call__(self, unit, ntk, scales, value, slope) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of the approximated terms of Σ (NNGP), (nngp, columns), and of Θ (NTK), (ntk, columns).

        Args:
            unit: Features of Σ before the layer, normalised to length 1, (p, columns).
            ntk: Features of Θ before the layer, (q, columns).
            scales: The standard deviation s of the activation's input for each column, (columns,).
            value: Coefficients a_j(s) of σ, (terms, columns).
            slope: Coefficients of σ', (terms, columns).
        """
        rows, z = self._rows, self._weights @ unit
        values, slopes = self._layer.nonlinearity(z, scales)
        values = values[: rows.nngp] - value[0]
        if rows.linear:
            values -= value[1] * z[: rows.nngp]
        values *= unit.dtype.type(1 / math.sqrt(rows.nngp))
        if self._tangent is None:
            return values, ntk[:0]
        factor = slopes[: rows.ntk]
        return values, self._tangent(ntk) * (factor - slope[0] if rows.tangent else factor)


def refuse_heavy_tails(nonlinearity: Nonlinearity, scale: float, units: int) -> None:
    """Raise `UserError` if there are too few random neurons σ(s z), z ~ N(0, 1), for an accurate mean of σ².

    The mean of σ² over m neurons has a relative standard error of √((E σ⁴/(E σ²)² - 1)/m). This is √(5/m) for ReLU. For
    σ = exp at s = 1 it is about √(e⁴/m), because a few neurons dominate the mean. Errors above 10 % are refused if
    E σ⁴/(E σ²)² is above 30.

    Args:
        nonlinearity: The activation σ.
        scale: Standard deviation s of the inputs of σ.
        units: Number m of neurons.
    """
    z, weights = hermite.nodes(nonlinearity.kinks)
    weights = weights * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    values, _ = nonlinearity(z[:, None], np.array([scale]))
    values = values[:, 0] / (np.abs(values).max() or 1.0)  # scaled, because σ² underflows in deep networks
    square, fourth = (float(weights @ values**power) for power in (2, 4))
    tail = fourth / square**2 if square > 0 else 0.0
    error = math.sqrt(max(tail - 1, 0) / max(units, 1))
    if tail > HEAVY and error > TOO_MUCH:
        raise UserError(
            f"The random neurons of this activation have heavy tails (E σ⁴/(E σ²)² = {tail:.3g}): {units} of them "
            f"have an error of {100 * error:.0f} %. Take --method=sketch, or {math.ceil(tail / TOO_MUCH**2)} of them."
        )


class SketchRest:
    """Sketched powers, which represent the approximated terms of an activation's kernels.

    A sketched power is a random vector whose inner products approximate a power of the correlation of two inputs. Its
    number of rows is in proportion to the weight of the power in the series. The factor E[σ'(u)σ'(v)] of the tangent
    kernel Θ has its own sketched powers, which a TensorSRHT multiplies with the features of Θ.

    Args:
        layer: The activation's layer.
        shape: Shape of the inputs of the layer.
        rows: Division of the rows of the layer's result.
        series: Series of σ for an input of the network whose entries have mean square 1.
        random: Generator of the signs.

    Attributes:
        nngp, ntk: Numbers of rows (features) of the results for Σ (NNGP) and for Θ (NTK); 0 if all coefficients are 0.
    """

    def __init__(
        self, layer: ActivationStep, shape: Shape, rows: DividedRows, series: ScaledSeries,
        random: np.random.RandomState,
    ):  # fmt: skip
        how, terms = layer.how, layer.terms
        caps = np.full(terms + 1, np.inf)
        caps[:2] = (1, shape.nngp)[: terms + 1]
        self._value = allocated(rows.nngp, series.value[:, 0] ** 2, 2 if rows.linear else 1, caps)
        self._slope = allocated(max(rows.ntk, terms + 1), series.slope[:, 0] ** 2, 1 if rows.tangent else 0, caps)
        self._slope *= rows.ntk > 0
        self.nngp, self.ntk = int(self._value.sum()), rows.ntk if self._slope.any() else 0
        width = max([1, *self._value[2:], *self._slope[2:]])
        width = -(-width // 2) if how.field == "complex" else width
        self._powers = PolySketch(shape.nngp, terms, int(width), random, field=how.field, dtype=how.dtype)
        firsts = (counts[1] if terms else 0 for counts in (self._value, self._slope))
        self._firsts = [Srht(shape.nngp, int(n), random, how.dtype) if 0 < n < shape.nngp else None for n in firsts]
        if self.ntk:
            self._product = TensorSrht((shape.ntk, int(self._slope.sum())), rows.ntk, random, how.dtype)

    def __call__(self, unit, ntk, scales, value, slope) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of the approximated terms of Σ (NNGP), (nngp, columns), and of Θ (NTK), (ntk, columns).

        Args:
            unit: Features of Σ before the layer, normalised to length 1, (p, columns).
            ntk: Features of Θ before the layer, (q, columns).
            scales: Not used.
            value: Coefficients a_j(s) of σ at the scale s of each column, (terms, columns).
            slope: Coefficients of σ', (terms, columns).
        """
        values, factors = [unit[:0]], [unit[:0]]
        for j, power in enumerate(self._powers.powers(unit)):
            for counts, first, coefficients, out in (
                (self._value, self._firsts[0], value, values), (self._slope, self._firsts[1], slope, factors)
            ):  # fmt: skip
                if counts[j] and j == 0:
                    out.append(coefficients[:1])
                elif counts[j] and j == 1:
                    out.append(coefficients[1] * (unit if first is None else first(unit)))
                elif counts[j]:
                    part = _interleaved(power)
                    share = unit.dtype.type(math.sqrt(len(part) / counts[j]))
                    out.append(coefficients[j] * share * part[: counts[j]])
        values = np.concatenate(values)
        return values, self._product(ntk, np.concatenate(factors)) if self.ntk else ntk[:0]


def _interleaved(power: np.ndarray) -> np.ndarray:
    """Return the real and imaginary parts of a complex sketch in alternating rows; a real sketch is returned unchanged.

    The first r rows of the result then contain as many real as imaginary parts, for every even r.
    """
    if power.dtype.kind != "c":
        return power
    return np.stack([power.real, power.imag], axis=1).reshape(2 * len(power), -1)


def allocated(total: int, weights: np.ndarray, start: int, caps: np.ndarray) -> Int[np.ndarray, " terms"]:
    """Divide rows among the terms of a series from the index `start` onwards, in proportion to their weights.

    Each of these terms gets at least one row, unless its weight is 0, and at most as many as `caps` allows.

    Args:
        total: Number of rows.
        weights: Weight of each term, (terms,).
        start: Index, from 0, of the first term that gets rows.
        caps: Largest number of rows of each term, (terms,), which may be infinite.

    Returns: The number of rows of each term.
    """
    counts, weights = np.zeros(len(weights), int), np.where(np.arange(len(weights)) < start, 0, weights)
    open_terms = weights > SMALL * weights.sum()
    counts[open_terms] = 1
    while (left := total - counts.sum()) > 0 and (open_terms := open_terms & (counts < caps)).any():
        wanted = np.where(open_terms, weights, 0) / weights[open_terms].sum() * left
        more = np.minimum(np.floor(wanted), caps - counts)
        if not more.any():
            more = np.arange(len(weights)) == np.argmax(wanted)
        counts += more.astype(int)
    return counts
