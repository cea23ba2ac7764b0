"""The noises against a slow oracle that follows the published words image by image."""

import numpy as np
import pytest
import scipy.fftpack

from linearized.base.blocks import row_blocks
from linearized.base.errors import UserError
from linearized.data.transforms import noise
from linearized.data.transforms.noise import high_frequency, low_frequency, low_frequency_colour


def dct(image, inverse=False):
    """The two-dimensional orthonormal cosine transform, by SciPy's old package, an axis at a time."""
    one = scipy.fftpack.idct if inverse else scipy.fftpack.dct
    return one(one(image, axis=0, norm="ortho"), axis=1, norm="ortho")


def images(n, side, channels, seed=0):
    random = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(random.normal(size=(n, side, side, channels)), axis=1), axis=2)
    smooth -= smooth.min()
    return (255 * smooth / smooth.max()).astype(np.uint8)


def slow_high(sets, strength):
    np.random.seed(2048)
    out = []
    for group in sets:
        rows = []
        for image in group:
            n1, _, channels = image.shape
            image = image - image.mean()
            freq = np.stack([dct(image[:, :, c]) for c in range(channels)], axis=2)
            drawn = np.random.normal(size=(n1, n1, channels))
            for i in range(n1):
                for j in range(n1):
                    if np.sqrt((n1 - 1 - i) ** 2 + (n1 - 1 - j) ** 2) > n1 - 1:
                        drawn[i, j] = 0
            drawn = drawn / np.linalg.norm(drawn.ravel()) * strength * np.linalg.norm(freq.ravel())
            new = np.stack([dct((freq + drawn)[:, :, c], inverse=True) for c in range(channels)], axis=2)
            rows.append((new / np.linalg.norm(new.ravel()) * np.sqrt(new.size)).ravel())
        out.append(np.array(rows))
    return out


def slow_low(sets, threshold, colour):
    np.random.seed(2048)

    def coefficients(image):
        if not colour:
            image = image - image.mean()
            image = image / np.linalg.norm(image.ravel()) * np.sqrt(image.size)
        return np.stack([dct(image[:, :, c].astype(float)) for c in range(image.shape[2])], axis=2)

    freq = [np.array([coefficients(image) for image in group]) for group in sets]
    rows = freq[0].reshape(len(freq[0]), -1)
    covariance = np.cov(rows.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors @ np.diag(np.sqrt(np.where(values > 0, values, 0))) @ vectors.T
    out = []
    for group in freq:
        drawn = np.random.normal(size=(len(group), rows.shape[1])) @ root + rows.mean(axis=0)
        new = []
        for image, instead in zip(group, drawn.reshape(group.shape), strict=True):
            image = image.copy()
            image[:threshold, :threshold] = instead[:threshold, :threshold]
            new.append(np.stack([dct(image[:, :, c], inverse=True) for c in range(image.shape[2])], axis=2))
        out.append(np.array(new))
    if colour:
        mean, spread = out[0].mean(axis=(0, 1, 2)), out[0].std(axis=(0, 1, 2))
        out = [(group - mean) / spread for group in out]
    return [group.reshape(len(group), -1) for group in out]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks even of few rows."""
    monkeypatch.setattr(noise, "row_blocks", lambda rows, row_bytes: row_blocks(rows, 1, block_bytes=1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_high_frequency_equals_the_oracle(channels, strength):
    sets = images(150, 8, channels), images(40, 8, channels, seed=1)
    for ours, slow in zip(high_frequency(*sets, strength), slow_high(sets, strength), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, slow, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), np.sqrt(64 * channels), rtol=1e-5)


@pytest.mark.parametrize("threshold", [0, 1, 3, 8])
def test_low_frequency_equals_the_oracle(threshold):
    sets = images(150, 8, 1), images(70, 8, 1, seed=1)
    for ours, slow in zip(low_frequency(*sets, threshold), slow_low(sets, threshold, colour=False), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, slow, atol=2e-6)


@pytest.mark.parametrize("count", [150, 30])  # more and fewer images than coefficients
@pytest.mark.parametrize("threshold", [0, 2, 5])
def test_low_frequency_colour_equals_the_oracle(count, threshold):
    sets = images(count, 6, 3), images(70, 6, 3, seed=1)
    for ours, slow in zip(low_frequency_colour(*sets, threshold), slow_low(sets, threshold, colour=True), strict=True):
        np.testing.assert_allclose(ours, slow, atol=5e-6)


def test_low_frequency_colour_is_standardised_by_channel():
    ours, _ = low_frequency_colour(images(150, 6, 3), images(5, 6, 3), 3)
    pixels = ours.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(pixels.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(pixels.std(axis=0), 1, atol=1e-6)


def test_replaced_frequencies_have_the_law_of_the_train_set():
    train, test = images(2000, 6, 1), images(2000, 6, 1, seed=1)
    clean, (noisy, _) = low_frequency(train, test, 0)[0], low_frequency(train, test, 3)
    before, after = (np.array([dct(image) for image in rows.reshape(-1, 6, 6)]) for rows in (clean, noisy))
    low_before, low_after = before[:, :3, :3].reshape(2000, 9), after[:, :3, :3].reshape(2000, 9)
    room = 5 * np.sqrt(2 / 2000) * np.cov(low_before.T).max()
    np.testing.assert_allclose(np.cov(low_after.T), np.cov(low_before.T), atol=room)
    before[:, :3, :3] = after[:, :3, :3] = 0
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert abs(np.mean(low_before * low_after)) < 0.2 * np.mean(low_before**2)  # drawn anew, not kept


def test_threads_do_not_change_a_bit(monkeypatch):
    sets = images(400, 8, 1), images(200, 8, 1, seed=1)
    many = [*high_frequency(*sets, 1.0), *low_frequency(*sets, 3)]
    monkeypatch.setattr("linearized.base.blocks.cores", lambda: 1)
    for one, other in zip([*high_frequency(*sets, 1.0), *low_frequency(*sets, 3)], many, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("function", [high_frequency, low_frequency])
def test_image_of_one_colour_is_named(function):
    sets = [images(30, 6, 1), images(20, 6, 1)]
    sets[1][[7, 9]] = 42
    with pytest.raises(UserError, match="Image 7 of the test set has one colour"):
        function(*sets, 1)


def test_flat_channel_is_named():
    train = images(30, 6, 3)
    train[..., 1] = 5
    with pytest.raises(UserError, match="Channel 1"):
        low_frequency_colour(train, train, 0)


@pytest.mark.parametrize("threshold", [-1, 7])
def test_threshold_outside_the_image_is_refused(threshold):
    with pytest.raises(UserError, match=r"threshold must be 0\.\.6"):
        low_frequency(images(30, 6, 1), images(3, 6, 1), threshold)
