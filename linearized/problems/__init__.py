"""Least-squares problems in models that are linear in their parameters, solved by products with an unstored matrix."""

from linearized.problems.feature_problem import FeatureProblem
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import LeastSquares, MatrixProblem
from linearized.problems.tangent_problem import TangentProblem

__all__ = ["FeatureProblem", "GramProblem", "LeastSquares", "MatrixProblem", "TangentProblem"]
