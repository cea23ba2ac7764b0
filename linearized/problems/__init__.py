"""Least-squares problems min ‖A v - Y‖² + ρ‖v‖² for the models of this suite, with the interface of linear solvers.

A problem provides products with its feature matrix A, or with a Gram matrix K. The matrix need not be in memory.
"""

from linearized.problems.feature_problem import FeatureProblem
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import LeastSquares, MatrixProblem
from linearized.problems.tangent_problem import TangentProblem

__all__ = ["FeatureProblem", "GramProblem", "LeastSquares", "MatrixProblem", "TangentProblem"]
