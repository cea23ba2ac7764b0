"""Settings: flags, checks, saved values, names."""

import dataclasses
import json
import shlex

import pytest

from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.base.registry import Registry
from linearized.settings.config import Settings, parse, setting
from linearized.settings.help import help_text

MODELS = Registry("model", {"NN": "", "RF": ""}, {"rf_old": "RF"})


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    model: str = setting("RF", "which model", choices=MODELS)
    units: int = setting(100, "how many units", minimum=1, maximum=1000)
    rate: float = setting(0.5, "learning rate", minimum=0)
    fast: bool = setting(False, "hurry")
    loss: str = setting("square", "which loss", choices=("square", "cross_entropy"))
    limit: int | None = setting(None, "at most this many", minimum=1)
    memory: float = setting(1.0, "GiB", identity=False)


def test_flags_give_settings_and_defaults():
    assert parse(Config, []) == Config()
    given = parse(Config, ["--model=rf_old", "--units=7", "--rate", "2", "--fast", "--limit=3", "--loss=CROSS_ENTROPY"])
    assert given == Config(model="RF", units=7, rate=2.0, fast=True, limit=3, loss="cross_entropy")
    assert isinstance(given.rate, float)
    assert parse(Config, ["--nofast"]).fast is False


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--model=RR", r"--model: Unknown model 'RR'"),
        ("--units=0", r"--units must be at least 1\. Received: 0"),
        ("--units=1001", r"--units must be at most 1000\. Received: 1001"),
        ("--units=many", "units"),
        ("--rate=nan", r"--rate must be finite"),
        ("--limit=0", r"--limit must be at least 1"),
        ("--loss=hinge", "square, cross_entropy"),
        ("--unit=3", "unit"),
        ("stray", r"Cannot read: stray"),
    ],
)
def test_bad_flags_are_told_in_one_line(argument, message):
    with pytest.raises(UserError, match=message):
        parse(Config, [argument])


@pytest.mark.parametrize("bad", [{"units": 1.5}, {"units": True}, {"model": 3}, {"rate": "1"}, {"fast": 1}])
def test_wrong_types_are_refused(bad):
    with pytest.raises(UserError, match="takes a value of type"):
        Config(**bad)


def test_saved_settings_come_back():
    config = Config(units=3, limit=4)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(UserError, match="Unknown settings: colour"):
        Config.from_dict({"colour": 1})


def test_key_depends_on_what_decides_the_result_alone():
    assert Config().key() == Config(memory=2.0).key()
    others = {Config(units=3).key(), Config(model="NN").key(), Config(rate=0.25).key(), Config(fast=True).key()}
    assert len({Config().key(), *others}) == 5
    assert Config(model="rf_old").key() == Config().key()


def test_help_names_every_flag_with_default_and_choices():
    text = help_text(Config, "Does things.")
    assert text.startswith("Does things.")
    for field in dataclasses.fields(Config):
        assert f"--{field.name}=" in text
    assert "one of: NN, RF (also: rf_old)" in text


def test_a_command_line_gives_the_same_settings_again():
    config = Config(units=7, rate=0.25, fast=True)
    line = config.command_line("python train.py")
    assert line.startswith("python train.py --")
    assert parse(Config, shlex.split(line)[2:]) == config
    assert Config().command_line("linearized data") == "linearized data"


@dataclasses.dataclass(frozen=True)
class Named(Settings):
    """A setting that becomes a folder's name."""

    exp_name: str = setting("test", "a name", name=True)


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "a\\b", ".", "..", "...", ".hidden", "", " ", " a", "a ",
                                  "a\0b", "a\nb", "\u2028", "x" * 101, "ü" * 51, "\udcff"])  # fmt: skip
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(UserError, match="--exp_name"):
        Named(exp_name=name)


@pytest.mark.parametrize("name", ["test", "a.b", "run 3", "größe", "x" * 100, "a..b", "-"])
def test_a_name_of_one_folder_is_taken(name, tmp_path):
    (tmp_path / Named(exp_name=name).exp_name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_other_text_becomes_a_part_of_a_file_name():
    assert slug("CNN_leaky_relu(0.1)") == "CNN_leaky_relu(0.1)"
    assert slug("../a/b\0c") == "_a_b_c" and slug("") == "_"
    one, other = slug("x" * 200 + "1"), slug("x" * 200 + "2")
    assert one != other and len(one) == len(other) == 100
