"""The two networks whose derivatives these scripts time: an MLP 784-1024-1024-10 and a CNN of three convolutions."""


def models(rows: int) -> dict:
    """Return each network with its normal rows, by name."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    layers, random = keras.layers, np.random.default_rng(0)
    dense = [layers.Dense(1024, "relu") for _ in range(2)]
    convolutions = [layers.Conv2D(32, 3, padding="same", activation="relu") for _ in range(3)]
    mlp = keras.Sequential([keras.Input((784,)), *dense, layers.Dense(10)])
    cnn = keras.Sequential([keras.Input((28, 28, 1)), *convolutions, layers.Flatten(), layers.Dense(10)])
    x = random.standard_normal((rows, 784)).astype(np.float32)
    return {"MLP": (mlp, x), "CNN": (cnn, x.reshape(-1, 28, 28, 1))}
