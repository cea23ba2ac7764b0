"""The data set SPHERE: rows on the sphere of radius √d and a linear target, with noise on the train labels.

Train labels are y = x₁ + τ ε, where τ is the noise level and ε ~ N(0, 1); test labels are y = x₁. The target has mean
square E x₁² = 1, and the test loss does not contain the variance τ² of the label noise. This is the setting of the
double descent of random features (Mei and Montanari, arXiv 1908.05355).

STAIRCASE with `--index_target=1` has the same target on Gaussian rows, whose Euclidean norms vary: their standard
deviation is 1/√(2d) of their mean. SPHERE exists as well, because two results hold only for rows of equal norm: the
theorem of Mei and Montanari, and the exact spectrum of a kernel by degree (`linearized.learning_theory.sphere`).
"""

import dataclasses
from pathlib import Path

import numpy as np

from linearized.data.dataset import Dataset, RowChoice, Split, fingerprint
from linearized.data.source import Found, Source
from linearized.settings.memory import refuse_beyond_machine

ROWS = (20_000, 10_000)
TRAIN_SEED, TEST_SEED = 145, 2
VERSION = 1  # version of the meaning of the rows; part of every fingerprint


def sphere_rows(rows: int, dim: int, random: np.random.Generator) -> np.ndarray:
    """Draw rows (n, d) in float32, uniform on the sphere of radius √d.

    Args:
        rows: Number of rows n.
        dim: Length of a row d.
        random: Generator of the rows.
    """
    drawn = random.standard_normal((rows, dim), np.float32)
    return drawn * np.float32(np.sqrt(dim)) / np.linalg.norm(drawn, axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class SphereSource(Source):
    """Description of the data set SPHERE; loading it generates the rows."""

    def find(self, directory: Path | str | None = None) -> Found:
        """Report that there are no files to find, because loading makes the rows; `directory` is not used."""
        return Found(None, [], "Nothing to get: loading makes it from its seeds.", made_on_load=True)

    def fetch(self, directory: Path | str | None = None) -> None:
        """Do nothing, because the rows are made from their seeds when they are loaded."""

    def row_length(self, *, synth_dim: int = 1024, **others: object) -> int:
        """Return the length d of a row, `synth_dim`; other settings are ignored."""
        return synth_dim

    def _loaded(
        self, noise_ind: int | np.integer, folder: Path, rows: RowChoice, *, synth_dim: int = 1024
    ) -> Dataset:  # fmt: skip
        """Generate the rows; the labels of train rows have noise of standard deviation τ = noise_ind/10.

        Args:
            noise_ind: Index of the noise level.
            folder: Not used.
            rows: The selection of rows.
            synth_dim: Length d of a row.

        Raises `UserError` if all rows of that length do not fit in memory.
        """
        level, parts = self.level(noise_ind), []
        refuse_beyond_machine(4 * 2 * sum(ROWS) * synth_dim, f"SPHERE with --synth_dim={synth_dim}",
                              "Lower --synth_dim.")  # fmt: skip
        for kind, count, seed, noise in (("train", ROWS[0], TRAIN_SEED, level), ("test", ROWS[1], TEST_SEED, 0.0)):
            random = np.random.default_rng(seed)
            x = sphere_rows(count, synth_dim, random)
            y = x[:, :1] + np.float32(noise) * random.standard_normal((count, 1), np.float32)
            taken = rows.of(count, kind)
            parts.append(Split(x[taken], y[taken]))
        made = self.dataset(noise_ind, *parts, fingerprint("SPHERE", VERSION, synth_dim, level), rows)
        return dataclasses.replace(made, label_noise=float(level) ** 2)


SPHERE = SphereSource(
    name="SPHERE",
    title="linear target on a sphere, with label noise (synthetic)",
    noise_name="τ",
    noise_levels=tuple(index / 10 for index in range(11)),
    task="regression",
    num_classes=0,
    image_shape=None,
    family="SYNTH",
    directory_key="synth_dir",
    settings=("synth_dim",),
    rows=ROWS,
)
