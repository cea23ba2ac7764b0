"""Least-squares problems, linear in their parameters, given by products with a matrix that need not be stored."""

from linearized.problems.feature_problem import FeatureProblem
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import LeastSquares, MatrixProblem
from linearized.problems.tangent_problem import TangentProblem

__all__ = ["FeatureProblem", "GramProblem", "LeastSquares", "MatrixProblem", "TangentProblem"]
