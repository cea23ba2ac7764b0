"""Command lines are read strictly: decimal numbers, no hidden flags, and the nearest name for what is unknown."""

import dataclasses

import pytest

from linearized.base.errors import UserError
from linearized.base.nearest import nearest
from linearized.settings.config import LARGEST_SEED, Settings, bounds, parse, setting


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    max_cg_iters: int = setting(10, "epochs", minimum=1)
    learning_rate: float = setting(0.5, "rate", minimum=0)
    seed: int = setting(0, "seed", minimum=0, maximum=LARGEST_SEED)
    offset: float = setting(0.0, "of either sign")
    fast: bool = setting(False, "hurry")
    grid: tuple = setting((), "collected")
    name: str = setting("", "text")


@pytest.mark.parametrize("flag", ["max_cg_iters", "learning_rate", "seed"])
@pytest.mark.parametrize(
    "value", ["1e30", "1" + "0" * 30, "1" * 5000, "-1", "nan", "inf", "-inf", "", "0x1", "1_0", " 1"]
)
def test_a_number_out_of_bounds_or_in_another_form_is_refused_by_name(flag, value):
    with pytest.raises(UserError, match=f"--{flag} ") as caught:
        parse(Config, [f"--{flag}={value}"])
    assert len(str(caught.value)) < 250


def test_every_number_has_bounds_and_its_largest_value_is_accepted():
    for field in dataclasses.fields(Config):
        if (limits := bounds(field)) is None:
            continue
        for value in limits:
            assert getattr(Config(**{field.name: value}), field.name) == value
        with pytest.raises(UserError, match=f"at most .*Lower --{field.name}"):
            Config(**{field.name: limits[1] * 2 or 1})


def test_forms_of_flags():
    given = parse(
        Config, ["--fast", "-seed", "3", "--grid=a", "--grid", "b", "--learning_rate=1e-3", "--offset", "-.5"]
    )
    assert given == Config(fast=True, seed=3, grid=("a", "b"), learning_rate=1e-3, offset=-0.5)
    assert parse(Config, ["--seed=1", "--seed=2"]).seed == 2
    assert parse(Config, ["--nofast", "x", "--", "--seed=1"], words="grid").grid == ("x", "--seed=1")


@pytest.mark.parametrize("words, message", [
    (["--lr=3"], "Did you mean --learning_rate"), (["--epochs=3"], "Did you mean --max_cg_iters"),
    (["--learning-rate=3"], "Did you mean --learning_rate"), (["--zzz"], r"Unknown flag '--zzz'\. \("),
    (["--flagfile=/dev/zero"], "Unknown flag"), (["--undefok=zzz", "--zzz=3"], "Unknown flag"), (["--nolearning_rate"],
    "Unknown flag"), (["--seed"], "needs a value"), (["--fast=maybe"], "true or false"), (["--name=\udcff"], "UTF-8"),
    (["stray", "words"], "Cannot read: stray words"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_nearest_name(words, message):
    with pytest.raises(UserError, match=message):
        parse(Config, words)


def test_nearest_by_case_synonym_initials_spelling_and_part():
    columns = ["test_accuracy", "test_loss", "train_accuracy", "num_units"]
    cases = {"TEST_LOSS": "test_loss", "width": "num_units", "nu": "num_units", "accuracy": "test_accuracy",
             "loss": "test_loss", "units": "num_units", "zebra": None}  # fmt: skip
    assert {word: nearest(word, columns) for word in cases} == cases
