"""Architectures as descriptions: what they are cut into, which offsets they need, and what they refuse."""

import pytest

from kernel_gen.cntk.architecture import Architecture, AvgPool, Conv, Flatten, GlobalAvgPool, Relu, Stage, myrtle, plain
from kernel_gen.cntk.diagonal import self_reaches
from linearized.base.errors import UserError


def test_myrtle_on_cifar_sees_all_offsets():
    assert myrtle(5).stages(32, 32) == (
        Stage(32, 32, 2, (2, 2), (31, 31)),
        Stage(16, 16, 1, (2, 2), (15, 15)),
        Stage(8, 8, 1, (8, 8), (7, 7)),
    )


@pytest.mark.parametrize(("depth", "convs"), [(5, 4), (7, 6), (10, 9)])
def test_the_readout_counts_as_a_layer(depth, convs):
    assert myrtle(depth).convs == convs == depth - 1


def test_flattening_needs_no_offset_and_a_pool_before_it_its_square():
    assert plain(3, "flatten").stages(9, 7) == (Stage(9, 7, 3, (1, 1), (0, 0)),)
    assert plain(3, "gap").stages(9, 7) == (Stage(9, 7, 3, (9, 7), (8, 6)),)
    reaches = [stage.reach for stage in myrtle(5).stages(64, 96)]
    assert reaches == [(31, 31), (15, 15), (7, 7)]


def test_diagonal_maps_need_few_offsets():
    assert self_reaches(myrtle(5).stages(32, 32)) == [(3, 3), (1, 1), (0, 0)]


@pytest.mark.parametrize("size", [(28, 28), (32, 48), (16, 16), (33, 32)])
def test_sizes_that_the_pools_do_not_divide_are_refused(size):
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}.*2x2"):
        myrtle(5).stages(*size)


@pytest.mark.parametrize("depth", [1, 6, 11])
def test_other_depths_are_refused(depth):
    with pytest.raises(UserError, match="5, 7 or 10"):
        myrtle(depth)


def test_plain_networks_refuse_other_heads():
    with pytest.raises(UserError, match="gap"):
        plain(3, "mean")


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Conv(), Relu()),
        (Conv(), Flatten()),
        (Relu(), Flatten()),
        (Conv(), Relu(), Relu(), Flatten()),
        (Flatten(), GlobalAvgPool()),
        (Conv(), AvgPool(2), Relu(), Flatten()),
    ],
)
def test_steps_that_are_no_network_are_refused(steps):
    with pytest.raises(ValueError, match=r"needs|must end"):
        Architecture("odd", steps)
