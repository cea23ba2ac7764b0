"""The table of names: spelling forgiven, unknown names refused with the nearest one, modules imported at look-up."""

import sys

import pytest

from data import DATASETS
from data.errors import UserError
from data.registry import Registry

TABLE = Registry("model", {"NN": "data.errors", "RF": "data.errors:UserError"}, {"2layerNTK": "NN", "rf_old": "RF"})


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
    assert TABLE.load("NN") is sys.modules["data.errors"]
    assert TABLE.load("RF") is UserError


def test_is_a_read_only_mapping_in_order():
    assert list(TABLE) == ["NN", "RF"]
    assert len(TABLE) == 2
    assert TABLE["RF"] == "data.errors:UserError"
    with pytest.raises(TypeError):
        TABLE["CNN"] = "x"


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_dataset_is_called_as_its_line_says(name):
    assert DATASETS.load(name).name == name
