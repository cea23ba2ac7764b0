"""Scikit-learn estimators of the models of `linearized`: ridge regression on random and tangent features, and networks.

    from linearized.sklearn import RandomFeaturesRidge
    RandomFeaturesRidge(4096).fit(X, y).score(X_test, y_test)

Keras is imported when a network is fitted, not when this package is imported.
"""

from linearized.kernel_ridge.estimator import KernelRidgePath
from linearized.sklearn.feature_ridge import NeuralTangentRidge, RandomFeaturesRidge
from linearized.sklearn.networks import NetworkClassifier, NetworkRegressor

__all__ = ["KernelRidgePath", "NetworkClassifier", "NetworkRegressor", "NeuralTangentRidge", "RandomFeaturesRidge"]
