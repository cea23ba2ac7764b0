"""PATCH: entries by loops over patches, whitening by its covariance, gradients by finite differences."""

import types

import numpy as np
import pytest

import linearized
from kernel_gen import gram
from kernel_gen.kernels.patch import CONTRAST, PatchKernel
from kernel_gen.kernels.stretched import StretchedKernel
from linearized.base.errors import UserError
from linearized.kernel_ridge import feature_machine
from linearized.storage.results import load_arrays

SHAPE = (7, 8, 2)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(9, *SHAPE)).cumsum(axis=1).reshape(9, -1)


def kernel_of(train, **settings):
    return PatchKernel(SHAPE, **{"size": 3, "stride": 2, "dtype": "float64", **settings}).settled(train)


def patches_of(images, size=3, stride=2):
    """Patches (n, rows, columns, d) by loops."""
    cut = images.reshape(-1, *SHAPE)
    return np.array([[[image[i : i + size, j : j + size].ravel() for j in range(0, SHAPE[1] - size + 1, stride)]
                      for i in range(0, SHAPE[0] - size + 1, stride)] for image in cut])  # fmt: skip


def test_an_entry_is_the_mean_over_cells_of_the_mean_kernel_between_their_patches(images):
    kernel = kernel_of(images, whitening=0.0, bandwidth=1.7)
    patches = patches_of(images)
    assert patches.shape[1:3] == (3, 3)
    bounds = [0, 1, 3]
    expected = np.zeros((9, 9))
    for row in range(2):
        for column in range(2):
            cell = patches[:, bounds[row] : bounds[row + 1], bounds[column] : bounds[column + 1]].reshape(9, -1, 18)
            for i in range(9):
                for j in range(9):
                    values = [np.exp(-np.sum((p - q) ** 2) / (2 * 1.7**2)) for p in cell[i] for q in cell[j]]
                    expected[i, j] += np.mean(values) / 4
    np.testing.assert_allclose(gram(kernel, images), expected, rtol=1e-12)
    np.testing.assert_allclose(gram(kernel, images[:4], images[2:]), expected[:4, 2:], rtol=1e-12)
    assert np.linalg.eigvalsh(expected).min() > 0
    single = kernel_of(images.astype(np.float32), whitening=0.0, bandwidth=1.7, dtype="float32")
    np.testing.assert_allclose(gram(single, images), expected, atol=2e-6)


def test_whitened_patches_of_the_train_rows_have_the_covariance_that_regularization_leaves(images):
    kernel = kernel_of(images, whitening=0.02, stride=1)
    patches = patches_of(images, stride=1).reshape(-1, 18)
    patches = patches - patches.mean(axis=1, keepdims=True)
    variances = patches.var(axis=1)
    patches /= np.sqrt(variances + CONTRAST * variances.mean())[:, None]
    values = np.linalg.eigvalsh(np.cov(patches.T, bias=True))
    found = kernel.whitened(images).reshape(-1, 18)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(found.T, bias=True)), values / (values + 0.02 * values.mean()),
                               atol=1e-10)  # fmt: skip
    distances = np.linalg.norm(found[:, None] - found, axis=2)[np.triu_indices(len(found), 1)]
    assert kernel.on(images).bandwidth == pytest.approx(np.median(distances) / 2, rel=1e-9)


