"""The data set STAIRCASE: random rows, and a target that depends on few of their coordinates or directions.

The default target is x₁ + x₂ + x₃ + x₁x₂x₃ for rows of length 200. Inputs are standard normal, or signs ±1. All
coordinates have the same distribution, so that only the labels reveal which of them matter. A network learns the linear
terms of the default target and from them the product; a fixed kernel needs of the order of d³ rows. The variance of
this target is 4. Label noise, whose standard deviation σ is the noise level, is added to train and validation labels.
Test labels have none, so that the test loss is the mean square distance from the target itself.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset, RowChoice, Split, check, chosen_rows, fingerprint
from linearized.data.source import Found, Source
from linearized.data.sources.index_targets import IndexTarget, index_target
from linearized.settings.memory import refuse_beyond_machine

ROWS = (100_000, 10_000)  # train and test
TRAIN_SEED, TEST_SEED, NOISE_SEED, ROTATION_SEED = 301, 302, 303, 304
BLOCK = 4096  # rows that are drawn together
VERSION = 1  # version of the meaning of the rows; part of every fingerprint


def directions(target: IndexTarget, dim: int, rotated: bool) -> np.ndarray:
    """Return the directions D (d, r) that define the coordinates of the target: x D for rows x (n, d).

    Args:
        target: The target, which depends on coordinates 1 to r.
        dim: Length d of a row.
        rotated: Whether the directions are random and orthonormal, drawn from a fixed seed; otherwise they are the
            first r unit vectors.
    """
    if not rotated:
        return np.eye(dim, target.count, dtype=np.float32)
    drawn = np.random.RandomState(ROTATION_SEED).standard_normal((dim, target.count))
    found, triangle = np.linalg.qr(drawn)
    return (found * np.sign(np.diagonal(triangle))).astype(np.float32)


def inputs(rows: int, dim: int, seed: int, signs: bool) -> np.ndarray:
    """Draw random inputs (n, d) in float32; the first rows do not depend on the number of rows.

    Args:
        rows: Number of rows n.
        dim: Length of a row d.
        seed: Random-number seed.
        signs: Whether entries are -1 or 1 with equal probability; otherwise they are N(0, 1).
    """
    random, x = np.random.RandomState(seed), np.empty((rows, dim), np.float32)
    for start in range(0, rows, BLOCK):
        drawn = random.standard_normal((BLOCK, dim))[: rows - start]
        x[start : start + BLOCK] = np.where(drawn < 0, -1, 1) if signs else drawn
    return x


@dataclasses.dataclass(frozen=True)
class StaircaseSource(Source):
    """Description of the data set STAIRCASE; loading it generates the rows."""

    def find(self, directory: Path | str | None = None) -> Found:
        """Report that there are no files to find, because loading makes the rows; `directory` is not used."""
        return Found(None, [], "Nothing to get: loading makes it from its seeds.", made_on_load=True)

    def fetch(self, directory: Path | str | None = None) -> None:
        """Do nothing, because the rows are made from their seeds when they are loaded."""

    def check(self, settings: Any) -> None:
        """Raise `UserError` for settings whose target cannot be read or does not fit the inputs.

        Args:
            settings: Object with the attributes index_target, index_dim, index_inputs and index_rotated.
        """
        checked(settings.index_target, settings.index_dim, settings.index_inputs, settings.index_rotated)

    def row_length(self, *, index_dim: int = 200, **others: object) -> int:
        """Return the length d of a row, `index_dim`; other settings are ignored."""
        return index_dim

    def _loaded(
        self,
        noise_ind: int | np.integer,
        folder: Path,
        rows: RowChoice,
        *,
        index_dim: int = 200,
        index_target: str = "1+2+3+1*2*3",
        index_inputs: str = "gaussian",
        index_rotated: bool = False,
    ) -> Dataset:
        """Generate the rows; the noise level is the standard deviation of the noise of train and validation labels.

        Test rows are always the first ones, even if `rows.subset` is "random".

        Args:
            noise_ind: Index of the noise level.
            folder: Not used.
            rows: The selection of rows.
            index_dim: Length d of a row.
            index_target: The target as a text, such as "1+2+3+1*2*3" (see `linearized.data.sources.index_targets`).
            index_inputs: Distribution of the inputs: "gaussian", or "signs" ±1.
            index_rotated: Whether the coordinates of the target are random directions.

        Raises `UserError` for a target that does not fit the inputs, and for rows that do not fit in memory.
        """
        level, target = self.level(noise_ind), checked(index_target, index_dim, index_inputs, index_rotated)
        taken = rows.of(ROWS[0], "train")
        first = chosen_rows(ROWS[1], rows.num_test, what="num_test")
        drawn = taken.stop if isinstance(taken, slice) else int(taken.max()) + 1
        refuse_beyond_machine(
            4 * index_dim * (drawn + first.stop), f"STAIRCASE with --index_dim={index_dim} and {drawn} rows",
            "Lower --index_dim or --num_train.",
        )  # fmt: skip
        signs, span = index_inputs == "signs", directions(target, index_dim, index_rotated)
        train = inputs(drawn, index_dim, TRAIN_SEED, signs)[taken]
        test = inputs(first.stop, index_dim, TEST_SEED, signs)
        noise = np.random.RandomState(NOISE_SEED).standard_normal(ROWS[0])[taken]
        parts = []
        for x, errors in ((train, level * noise), (test, 0.0)):
            y = (target(x @ span) + errors)[:, None].astype(np.float32)
            check(x, y, "STAIRCASE")
            parts.append(Split(x, y))
        recipe = {"dim": index_dim, "terms": target.terms, "inputs": index_inputs, "rotated": index_rotated,
                  "noise": float(level)}  # fmt: skip
        made = self.dataset(noise_ind, *parts, fingerprint(recipe, VERSION), rows)
        exponents = {
            "information_exponent": target.information_exponent, "leap_exponent": target.leap_exponent,
        }  # fmt: skip
        kept = span if index_rotated else span[:, target.coordinates]
        return dataclasses.replace(
            made, directions=kept, label_noise=float(level) ** 2, notes={**made.notes, **exponents}
        )


def checked(text: str, dim: int, kind: str, rotated: bool) -> IndexTarget:
    """Parse a target and check that it fits the inputs.

    Args:
        text: Sum of products of coordinates, such as "1+2+3+1*2*3".
        dim: Number of coordinates.
        kind: "gaussian" or "signs", the distribution of the inputs.
        rotated: Whether the target's coordinates are random orthogonal directions.

    Raises `UserError` for text that cannot be read, for more coordinates than `dim`, and for rotated signs and powers
    of signs.
    """
    target = index_target(text)
    if target.count > dim:
        raise UserError(f"--index_target={text} needs {target.count} coordinates. Received: --index_dim={dim}.")
    if kind == "signs" and rotated:
        raise UserError("--index_rotated is for --index_inputs=gaussian: signs have no rotation.")
    if kind == "signs" and any(degree > 1 for term in target.terms for _, degree in term):
        raise UserError(f"Powers of signs are constant: --index_inputs=signs takes products alone. Received: {text}.")
    return target


STAIRCASE = StaircaseSource(
    name="STAIRCASE",
    title="polynomial of a few coordinates among many (synthetic)",
    noise_name="σ",
    noise_levels=(0.0, 0.1, 0.2, 0.5, 1.0),
    task="regression",
    num_classes=0,
    image_shape=None,
    family="OWN",
    settings=("index_dim", "index_target", "index_inputs", "index_rotated"),
    rows=ROWS,
)
