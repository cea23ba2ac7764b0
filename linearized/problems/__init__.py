"""Least-squares problems min ‖A v - Y‖² + ρ‖v‖² over v, for linear models and kernel ridge regression.

A problem provides products with its feature matrix A, or with a Gram matrix K. Many solvers in
`linearized.solvers.linear` need only these products, so the matrix need not be in memory.
"""

from linearized.problems.feature_problem import FeatureProblem
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import LeastSquares, MatrixProblem
from linearized.problems.tangent_problem import TangentProblem

__all__ = ["FeatureProblem", "GramProblem", "LeastSquares", "MatrixProblem", "TangentProblem"]