@pytest.mark.parametrize("cells", [1, 2])
def test_gradients_in_patches_are_those_of_finite_differences(cells, images, monkeypatch):
    monkeypatch.setattr("kernel_gen.kernels.patch.PAIRS", 20)  # several blocks of train images
    kernel = kernel_of(images, cells=cells).on(images)
    alpha = np.random.default_rng(1).normal(size=(9, 2))
    rows, points = kernel.prepare(images), kernel.whitened(images[:3] + 0.1)
    found = kernel.gradients(kernel.prepare(points), rows, alpha)
    expected, step = np.zeros((2, *points.shape)), 1e-5
    for place in np.ndindex(*points.shape):
        for sign in (1, -1):
            moved = points.copy()
            moved[place] += sign * step
            expected[:, *place] += sign * (kernel.block(kernel.prepare(moved), rows) @ alpha)[place[0]] / (2 * step)
    splits = [slice(0, 3)] if cells == 1 else [slice(0, 1), slice(1, 3)]
    expected = np.concatenate(
        [expected[:, :, rows, columns].reshape(2, -1, 18) for rows in splits for columns in splits], axis=1
    )
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("centred", [True, False])
def test_the_outer_product_is_that_of_the_patches_gradients_in_their_own_coordinates(centred, images):
    kernel = kernel_of(images)
    factor = np.random.default_rng(2).normal(size=(18, 18))
    metric, alpha = factor @ factor.T / 18, np.random.default_rng(3).normal(size=(9, 2))
    stretched = StretchedKernel(kernel, metric).on(images)
    found = stretched.average_outer_product(
        images[:4], stretched.prepare(images), alpha, diagonal=False, centred=centred
    )
    root = stretched.root
    inner = stretched.base.gradients(stretched.prepare(images[:4]), stretched.prepare(images), alpha) @ root
    inner = inner - centred * inner.mean(axis=1, keepdims=True)
    expected = np.einsum("kmd,kme->de", inner, inner) / inner.shape[1]
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_a_machine_on_patches_finds_the_pattern_that_the_labels_count():
    """Images of noise patches; the label is how strongly one 2x2 pattern stands in them, squared."""
    draws, pattern = np.random.default_rng(0), np.array([1.0, -1, -1, 1]) / 2

    def made(count):
        cut = draws.normal(size=(count, 3, 3, 2, 2))
        labels = np.square(cut.reshape(count, 9, 4) @ pattern).mean(axis=1)
        return cut.transpose(0, 1, 3, 2, 4).reshape(count, 36).astype(np.float32), labels - 1

    (x, y), (x_validation, y_validation) = made(300), made(150)
    found = feature_machine.fit(x, y, x_validation, y_validation, base="PATCH", iterations=2, sample=60,
                                image_shape=(6, 6, 1), patch_size=2, patch_cells=1, patch_whitening=0.0)  # fmt: skip
    shares = [pattern @ step.metric @ pattern / np.trace(step.metric) for step in found.steps]
    assert shares[0] == pytest.approx(1 / 4) and shares[found.best] > 0.8 and found.best > 0
    assert found.steps[found.best].loss < 0.7 * found.steps[0].loss


@pytest.mark.parametrize("settings, words", [
    ({"image_shape": None}, "needs images"), ({"patch_size": 9}, "have 0x0 patches of 9x9"),
    ({"patch_size": 6, "patch_cells": 3}, "fewer than 3x3 cells"),
])  # fmt: skip
def test_images_without_enough_patches_are_refused(settings, words, images):
    with pytest.raises(UserError, match=words):
        gram("PATCH", images, **{"image_shape": SHAPE, **settings})
    with pytest.raises(UserError, match="constant"):
        gram("PATCH", np.ones((4, 112)), image_shape=SHAPE)


def test_a_run_is_predicted_again_by_its_learned_metric_and_compared_with_a_convolution(directories):
    flags = {"num_train": 80, "num_test": 30, "validation": 30, "patch_size": 3, "ridges": [1e-3, 1e-1]}
    found = linearized.krr("RFM", "DIGITS", **flags, base="PATCH", iterations=1, rfm_power=0.5)
    assert found.metric.shape == (9, 9) and found.record["feature_machine"]["image_shape"] == [3, 3, 1]
    rows = found._dataset.test.x
    np.testing.assert_allclose(found.decision(rows), load_arrays(found.folder)["predictions/test"], atol=1e-4)
    layer = np.linalg.cholesky(found.metric + 1e-9 * np.eye(9)).reshape(3, 3, 1, 9)
    network = types.SimpleNamespace(weights=[np.ones(9), layer])
    assert found.correlation_with(network) == pytest.approx(1, abs=1e-6)
