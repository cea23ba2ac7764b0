"""Least-squares problems, linear in their parameters, given by products with a matrix that need not be stored."""

from linearized.problems.features import FeatureProblem
from linearized.problems.gram import GramProblem
from linearized.problems.least_squares import LeastSquares, MatrixProblem
from linearized.problems.tangent import TangentProblem

__all__ = ["FeatureProblem", "GramProblem", "LeastSquares", "MatrixProblem", "TangentProblem"]
