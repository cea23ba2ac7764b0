"""Warm-up and cosine, smoothed labels, weight decay, moved images: each against its definition."""

import keras
import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.models import cnn
from linearized.solvers.training import sgd
from linearized.solvers.training.batches import Batches
from linearized.solvers.training.objectives import RowLoss
from linearized.solvers.training.recipe import Recipe, moved
from linearized.solvers.training.schedule import cosine_rates, learning_rates


def test_cosine_rates_by_hand():
    np.testing.assert_allclose(cosine_rates(6.0, 6, 2), [2, 4, 6, 3 + 3 / np.sqrt(2), 3, 3 - 3 / np.sqrt(2)])
    np.testing.assert_allclose(cosine_rates(1.0, 2, 5), [1 / 6, 2 / 6])
    assert (cosine_rates(1.0, 90, 5) > 0).all()
    np.testing.assert_allclose(Recipe().rates(0.1, 40), learning_rates(0.1, 40))
    with pytest.raises(UserError, match="positive"):
        cosine_rates(0.0, 5, 1)


@pytest.mark.parametrize("flip", [False, True])
def test_moved_images_are_windows_of_padded_ones(flip):
    random = np.random.default_rng(0)
    images = random.standard_normal((200, 5, 4, 2)).astype(np.float32)
    found = moved(images.reshape(200, -1), (5, 4, 2), 1, flip, np.random.default_rng(1)).reshape(images.shape)
    seen = set()
    for image, out in zip(images, found, strict=True):
        made = {}
        for mirrored in (False, True) if flip else (False,):
            padded = np.pad(image[:, ::-1] if mirrored else image, ((1, 1), (1, 1), (0, 0)))
            made |= {(mirrored, i, j): padded[i : i + 5, j : j + 4] for i in range(3) for j in range(3)}
        [how] = [key for key, window in made.items() if np.array_equal(window, out)]
        seen.add(how)
    assert len(seen) == (18 if flip else 9)


def test_batches_are_moved_by_seed_and_epoch_alone():
    x = np.random.default_rng(0).standard_normal((20, 12)).astype(np.float32)
    y = np.arange(20, dtype=np.float32)[:, None]

    def epoch(number, seed=3):
        batches = Batches(x, y, 8, seed, Recipe(augment_crop=1, augment_flip=True), (3, 4, 1))
        batches.start(number)
        return np.concatenate([batches[index][0] for index in range(len(batches))])

    np.testing.assert_array_equal(epoch(2), epoch(2))
    assert not np.array_equal(np.sort(epoch(2), axis=None), np.sort(epoch(3), axis=None))
    assert not np.array_equal(epoch(2), epoch(2, seed=4))


@pytest.mark.parametrize("kind, classes", [("softmax", 4), ("sigmoid", 1)])
def test_smoothed_labels_are_a_mixture(kind, classes):
    """ε of the uniform distribution: the loss of the smoothed label is the mixture of the labels' losses."""
    random = np.random.default_rng(0)
    outputs = random.standard_normal((6, classes)).astype(np.float32)
    labels = np.eye(classes, dtype=np.float32)[random.integers(0, classes, 6)]
    if classes == 1:
        labels = random.integers(0, 2, (6, 1)).astype(np.float32)
        others = [np.zeros_like(labels), np.ones_like(labels)]
    else:
        others = [np.tile(row, (6, 1)) for row in np.eye(classes, dtype=np.float32)]
    plain, smoothed = RowLoss(kind), RowLoss(kind, smoothing=0.2)
    mixture = 0.8 * float(plain(labels, outputs)) + 0.2 * np.mean([float(plain(other, outputs)) for other in others])
    assert float(smoothed(labels, outputs)) == pytest.approx(mixture, rel=1e-5)
    assert RowLoss.from_config(smoothed.get_config()).smoothing == 0.2


def test_adamw_takes_its_share_off_each_weight(tiny, config):
    """With a rate so small that gradients move nothing, a step multiplies each weight by 1 - rate · decay."""
    data = tiny("classes", n=32)
    model = cnn.build(config(num_units=4), data)
    before = [np.array(weight) for weight in model.get_weights()]
    recipe = Recipe(schedule="cosine", warm_up=0, weight_decay=2e5)
    sgd.fit(model, data, learning_rate=1e-6, epochs=1, batch_size=32, optimizer="adamw", recipe=recipe)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(new, 0.8 * old, rtol=1e-3, atol=1e-5)


def test_what_the_data_cannot_have_is_refused(tiny, config):
    data = tiny("classes", images=False)
    model = keras.Sequential([keras.Input((data.dim,)), keras.layers.Dense(3)])
    with pytest.raises(UserError, match="no images"):
        sgd.fit(model, data, learning_rate=1e-3, epochs=1, batch_size=8, recipe=Recipe(augment_flip=True))
    with pytest.raises(UserError, match="cross-entropy"):
        sgd.fit(model, data, learning_rate=1e-3, epochs=1, batch_size=8, recipe=Recipe(label_smoothing=0.1))
