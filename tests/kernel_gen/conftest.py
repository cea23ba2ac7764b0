"""Inputs that the kernels' tests share."""

import numpy as np
import pytest
from skimage import data as photos


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Ten 8x8x3 images in float64: crops of a photo, noise, a constant, zeros, and one image twice."""
    random = np.random.default_rng(0)
    photo = photos.astronaut() / 255.0
    crops = [photo[i : i + 8, i + 150 : i + 158] for i in range(20, 320, 60)]
    noise = [random.normal(size=(8, 8, 3)) for _ in range(2)]
    return np.stack([*crops, *noise, np.full((8, 8, 3), 0.3), np.zeros((8, 8, 3)), crops[0]])


@pytest.fixture(scope="session")
def rows(images: np.ndarray) -> np.ndarray:
    """The same as rows (10, 192)."""
    return images.reshape(len(images), -1)
