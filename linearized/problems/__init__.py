"""Least-squares problems of models that are linear in their parameters; the matrix is only used in products."""

from linearized.problems.feature_problem import FeatureProblem
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import LeastSquares, MatrixProblem
from linearized.problems.tangent_problem import TangentProblem

__all__ = ["FeatureProblem", "GramProblem", "LeastSquares", "MatrixProblem", "TangentProblem"]
