"""neural-tangents on today's JAX: what is put back, and that the library's parts work with it."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_gen.stax import compat
from kernel_gen.stax.network import neural_tangents

nt = neural_tangents()
stax = nt.stax


@pytest.fixture(scope="module")
def network():
    return stax.serial(stax.Conv(8, (3, 3), padding="SAME"), stax.Relu(), stax.Flatten(), stax.Dense(2))


@pytest.fixture(scope="module")
def x() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (4, 5, 5, 2))


@pytest.fixture(scope="module")
def params(network, x):
    return network[0](jax.random.key(1), x.shape)[1]


def test_tensorflow_and_its_converter_are_not_imported():
    code = (
        "import sys; from kernel_gen.stax.network import neural_tangents; neural_tangents();"
        "print([name for name in ('tensorflow', 'tf2jax', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_second_install_changes_nothing():
    before = jax.stages.Compiled.cost_analysis
    compat.install()
    assert jax.stages.Compiled.cost_analysis is before


def test_cost_analysis_answers_as_a_dictionary_and_as_the_old_list():
    costs = jax.jit(lambda a: a @ a).lower(jnp.ones((8, 8))).compile().cost_analysis()
    assert costs[0]["flops"] == costs["flops"] > 0
    with pytest.raises(KeyError):
        costs["no such cost"]


def test_scipy_takes_both_names_of_the_range_of_eigenvalues():
    import scipy.linalg

    matrix = np.diag([1.0, 2.0, 3.0])
    np.testing.assert_allclose(scipy.linalg.eigvalsh(matrix), [1, 2, 3])
    np.testing.assert_allclose(scipy.linalg.eigvalsh(matrix, eigvals=(2, 2)), [3])
    np.testing.assert_allclose(scipy.linalg.eigvalsh(matrix, subset_by_index=(0, 0)), [1])


@pytest.mark.parametrize("implementation", list(nt.NtkImplementation), ids=str)
def test_every_empirical_ntk_is_the_product_of_jacobians(network, x, params, implementation):
    kernel_fn = nt.empirical_ntk_fn(network[1], trace_axes=(), vmap_axes=0, implementation=implementation)
    jacobian = jax.tree.leaves(jax.jacrev(lambda p: network[1](p, x))(params))
    expected = sum(jnp.einsum("ia...,jb...->ijab", leaf, leaf) for leaf in jacobian)
    np.testing.assert_allclose(jax.jit(kernel_fn, static_argnums=1)(x, None, params), expected, rtol=1e-4, atol=1e-5)


def test_structured_derivatives_handle_shared_sliced_and_unused_parameters(x):
    def apply(params, inputs):
        w, b, _ = params
        return jnp.tanh(inputs.reshape(len(inputs), -1) @ w) @ w[:3, :1] + b

    params = (jax.random.normal(jax.random.key(2), (50, 3)), jnp.ones(1), jnp.ones(4))
    found = [
        nt.empirical_ntk_fn(apply, trace_axes=(), implementation=implementation)(x, None, params)
        for implementation in (nt.NtkImplementation.JACOBIAN_CONTRACTION, nt.NtkImplementation.STRUCTURED_DERIVATIVES)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_the_kernel_is_the_mean_of_sampled_ones(network, x):
    sampled = nt.monte_carlo_kernel_fn(network[0], network[1], jax.random.key(3), n_samples=100, trace_axes=(-1,))
    exact = network[2](x, None, ("ntk", "nngp"))
    found = sampled(x, None, ("ntk", "nngp"))
    for name in ("ntk", "nngp"):
        error = getattr(found, name) - getattr(exact, name)
        assert jnp.abs(error).max() < 0.3 * jnp.abs(getattr(exact, name)).max(), name


def test_batching_gives_the_same_kernel(network, x):
    for device_count in (0, -1):
        batched = nt.batch(network[2], batch_size=2, device_count=device_count)
        np.testing.assert_allclose(batched(x, None, "ntk"), network[2](x, None, "ntk"), rtol=1e-4)


def test_predictions_at_infinite_time_are_kernel_regression(network, x):
    y = x[:3, 0, 0, :1]
    kernel = np.asarray(network[2](x, None, "ntk"), np.float64)
    predict = nt.predict.gradient_descent_mse_ensemble(network[2], x[:3], y, diag_reg=1e-4)
    ridge = 1e-4 * np.trace(kernel[:3, :3]) / 3
    expected = kernel[3:, :3] @ np.linalg.solve(kernel[:3, :3] + ridge * np.eye(3), np.asarray(y, np.float64))
    np.testing.assert_allclose(predict(x_test=x[3:], get="ntk"), expected, rtol=1e-3)
    rate = nt.predict.max_learning_rate(jnp.asarray(kernel), y_train_size=3)
    np.testing.assert_allclose(rate, 2 * 3 / np.linalg.eigvalsh(kernel)[-1], rtol=1e-4)


def test_predictions_run_under_vmap(network, x):
    kernel, y = network[2](x, None, "ntk"), x[:, 0, 0, :1]

    def after(k):
        return nt.predict.gradient_descent_mse(k, y)(1.0, jnp.zeros_like(y))

    both = jax.vmap(after)(jnp.stack([kernel, 2 * kernel]))
    np.testing.assert_allclose(both[0], after(kernel), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both[1], after(2 * kernel), rtol=1e-4, atol=1e-5)


def test_linearized_network_is_the_first_order_expansion(network, x, params):
    moved = jax.tree.map(lambda p: p + 0.1, params)
    value, change = jax.jvp(lambda p: network[1](p, x), (params,), (jax.tree.map(jnp.subtract, moved, params),))
    np.testing.assert_allclose(nt.linearize(network[1], params)(moved, x), value + change, rtol=1e-4, atol=1e-4)
