"""Functions that compare two kernel matrices (distance and alignment), and the effective rank of one kernel matrix.

A kernel is given as the symmetric matrix (n, n) of its values at all pairs of n rows. Multiplying a kernel by a
positive number changes none of the results. All are computed in float64.
"""

import numpy as np

from linearized.base.shapes import Float


def kernel_distance(one: Float[np.ndarray, "n n"], two: Float[np.ndarray, "n n"]) -> float:
    """Return the kernel distance 1 - ⟨K₁, K₂⟩/(‖K₁‖‖K₂‖) of two kernels (Fort et al., NeurIPS 2020).

    ⟨K₁, K₂⟩ is the sum of the products of corresponding entries, and ‖K‖ the Frobenius norm. The distance is 0 for
    proportional kernels, and at most 1 for positive semi-definite ones.
    """
    return 1 - _cosine(one.astype(np.float64), two.astype(np.float64))


def centred_alignment(one: Float[np.ndarray, "n n"], two: Float[np.ndarray, "n n"]) -> float:
    """Return the centred kernel alignment (CKA) of two kernels (Cortes et al., JMLR 2012; Kornblith et al., ICML 2019).

    It is the cosine ⟨A, B⟩/(‖A‖‖B‖) of the centred kernels A = HK₁H and B = HK₂H with H = I - 11ᵀ/n: 1 for proportional
    centred kernels, and 0 if one of the kernels is constant.
    """
    return _cosine(_centred(one), _centred(two))


def label_alignment(kernel: Float[np.ndarray, "n n"], targets: Float[np.ndarray, "n k"]) -> float:
    """Return the `centred_alignment` of a kernel K (n, n) and YYᵀ, for the targets Y (n, k) of its rows.

    It is 1 if the centred K is proportional to the centred YYᵀ.
    """
    y = targets.astype(np.float64)
    return centred_alignment(kernel, y @ y.T)


def effective_rank(kernel: Float[np.ndarray, "n n"]) -> float:
    """Return the effective rank of a kernel, between 1 and n, or 0 if the kernel has no positive eigenvalue.

    The rank is exp(-Σ p_i log p_i), where p_i are the positive eigenvalues divided by their sum (Roy & Vetterli,
    EUSIPCO 2007).
    """
    values = np.clip(np.linalg.eigvalsh(kernel.astype(np.float64)), 0, None)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares)))) if len(shares) else 0.0


def _centred(kernel: np.ndarray) -> np.ndarray:
    kernel = kernel.astype(np.float64)
    return kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()


def _cosine(one: np.ndarray, two: np.ndarray) -> float:
    size = np.linalg.norm(one) * np.linalg.norm(two)
    return float(np.vdot(one, two) / size) if size > 0 else 0.0
