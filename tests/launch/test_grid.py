"""Grids of flags: ranges, lists, flags that go together; what is not one is refused."""

import itertools

import pytest

from linearized.base.errors import UserError
from linearized.launch.grid import combinations

WORDS = ("python", "train.py", "--dataset=NFMNIST")


def test_all_combinations_in_the_order_of_a_nested_loop():
    found = combinations(WORDS, ["noise_ind=0:3", "model=RF,NT"])
    expected = [(*WORDS, f"--noise_ind={i}", f"--model={m}") for i, m in itertools.product(range(3), ("RF", "NT"))]
    assert found == expected
    assert combinations(WORDS, []) == [WORDS]


@pytest.mark.parametrize(
    "axis, added",
    [
        ("k=4", [["--k=4"]]),
        ("k=0:10:4", [["--k=0"], ["--k=4"], ["--k=8"]]),
        ("k=3:0:-2", [["--k=3"], ["--k=1"]]),
        ("reg_index=0,4;5,9", [["--reg_index=0,4"], ["--reg_index=5,9"]]),
        ("model,num_units=RF,4096;NT,256", [["--model=RF", "--num_units=4096"], ["--model=NT", "--num_units=256"]]),
        ("reg_index=0:3;3:6", [["--reg_index=0:3"], ["--reg_index=3:6"]]),
        ("activation=gelu,sin(a=2)", [["--activation=gelu"], ["--activation=sin(a=2)"]]),
        ("--model=RF", [["--model=RF"]]),
    ],
)
def test_an_axis_is_what_it_says(axis, added):
    assert combinations(WORDS, [axis]) == [(*WORDS, *words) for words in added]


@pytest.mark.parametrize(
    "axes, words",
    [
        (["noise_ind"], "takes flag=values"), (["=3"], "takes flag=values"), (["a b=3"], "takes flag=values"),
        (["model="], "takes flag=values"), (["k=0:x"], "a range is"), (["k=0:1:2:3"], "a range is"),
        (["k=3:3"], "holds no value"), (["k=1,1"], "names a value twice"), (["k=1,,2"], "needs 1 parts"),
        (["a,b=1;2"], "needs 2 parts"), (["k=1", "k=2"], "--k is given twice"),
        (["dataset=SYNTH"], "--dataset is given twice"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused(axes, words):
    with pytest.raises(UserError, match=words):
        combinations(WORDS, axes)
