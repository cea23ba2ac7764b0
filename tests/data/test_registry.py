"""The table of names: spelling forgiven, unknown names refused with the nearest one, modules imported at look-up."""

import sys

import pytest

from linearized.base.errors import UserError
from linearized.base.registry import Registry
from linearized.data import DATASETS

TABLE = Registry(
    "model",
    {"NN": "linearized.base.errors", "RF": "linearized.base.errors:UserError"},
    {"2layerNTK": "NN", "rf_old": "RF"},
)


@pytest.mark.parametrize("name, known", [("NN", "NN"), ("nn", "NN"), ("2LAYERntk", "NN"), ("rf_old", "RF")])
def test_case_and_aliases_are_forgiven(name, known):
    assert TABLE.canonical(name) == known


def test_unknown_name_lists_the_choices_and_the_nearest():
    with pytest.raises(UserError, match=r"Unknown dataset 'FMINST'\. Did you mean FMNIST\?.*DIGITS.*SYNTH"):
        DATASETS.canonical("FMINST")
    with pytest.raises(UserError) as caught:
        TABLE.canonical("zzzzzz")
    assert "Did you mean" not in str(caught.value)


def test_load_gives_module_or_attribute():
    assert TABLE.load("NN") is sys.modules["linearized.base.errors"]
    assert TABLE.load("RF") is UserError


def test_is_a_read_only_mapping_in_order():
    assert list(TABLE) == ["NN", "RF"]
    assert len(TABLE) == 2
    assert TABLE["RF"] == "linearized.base.errors:UserError"
    with pytest.raises(TypeError):
        TABLE["CNN"] = "x"


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_dataset_is_called_as_its_line_says(name):
    assert DATASETS.load(name).name == name
