"""Numbers that compare kernels: against their definitions, on kernels whose values are known."""

import numpy as np
import pytest

from linearized.tangents.comparison import centred_alignment, effective_rank, kernel_distance, label_alignment


def kernel(seed, n=9, rank=4):
    features = np.random.default_rng(seed).standard_normal((n, rank))
    return features @ features.T


def test_distance_and_alignment_are_sums_over_pairs():
    one, two = kernel(0), kernel(1)
    n = len(one)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    product, sizes = sum(one[p] * two[p] for p in pairs), (sum(k[p] ** 2 for p in pairs) for k in (one, two))
    assert kernel_distance(one, two) == pytest.approx(1 - product / np.sqrt(np.prod(list(sizes))))
    h = np.eye(n) - np.ones((n, n)) / n
    hsic = [np.trace(a @ h @ b @ h) for a, b in ((one, two), (one, one), (two, two))]
    assert centred_alignment(one, two) == pytest.approx(hsic[0] / np.sqrt(hsic[1] * hsic[2]))


def test_scale_changes_nothing_and_a_constant_changes_the_distance_alone():
    one = kernel(0)
    assert kernel_distance(one, 3 * one) == pytest.approx(0, abs=1e-12)
    assert centred_alignment(one, 3 * one) == pytest.approx(1)
    assert centred_alignment(one, 3 * one + 5) == pytest.approx(1)
    assert kernel_distance(one, one + 5) > 0.01
    assert centred_alignment(one, np.ones_like(one)) == pytest.approx(0, abs=1e-7)


def test_effective_rank_counts_equal_eigenvalues():
    vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))[0]
    for rank in (1, 4, 9):
        assert effective_rank(2.5 * vectors[:, :rank] @ vectors[:, :rank].T) == pytest.approx(rank, rel=1e-6)
    assert 1 < effective_rank(np.diag([1.0, 0.1, 0.0])) < 2
    assert effective_rank(np.zeros((3, 3))) == 0


def test_labels_align_with_their_own_kernel():
    y = np.eye(3, dtype=np.float32)[np.arange(9) % 3]
    assert label_alignment(7 * y @ y.T, y) == pytest.approx(1)
    assert abs(label_alignment(kernel(2), y)) < 0.6
