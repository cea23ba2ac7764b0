"""Kernel ridge regression over a path of ridges as a scikit-learn estimator."""

import importlib
import warnings

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import PAIRWISE_KERNEL_FUNCTIONS, pairwise_kernels
from sklearn.utils.validation import check_is_fitted, validate_data

from linearized.base.array_checks import refuse_not_finite
from linearized.base.blocks import in_row_blocks
from linearized.base.errors import UserError, shown
from linearized.base.nearest import hint
from linearized.base.own_functions import is_reference
from linearized.kernel_ridge.ridge_path import checked_gram, checked_path, fit
from linearized.problems.weighted_problem import checked_weights
from linearized.settings.gram_settings import KERNELS

GRID = 10.0 ** np.linspace(-6, 3, 28)  # default ridges, in units of the mean of K's diagonal
SELECT = {"gcv": "gcv", "loo": "leave-one-out"}  # values of `select`, with their names in messages


class KernelRidgePath(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Kernel ridge regression, (K + ρI)α = y, for a path of ridges from which the best one is chosen.

    K (n, n) is the kernel between the n train rows, and α are the coefficients of a fit.

    Parameters
    ----------
    ridges : array of ρ, or one number; not divided by n. None: 28 values from 1e-6 to 1e3 times the mean of K's
        diagonal. With weights w_i, this mean is Σ_i w_i K_ii divided by the number of rows whose weight is not 0.
    select : "gcv" (generalised cross-validation) or "loo" (exact leave-one-out squared error). With one ridge nothing
        is chosen.
    kernel : one of these:
        - "precomputed": X is K, between train rows in `fit` and between new and train rows in `predict`;
        - a kernel of `kernel_gen.gram`, computed in float64: a name such as "NTK", "RF" or "CNTK", or
          "package.module:function" for a function of blocks of rows (see `kernel_gen.kernels.own`);
        - a kernel of `sklearn.metrics.pairwise.pairwise_kernels`: a name such as "rbf", or a function of two rows.
    kernel_params : dict of parameters of that kernel.
    solver : "auto", or one of `linearized.solvers.GRAM_SOLVERS` that computes what `select` requires. "auto" uses band
        for gcv and eigh for loo; for a single ridge `linearized.kernel_ridge.ridge_path.fit` chooses the solver.
    rtol : Relative residual ‖y - (K + ρI)α‖/‖y‖ to reach. None: 1e-7, or 1e-5 for block_lanczos and cg on K in float32.

    Attributes
    ----------
    path_ : `linearized.kernel_ridge.ridge_path.RidgePath`, with α and the diagnostics at every ridge.
    scores_ : Value of the criterion `select` at each ridge, (ridges,); NaN for ridges that could not be solved, and if
        the solver of a single ridge does not compute the criterion.
    ridge_, ridge_index_ : The chosen ρ and its index.
    dual_coef_ : α at the chosen ridge, (n,) or (n, k).
    X_fit_ : The train rows, or K.
    n_features_in_ : Number of columns of X.

    `fit` issues scikit-learn's `ConvergenceWarning` when the system of the chosen ridge was not solved to `rtol`; the
    estimator is fitted nevertheless.

    y is not centred: subtract its mean first if the kernel contains no constant. `predict` returns (m,) or (m, k).

    Examples
    --------
    >>> import numpy as np
    >>> from linearized import KernelRidgePath
    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> model = KernelRidgePath(kernel="NTK", select="loo").fit(x, x[:, 0] ** 2)
    >>> model.predict(x[:5]).shape, model.ridge_ > 0
    ((5,), True)
    """

    def __init__(
        self, ridges=None, *, select="gcv", kernel="precomputed", kernel_params=None, solver="auto", rtol=None
    ):
        self.ridges, self.select, self.kernel = ridges, select, kernel
        self.kernel_params, self.solver, self.rtol = kernel_params, solver, rtol

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags

    def fit(self, X, y, sample_weight=None):
        """Fit every ridge and choose the best one.

        Parameters
        ----------
        X, y : Train rows (or K) and labels (n,) or (n, k).
        sample_weight : Weight of each row, at least 0, or one number for all; see
            `linearized.kernel_ridge.ridge_path.fit`. The leave-one-out score is then a weighted mean.

        Raises
        ------
        ValueError : If the input is invalid; `linearized.base.errors.UserError` is a subclass of it.
        """
        if self.select not in SELECT:
            raise ValueError(f"`select` must be gcv or loo. Received: {self.select!r}.")
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True)
        gram = checked_gram(self._kernel(X, None))
        weights = np.ones(len(gram)) if sample_weight is None else checked_weights(sample_weight, len(gram))
        mean = float(weights @ np.diagonal(gram)) / np.count_nonzero(weights)
        ridges = checked_path((mean if mean > 0 else 1.0) * GRID if self.ridges is None else self.ridges)
        solver = self.solver
        if solver == "auto" and len(ridges) > 1:
            solver = "band" if self.select == "gcv" else "eigh"
        self.X_fit_ = X
        given = None if sample_weight is None else weights
        self.path_ = fit(gram, y, ridges, sample_weight=given, solver=solver, rtol=self.rtol)
        self.scores_ = np.array([self._score(solution, weights) for solution in self.path_.solutions], np.float64)
        self.ridge_index_ = self._best()
        self.ridge_ = float(ridges[self.ridge_index_])
        solution = self.path_.solutions[self.ridge_index_]
        if not solution.converged:
            warnings.warn(
                f"The chosen ridge {self.ridge_:.3g} did not converge: residual {solution.residual:.1e}, asked for "
                f"{self.path_.rtol:.1e}. Take larger ridges, another solver or a larger rtol.",
                ConvergenceWarning, stacklevel=2,
            )  # fmt: skip
        alpha = self.path_.alpha[self.ridge_index_]
        self.dual_coef_ = alpha[:, 0] if y.ndim == 1 else alpha
        return self

    def predict(self, X):
        """Return K(X, train)α at the chosen ridge, (m,) or (m, k). Raises ValueError if the kernel is not finite.

        The kernel is computed for blocks of rows of X, so that K(X, train) is never in memory as a whole.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))

        def outputs(rows):
            gram = self._kernel(rows, self.X_fit_)
            refuse_not_finite(gram, "The kernel of the rows and the train rows", "Look at the kernel's parameters.")
            return gram @ self.dual_coef_

        return outputs(X) if self.kernel == "precomputed" else in_row_blocks(outputs, X, 8 * len(self.X_fit_))

    def _kernel(self, x, fitted):
        if self.kernel == "precomputed":
            return x
        if isinstance(self.kernel, str) and (self.kernel in KERNELS or is_reference(self.kernel)):
            gram = importlib.import_module("kernel_gen").gram  # JAX and Numba are imported where they are needed
            return gram(self.kernel, x, fitted, **{"dtype": "float64", **(self.kernel_params or {})})
        if isinstance(self.kernel, str) and self.kernel not in PAIRWISE_KERNEL_FUNCTIONS:
            names = ["precomputed", *KERNELS, *PAIRWISE_KERNEL_FUNCTIONS]
            raise UserError(f"Unknown kernel {shown(self.kernel)}.{hint(self.kernel, names)} The choices are: "
                            f"{', '.join(names)}, a function, or module:function.")  # fmt: skip
        return pairwise_kernels(x, fitted, metric=self.kernel, filter_params=True, **(self.kernel_params or {}))

    def _score(self, solution, weights):
        if self.select == "gcv":
            return np.nan if solution.gcv is None else solution.gcv
        if solution.leave_one_out is None:
            return np.nan
        return np.average(np.sum(solution.leave_one_out**2, axis=1), weights=weights)

    def _best(self):
        if len(self.path_.ridges) == 1:
            return 0
        if np.isnan(self.scores_).all():
            raise ValueError(
                f"The solver {self.path_.solver} does not give {SELECT[self.select]}. Take solver='auto', or one ridge."
            )
        return int(np.nanargmin(self.scores_))
