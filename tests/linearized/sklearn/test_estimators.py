"""The estimators as scikit-learn sees them, their closed forms, pipelines, pickles; networks against their own loss."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import kernel_gen
from linearized.base.weights import first_layer, tangent_layers
from linearized.sklearn import (
    KernelRidgePath,
    NetworkClassifier,
    NetworkRegressor,
    NeuralTangentRidge,
    RandomFeaturesRidge,
)


@parametrize_with_checks([RandomFeaturesRidge(60), NeuralTangentRidge(40)])
def test_ridges_pass_scikit_learns_own_checks(estimator, check):
    check(estimator)


QUICK = ("check_estimator_cloneable", "check_estimators_pickle", "check_fit2d_predict1d", "check_n_features_in",
         "check_parameters_default_constructible", "check_no_attributes_set_in_init")  # fmt: skip


@pytest.mark.parametrize("kind", [NetworkClassifier, NetworkRegressor])
def test_networks_pass_some_of_scikit_learns_own_checks(kind):
    estimator = kind(num_units=4, epochs=2)
    found = {check.func.__name__: (made, check) for made, check in estimator_checks_generator(estimator)}
    for name in QUICK:
        made, check = found[name]
        check(made)


@pytest.mark.slow
@parametrize_with_checks([NetworkClassifier(num_units=32), NetworkRegressor(num_units=32)])
def test_networks_pass_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "estimator", [RandomFeaturesRidge(20), NeuralTangentRidge(20)], ids=lambda one: type(one).__name__
)
def test_inputs_whose_squares_overflow_are_refused(points, estimator):
    x, y, _ = points
    with pytest.raises(ValueError, match=r"scale X to entries up to 1e\+100"):
        estimator.fit(x * 1e300, y)


@pytest.mark.parametrize("name", ["nonsense", "depth", "learning_rate", "num_units", "seed"])
def test_settings_that_the_network_does_not_read_are_refused(points, name):
    x, y, _ = points
    with pytest.raises(ValueError, match=f"settings takes flags that NN reads.*num_layers.*Received: {name}"):
        NetworkRegressor(num_units=4, epochs=1, settings={name: 5}).fit(x, y)


def test_settings_that_the_network_reads_change_it_and_are_checked(points):
    x, y, _ = points
    deep = NetworkRegressor(num_units=4, epochs=1, settings={"num_layers": 3}).fit(x, y)
    assert len(deep.weights_) > len(NetworkRegressor(num_units=4, epochs=1).fit(x, y).weights_)
    with pytest.raises(ValueError, match="num_layers"):
        NetworkRegressor(num_units=4, epochs=1, settings={"num_layers": -1}).fit(x, y)
    with pytest.raises(ValueError, match="--output_scale is read"):  # with another parametrization alone
        NetworkRegressor(num_units=4, epochs=1, settings={"output_scale": 2.0}).fit(x, y)


def test_a_network_that_diverges_after_its_first_epoch_warns(points):
    x, y, _ = points
    with pytest.warns(ConvergenceWarning, match="lower learning_rate"):
        found = NetworkRegressor(num_units=4, epochs=30, learning_rate=1e12, optimizer="sgd").fit(x[:8], y[:8])
    assert found.diverged_


@pytest.mark.parametrize("units", [20, 100])
def test_random_features_ridge_is_ridge_on_the_features(points, units):
    x, y, z = points
    weights = np.linspace(0.2, 2, 60)
    first = first_layer(3, units).astype(float)
    features = [np.column_stack([np.maximum(rows @ first, 0), np.ones(len(rows))]) for rows in (x, z)]
    mean = np.average(y, weights=weights)
    theirs = Ridge(alpha=0.7, fit_intercept=False).fit(features[0], y - mean, weights)
    ours = RandomFeaturesRidge(units, ridges=0.7).fit(x, y, weights)
    np.testing.assert_allclose(ours.predict(z), theirs.predict(features[1]) + mean, atol=1e-6)
    assert ours.coef_.shape == (units + 1,) and ours.ridge_ == 0.7


def test_neural_tangent_ridge_is_ridge_on_the_gradient(points):
    x, y, z = points
    first, readout = (array.astype(float) for array in tangent_layers(3, 30, 1))

    def features(rows):
        gates = (rows @ first > 0) * readout[0]
        return np.column_stack([np.maximum(rows @ first, 0), np.ones(len(rows)),
                                (gates[:, :, None] * rows[:, None]).reshape(len(rows), -1)])  # fmt: skip

    theirs = Ridge(alpha=0.3, fit_intercept=False).fit(features(x), y - y.mean())
    ours = NeuralTangentRidge(30, ridges=0.3).fit(x, y)
    np.testing.assert_allclose(ours.predict(z), theirs.predict(features(z)) + y.mean(), atol=1e-6)


def test_named_kernel_is_that_of_kernel_gen(points):
    x, y, z = points
    theirs = KernelRidge(alpha=0.1, kernel="precomputed").fit(kernel_gen.gram("NTK", x, dtype="float64"), y)
    ours = KernelRidgePath(0.1, kernel="NTK").fit(x, y)
    expected = theirs.predict(kernel_gen.gram("NTK", z, x, dtype="float64"))
    np.testing.assert_allclose(ours.predict(z), expected, atol=1e-7)
    deep = KernelRidgePath(0.1, kernel="NTK", kernel_params={"num_layers": 3}).fit(x, y).predict(z)
    assert np.abs(deep - expected).max() > 1e-3


def test_pipeline_search_scores_and_pickle(points):
    x, y, z = points
    search = GridSearchCV(make_pipeline(StandardScaler(), RandomFeaturesRidge()),
                          {"randomfeaturesridge__num_units": [2, 200]}, cv=3)  # fmt: skip
    search.fit(x, y)
    assert search.best_params_ == {"randomfeaturesridge__num_units": 200}
    assert cross_val_score(NeuralTangentRidge(50), x, y, cv=3).min() > 0.5
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(search)).predict(z), search.predict(z))


@pytest.mark.parametrize("estimator", [
    RandomFeaturesRidge(20), NeuralTangentRidge(10), KernelRidgePath(kernel="POLYNOMIAL"),
    NetworkRegressor(num_units=8, epochs=1),
], ids=lambda estimator: type(estimator).__name__)  # fmt: skip
def test_joblib_and_data_frames_keep_predictions(points, tmp_path, estimator):
    x, y, z = points
    frame, further = (pd.DataFrame(rows, columns=["a", "b", "c"]) for rows in (x, z))
    pipeline = make_pipeline(StandardScaler(), estimator).set_output(transform="pandas").fit(frame, y)
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b", "c"]  # the scaler's output is a data frame
    plain = make_pipeline(StandardScaler(), clone(estimator)).fit(x, y)
    np.testing.assert_allclose(pipeline.predict(further), plain.predict(z), rtol=1e-5, atol=1e-6)
    joblib.dump(pipeline, tmp_path / "fitted.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "fitted.joblib").predict(further), pipeline.predict(further))
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(further[["b", "a", "c"]])


def test_folds_may_be_fitted_side_by_side(points):
    x, y, _ = points
    estimator = make_pipeline(StandardScaler(), RandomFeaturesRidge(30))
    alone = cross_val_score(estimator, x, y, cv=3)
    with joblib.parallel_backend("threading", n_jobs=2):
        np.testing.assert_allclose(cross_val_score(estimator, x, y, cv=3), alone, rtol=1e-6)


def test_network_classifier_learns_names_and_survives_a_pickle():
    x, numbers = load_digits(n_class=3, return_X_y=True)
    names = np.array(["zero", "one", "two"])[numbers]
    network = NetworkClassifier(num_units=32, epochs=10).fit(x[:200] / 16, names[:200])
    assert network.classes_.tolist() == ["one", "two", "zero"] and network.score(x[200:] / 16, names[200:]) > 0.9
    assert network.loss_curve_[-1] < network.loss_curve_[0] / 2 and not network.diverged_
    again = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(again.predict_proba(x[:70] / 16), network.predict_proba(x[:70] / 16))
    with pytest.raises(ValueError, match="class"):
        NetworkClassifier().fit(x[:5], ["zero"] * 5)


@pytest.mark.parametrize("network", [NetworkClassifier(), NetworkRegressor()])
def test_network_that_is_not_fitted_says_so(network):
    with pytest.raises(NotFittedError):
        network.predict(np.zeros((2, 3)))


def test_network_regressor_learns_in_the_units_of_the_target(points):
    x, y, _ = points
    network = NetworkRegressor(num_units=64, epochs=100).fit(x, 1000 + 50 * y)
    assert network.score(x, 1000 + 50 * y) > 0.7
