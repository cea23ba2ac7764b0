"""Factors of layers and the row gradients that are made of them."""

import numpy as np
import pytest

from linearized.tangents import contributions
from linearized.tangents.contributions import Factors


@pytest.fixture
def factors():
    random = np.random.default_rng(0)
    inputs = random.standard_normal((7, 5, 3)).astype(np.float32)
    return Factors(inputs, random.standard_normal((7, 5, 2, 4)).astype(np.float32), 0.0)


@pytest.mark.parametrize("multiplications", [1, 2**24], ids=["a block per row", "one block"])
def test_row_gradients_are_sums_of_outer_products(factors, multiplications, monkeypatch):
    monkeypatch.setattr(contributions, "PARALLEL", multiplications)
    expected = np.einsum("nta,ntkb->nkba", factors.inputs.astype(float), factors.signals)
    np.testing.assert_allclose(factors.gradients(), expected, rtol=1e-5, atol=1e-5)


def test_row_gradients_of_no_rows(factors):
    assert factors[:0].gradients().shape == (0, 2, 4, 3)
