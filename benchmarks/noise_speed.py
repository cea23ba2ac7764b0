"""NFMNIST's noise for 70,000 images against drawing its random numbers alone; its cache against plain `np.load`.

    python benchmarks/noise_speed.py

Images are random bytes, so that no file is needed; the arithmetic does not depend on them. Best of three, since the
machine may be shared. The answer is compared too: replaced frequencies must have the train set's standard deviation.
"""

import tempfile
from pathlib import Path

import numpy as np
import scipy.fft
from figures import record
from timing import fastest

from linearized.data.source import THRESHOLDS_28
from linearized.data.transforms import cache
from linearized.data.transforms.noise import SEED, low_frequency

TRAIN, TEST, SIDE = 60_000, 10_000, 28


def main() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (TRAIN + TEST, SIDE, SIDE, 1), dtype=np.uint8)
    train, test = images[:TRAIN], images[TRAIN:]
    for noise_ind in (0, 6, 13):
        threshold = THRESHOLDS_28[noise_ind]
        draw = fastest(lambda: np.random.RandomState(SEED).normal(size=(TRAIN + TEST, SIDE**2)))
        noise = fastest(lambda k=threshold: low_frequency(train, test, k))
        print(f"noise_ind {noise_ind:2d}: draws alone {draw:.2f} s, noise {noise:.2f} s, ratio {noise / draw:.2f}")
        record(f"NFMNIST noise, level {noise_ind}, 70,000 images", noise, "drawing its random numbers", draw)

    clean, noisy = low_frequency(train, test, 0)[0], low_frequency(train, test, 13)
    spreads = [
        scipy.fft.dctn(rows[:20_000].reshape(-1, SIDE, SIDE), axes=(1, 2), norm="ortho")[:, :13, :13].std()
        for rows in (clean, noisy[0])
    ]
    print(f"standard deviation of the replaced frequencies: {spreads[0]:.4f} before, {spreads[1]:.4f} after")

    arrays = {"x_train": noisy[0], "x_test": noisy[1]}
    arrays |= {f"y_{kind}": np.zeros((len(arrays[f"x_{kind}"]), 1), np.float32) for kind in ("train", "test")}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "cached"
        cache.write(place, arrays, {})
        plain = fastest(lambda: [np.load(file) for file in place.glob("*.npy")])
        ours = fastest(lambda: cache.read(place))
    size = sum(array.nbytes for array in arrays.values()) / 2**20
    print(f"from the cache ({size:.0f} MiB): np.load {plain:.3f} s, ours with checksums {ours:.3f} s")
    record(f"reading cached rows, {size:.0f} MiB", ours, "np.load, without checksums", plain)


if __name__ == "__main__":
    main()
