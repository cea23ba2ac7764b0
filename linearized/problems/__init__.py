"""Least-squares problems min ‖A v - Y‖² + ρ‖v‖² for the models of this suite, in the form that linear solvers take.

Each problem provides products with its feature matrix A (or with the Gram matrix K), so that A need not be in memory.
"""

from linearized.problems.feature_problem import FeatureProblem
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import LeastSquares, MatrixProblem
from linearized.problems.tangent_problem import TangentProblem

__all__ = ["FeatureProblem", "GramProblem", "LeastSquares", "MatrixProblem", "TangentProblem"]
