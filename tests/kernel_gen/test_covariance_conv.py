"""Sums of slices equal JAX's convolution with the diagonal filter, and neural-tangents really takes them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_gen.stax import covariance_conv
from kernel_gen.stax.network import neural_tangents


@pytest.mark.parametrize(
    "taps, stride, padding", list(itertools.product((1, 2, 3, 5), (1, 2, 3), ("SAME", "VALID"))), ids=str
)
@pytest.mark.parametrize("side", [5, 8])
def test_slices_are_the_convolution(taps, stride, padding, side):
    lhs = jnp.asarray(np.random.default_rng(0).standard_normal((3, 1, side, side)), jnp.float32)
    rhs = jnp.broadcast_to(jnp.diag(jnp.full((taps,), 1 / taps)), (1, 1, taps, taps))
    settings = {"dimension_numbers": covariance_conv.NUMBERS, "feature_group_count": 1}
    found = covariance_conv.convolve(lhs, rhs, (stride, stride), padding, **settings)
    expected = jax.lax.conv_general_dilated(lhs, rhs, (stride, stride), padding, **settings)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_convolutions_are_left_to_jax():
    random = np.random.default_rng(0)
    lhs = jnp.asarray(random.standard_normal((2, 6, 6, 1)), jnp.float32)
    rhs = jnp.asarray(random.standard_normal((3, 3, 1, 1)), jnp.float32)
    numbers = ("NHWC", "HWIO", "NHWC")
    found = covariance_conv.convolve(lhs, rhs, (1, 1), "SAME", dimension_numbers=numbers)
    expected = jax.lax.conv_general_dilated(lhs, rhs, (1, 1), "SAME", dimension_numbers=numbers)
    np.testing.assert_array_equal(found, expected)


def test_kernels_of_convolutions_hold_no_convolution(images):
    stax = neural_tangents().stax
    kernel = stax.serial(stax.Conv(1, (3, 3), padding="SAME"), stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1))[2]
    if jax.default_backend() == "cpu":
        assert "conv_general" not in str(jax.make_jaxpr(lambda x: kernel(x, x[:2], "ntk"))(images[:4]))
