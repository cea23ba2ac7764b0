"""Spectra from the kernel's formula and the covariance, against numerical eigenvalues of Gram matrices."""

import types

import numpy as np
import pytest

import kernel_gen
from linearized.experiments.theory_lines import lines
from linearized.settings.gram_settings import GramSettings

DIM, ROWS = 6, 900


def dataset(x, y):
    split = types.SimpleNamespace(x=x.astype(np.float32))
    return types.SimpleNamespace(train=split, targets=lambda _, centred: y)


def on_sphere(seed=0):
    x = np.random.default_rng(seed).normal(size=(ROWS, DIM))
    x = np.concatenate([x, -x])[:ROWS]  # of mean 0
    return 2 * x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("kernel", ["NTK", "RF", "LAPLACE", "GAUSSIAN", "MATERN", "POLYNOMIAL"])
def test_spectrum_by_degree_is_that_of_rows_on_the_sphere(kernel):
    x = on_sphere()
    y = (x[:, :1] + x[:, 1:2] * x[:, 2:3]) / 2
    settings = GramSettings(kernel=kernel)
    gram = kernel_gen.gram(kernel, x.astype(np.float32), scale="published").astype(float)
    found = np.linalg.eigvalsh(gram)[::-1] / ROWS
    sphere, hermite = lines(settings, dataset(x, y), np.trace(gram) / ROWS)
    assert sphere.about["dimension"] == pytest.approx(DIM, rel=0.01)
    by_degree = [entry["eigenvalue"] for entry in sphere.about["degrees"]]
    assert found[:1].mean() == pytest.approx(by_degree[0], rel=0.02)
    # a degree's eigenvalues scatter about the exact one; all of higher degrees together add their trace over the rows
    assert found[1 : 1 + DIM].mean() == pytest.approx(by_degree[1] + sphere.tail / ROWS, rel=0.05)
    if by_degree[2] > 1e-4 * by_degree[0]:
        assert found[7 : 7 + 20].mean() == pytest.approx(by_degree[2], rel=0.25)
    assert hermite.eigenvalues[1:7].mean() == pytest.approx(by_degree[1], rel=0.02)
    parts = [entry["target"] for entry in sphere.about["degrees"]]
    linear, pairs = np.square(x[:, 0] / 2).mean(), np.square(x[:, 1] * x[:, 2] / 2).mean()
    assert parts[1] == pytest.approx(linear, rel=0.15) and parts[2] == pytest.approx(pairs, rel=0.3)


def test_mean_of_the_inputs_does_not_change_a_kernel_of_distances():
    x = on_sphere()
    y = x[:, :1]
    settings = GramSettings(kernel="LAPLACE", bandwidth=2.0)
    plain, moved = (lines(settings, dataset(x + offset, y), 1.0) for offset in (0.0, 3.0))
    for one, other in zip(plain, moved, strict=True):
        np.testing.assert_allclose(one.eigenvalues[:50], other.eigenvalues[:50], rtol=1e-4)
        assert one.predict(100, 0.1) == pytest.approx(other.predict(100, 0.1), rel=1e-3)


@pytest.mark.parametrize("settings, width", [
    (GramSettings(kernel="RF", num_units=50), 6), (GramSettings(kernel="STAX", architecture="Dense(1)"), 6),
    (GramSettings(kernel="LAPLACE"), 2), (GramSettings(kernel="LAPLACE"), 1),
])  # fmt: skip
def test_other_kernels_and_few_dimensions_have_no_lines(settings, width):
    x = on_sphere()[:, :width]
    assert lines(settings, dataset(x, x[:, :1]), 1.0) == []


def test_more_columns_than_rows_have_the_components_of_the_rows():
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 400)) * np.linspace(2, 0.1, 400)
    found = lines(GramSettings(kernel="LAPLACE"), dataset(x, x[:, :1]), 1.0)
    centred = x - x.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2 / 120
    share = np.square(variances).sum() / variances.sum() ** 2 - 1 / 120
    assert found[0].about["dimension"] == pytest.approx(1 / share, rel=1e-3)
    assert found[1].described()["explained"] > 0.5
