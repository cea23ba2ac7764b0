"""Ridge regression on the random features and on the tangent features of a two-layer ReLU network.

Both are ridge regression on fixed features φ(x) of a row x of length d. The network has N hidden units, random
first-layer weights W (d, N) with the columns w_i and, for the tangent features, a random readout a⁰ (N,) with standard
normal entries. The features are

    random features   φ(x) = [relu(xW), 1]
    tangent features  φ(x) = [relu(xW), 1, (a⁰_i step(w_i·x) x)_i]

The random weights are those of the models RF and NT (`linearized.base.weights`). Let Φ be the features of the n train
rows. For random features and n > N, the normal equations with ΦᵀΦ are solved, otherwise (K + ρI)α = y with the kernel
K = ΦΦᵀ. All computations are in float64, because scikit-learn requires a fit with integer row weights to equal a fit
with repeated rows to about 1e-7.
"""

import numbers

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from linearized.base.blocks import in_row_blocks
from linearized.base.weights import MOST_UNITS, SEED, first_layer, tangent_layers
from linearized.kernel_ridge.embedded_fit import fit_embedding
from linearized.kernel_ridge.estimator import GRID
from linearized.kernel_ridge.ridge_path import checked_path, fit
from linearized.problems.weighted_problem import checked_weights
from linearized.settings.config import LARGEST_SEED

LARGEST = 1e100  # largest absolute input, because products of inputs are summed in float64


