"""Small networks in files."""

import keras


def saved(path, *layers, shape=(64,)):
    """Save a sequential network of these layers, and return it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape), *layers])
    model.save(path)
    return model
