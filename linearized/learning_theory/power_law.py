"""Power laws y = c x^(-b), fitted by weighted least squares of log y on log x, with the exponent's standard error."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import curve_fit

from linearized.base.errors import UserError
from linearized.base.shapes import Float64


class PowerLaw(NamedTuple):
    """Fitted power law y = c x^(-b).

    Attributes:
        exponent: b; above 0 if y decreases.
        error: Standard error of b.
        factor: c.
        chi: √(Σ (r/s)² / (points - 2)) for the residuals r of log y and the standard errors s of log y. Above 1, the
            points are farther from a power law than their errors explain, and `error` has been multiplied by `chi`. NaN
            for points without errors.
        points: Number of points that were fitted.
    """

    exponent: float
    error: float
    factor: float
    chi: float
    points: int

    def __call__(self, x: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """Return the fitted c x^(-b) at each of the positive numbers `x`."""
        return self.factor * np.asarray(x, np.float64) ** -self.exponent


def fit_power_law(
    x: Float64[np.ndarray, " m"], y: Float64[np.ndarray, " m"], errors: Float64[np.ndarray, " m"] | None = None
) -> PowerLaw:
    """Fit a power law to points (x, y) by least squares of log y on log x.

    Args:
        x: At least three positive numbers, not all equal.
        y: Positive numbers, one for each x.
        errors: Standard error of each y, positive. None: all points have the same weight in log y, and the standard
            error of the exponent is estimated from their scatter about the line.

    Raises:
        UserError: If there are fewer points, if `x` and `y` differ in length, or if a number is not positive and
            finite.

    Example:
        >>> import numpy as np
        >>> from linearized.learning_theory.power_law import fit_power_law
        >>> x = np.array([10.0, 100.0, 1000.0])
        >>> law = fit_power_law(x, 3 * x**-0.5)
        >>> round(law.exponent, 6)
        0.5
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    relative = None if errors is None else np.asarray(errors, np.float64) / y
    if len(x) < 3 or len(np.unique(x)) < 2 or len(x) != len(y):
        raise UserError(f"A power law needs at least three points with two different x. Received: {len(x)} x and "
                        f"{len(y)} y.")  # fmt: skip
    for name, values in (("x", x), ("y", y), ("errors", x if relative is None else relative)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise UserError(f"A power law needs positive, finite {name}. Received: {values[:5].tolist()}.")

    def line(log_x: np.ndarray, log_factor: float, exponent: float) -> np.ndarray:
        return log_factor - exponent * log_x

    centre = float(np.log(x).mean())  # centring nearly decorrelates the estimates of exponent and factor
    log_x, log_y = np.log(x) - centre, np.log(y)
    found, covariance = curve_fit(line, log_x, log_y, p0=(log_y.mean(), 0.0), sigma=relative,
                                  absolute_sigma=relative is not None)  # fmt: skip
    chi = np.nan
    if relative is not None:
        residual = (log_y - line(log_x, *found)) / relative
        chi = float(np.sqrt(np.square(residual).sum() / (len(x) - 2)))
    error = float(np.sqrt(covariance[1, 1])) * max(1.0, 0.0 if np.isnan(chi) else chi)
    return PowerLaw(float(found[1]), error, float(np.exp(found[0] + found[1] * centre)), chi, len(x))