class _FeatureRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Base class of both estimators, which centres the targets and chooses the ridge by generalised cross-validation.

    A subclass has a method `_draw` for its random weights. It also has either a method `_gram`, which computes the
    kernel between rows, or its own `_solve` and `_outputs`.
    """

    def __init__(self, num_units=4096, *, ridges=None, law="sphere", weight_seed=SEED):
        self.num_units, self.ridges, self.law, self.weight_seed = num_units, ridges, law, weight_seed

    def fit(self, X, y, sample_weight=None):
        """Fit at every ridge, and keep the coefficients at the best one by generalised cross-validation.

        Parameters
        ----------
        X, y : Train rows (n, d) and targets (n,) or (n, k).
        sample_weight : Weight of each row, at least 0, or one number for all. A row of weight 2 counts as two rows,
            also in the default grid and in generalised cross-validation; weights should therefore be about 1 on
            average.

        Raises
        ------
        ValueError : If the input is invalid.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        if (largest := np.abs(X).max()) > LARGEST:
            raise ValueError(f"Squares of the inputs overflow: scale X to entries up to {LARGEST:.0e}. "
                             f"Received: {largest:.1e}.")  # fmt: skip
        for name, low, high in (("num_units", 1, MOST_UNITS), ("weight_seed", 0, LARGEST_SEED)):
            if not isinstance(value := getattr(self, name), numbers.Integral) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}. Received: {value!r}.")
        weights = np.ones(len(X)) if sample_weight is None else checked_weights(sample_weight, len(X))
        self.offset_ = np.average(y, axis=0, weights=weights)
        self._draw(X.shape[1])
        self._solve(X, y - self.offset_, weights)
        return self

    def predict(self, X):
        """Return the outputs at the chosen ridge, (m,) or (m, k), for rows X (m, d), in blocks of rows."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return in_row_blocks(self._outputs, X, 8 * self._columns()) + self.offset_

    def _columns(self):
        """Return the number of entries of the largest arrays of `_outputs` for each row."""
        return max(self.num_units, len(getattr(self, "X_fit_", ())))

    def _solve(self, X, y, weights):
        self.X_fit_, self.dual_coef_ = X, self._dual(self._gram(X, X), y, weights)

    def _outputs(self, X):
        return self._gram(X, self.X_fit_) @ self.dual_coef_

    def _dual(self, gram, y, weights):
        """Solve (K + ρI)α = y at every ridge, choose the ridge, and return α there, (n,) or (n, k).

        Args:
            gram: K (n, n).
            y: Centred targets (n,) or (n, k).
            weights: Weights (n,) of the rows.
        """
        ridges = self._grid(np.diagonal(gram), weights)
        return self._chosen(fit(gram, y, ridges, sample_weight=weights, solver=_solver(ridges)), y, weights)

    def _grid(self, squares, weights):
        """Return the ridges that the user gave or, by default, multiples of the weighted mean of ‖φ(x)‖².

        Args:
            squares: ‖φ(x)‖² for the features φ(x) of each train row, (n,).
            weights: Weights (n,) of the rows.
        """
        if self.ridges is not None:
            return checked_path(self.ridges)
        return (float(np.average(squares, weights=weights)) or 1.0) * GRID

    def _chosen(self, path, y, weights):
        """Choose the ridge by generalised cross-validation, and return the coefficients there.

        This sets `path_`, `scores_` and `ridge_`. If no ridge has a score, the largest ridge is chosen.

        Args:
            path: Solutions at every ridge.
            y: Centred targets (n,) or (n, k); the coefficients have one axis or two accordingly.
            weights: Weights (n,) of the rows.
        """
        targets, total, self.path_ = y.reshape(len(y), -1), weights.sum(), path
        self.scores_ = np.full(len(path.ridges), np.nan)
        for place, one in enumerate(path.solutions):
            freedom = one.degrees_of_freedom
            if freedom is not None and freedom < total * (1 - 1e-9):
                error = np.square(targets - one.predictions).sum(axis=1)
                self.scores_[place] = np.average(error, weights=weights) / (1 - freedom / total) ** 2
        none = np.isnan(self.scores_).all()
        best = int(np.argmax(path.ridges) if none else np.nanargmin(self.scores_))
        self.ridge_, coef = float(path.ridges[best]), path.alpha[best]
        return coef[:, 0] if y.ndim == 1 else coef


def _solver(ridges):
    """Return the name of the solver for `ridges`: "auto" for one ridge, otherwise "band".

    "band" returns the degrees of freedom that generalised cross-validation needs; a single ridge needs no choice.
    """
    return "auto" if len(ridges) == 1 else "band"


class RandomFeaturesRidge(_FeatureRidge):
    """RF model: ridge regression on the features φ(x) = [relu(xW), 1] with fixed random weights W (d, N).

    Parameters
    ----------
    num_units : N, the number of random features and of columns of W.
    ridges : ρ of ‖Φw - y‖² + ρ‖w‖², with the features Φ of the train rows and the readout w: an array or one number,
        not divided by the number of rows. None: 28 values from 1e-6 to 1e3 times the mean of ‖φ(x)‖². The best is
        chosen by generalised cross-validation.
    law : Distribution of W: "sphere" (columns uniform on the unit sphere) or "gaussian" (entries N(0, 1/d)).
    weight_seed : Random-number seed of W.

    Attributes
    ----------
    coef_ : The readout with the constant as its last row, (N + 1,) or (N + 1, k).
    offset_ : Mean of y, which is subtracted before the fit and added to predictions.
    ridge_, scores_ : The chosen ρ, and the generalised cross-validation error at each ridge.
    path_ : `linearized.kernel_ridge.ridge_path.RidgePath` with the solutions at every ridge.
    weights_ : W (d, N).

    For n train rows the features cost n N d operations and take 8 n N bytes, and the solution costs
    min(n, N)² max(n, N) operations.
    """

    def _draw(self, dim):
        first = first_layer(dim, int(self.num_units), law=self.law, seed=int(self.weight_seed))
        self.weights_ = first.astype(np.float64)

    def _features(self, X):
        """Return the features [relu(XW), 1] of rows X (n, d), an array (n, N + 1)."""
        features = np.empty((len(X), self.num_units + 1))
        np.matmul(X, self.weights_, out=features[:, :-1])
        np.maximum(features[:, :-1], 0, out=features[:, :-1])
        features[:, -1] = 1
        return features

    def _solve(self, X, y, weights):
        features = self._features(X)
        if len(X) <= self.num_units:
            self.coef_ = features.T @ self._dual(features @ features.T, y, weights)
            return
        ridges = self._grid(np.einsum("ij,ij->i", features, features), weights)
        path = fit_embedding(features, y, ridges, sample_weight=weights, solver=_solver(ridges))
        self.coef_ = self._chosen(path, y, weights)

    def _outputs(self, X):
        return self._features(X) @ self.coef_


class NeuralTangentRidge(_FeatureRidge):
    """NT model: ridge regression on the tangent features of a two-layer ReLU network with random weights.

    The features are φ(x) = [relu(xW), 1, (a⁰_i step(w_i·x) x)_i] for first-layer weights W (d, N) with the columns w_i
    and a readout a⁰ (N,) with standard normal entries. All outputs have these features, and each output has its own
    parameters. The model NT does the same with `--directions=per_class`, except that it draws one a⁰ for each output.

    Parameters
    ----------
    num_units : N, the number of columns of W.
    ridges, law, weight_seed : As for `RandomFeaturesRidge`: values of ρ (None: a default grid), distribution of W and
        random-number seed of W and a⁰.

    Attributes
    ----------
    X_fit_, dual_coef_ : The train rows (n, d), and α of (K + ρI)α = y, (n,) or (n, k), with the kernel φ(x)·φ(z).
    offset_ : Mean of y, which is subtracted before the fit and added to predictions.
    ridge_, scores_ : The chosen ρ, and the generalised cross-validation error at each ridge.
    path_ : `linearized.kernel_ridge.ridge_path.RidgePath` with the solutions at every ridge.
    weights_, readout_ : W (d, N) and a⁰ (N,).

    For n train rows the kernel K takes 8 n² bytes and n² N operations, and its solution n³ operations. The N (d + 1) +
    1 parameters are never formed.
    """

    def _draw(self, dim):
        units, seed = int(self.num_units), int(self.weight_seed)
        first, readout = tangent_layers(dim, units, 1, law=self.law, seed=seed)
        self.weights_, self.readout_ = first.astype(np.float64), readout[0].astype(np.float64)

    def _gram(self, X, Z):
        """Return the kernel φ(x)·φ(z) between rows X (n, d) and Z (m, d), an array (n, m).

        It is relu(xW)·relu(zW) + 1 + x·z Σ_i a⁰_i² step(w_i·x) step(w_i·z).
        """
        inner = [rows @ self.weights_ for rows in (X, Z)]
        gates = [(values > 0).astype(np.float64) for values in inner]
        left, right = (np.maximum(values, 0) for values in inner)
        return left @ right.T + 1 + (X @ Z.T) * ((gates[0] * self.readout_**2) @ gates[1].T)
