"""E[f(u) g(v)] by plain quadrature in two dimensions, split where f, g or the path between them is not smooth."""

import numpy as np

REACH = 12.0
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def panels(edges):
    """Nodes and weights on each panel of the last axis."""
    half, middle = np.diff(edges) / 2, (edges[..., 1:] + edges[..., :-1]) / 2
    return middle[..., None] + half[..., None] * NODES, half[..., None] * WEIGHTS


def normal(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def mean(f, g, std1, std2, c, kinks=(0.0,)):
    """E[f(std1 z1) g(std2 z2)] of correlation c: z1 outside, z2 = c z1 + s w inside, both split at the kinks."""
    s = np.sqrt(max(1 - c * c, 0))
    outer = [-REACH, REACH, *np.arange(-REACH, REACH, 0.75), *(kink / std1 for kink in kinks)]
    layer = s * np.array([-8, -4, -2, -1, 0, 1, 2, 4, 8]) if s < 0.5 else np.zeros(1)
    if c:
        outer += [kink / std2 / c + d for kink in kinks for d in layer]
    z, weights = (part.ravel() for part in panels(np.unique(np.clip(outer, -REACH, REACH))))
    weights = weights * normal(z)
    if s < 1e-14:
        return float(np.sum(weights * f(std1 * z) * g(std2 * c * z)))
    grid = np.broadcast_to(np.arange(-REACH, REACH + 0.1), (len(z), 25))
    inside = [np.clip((kink / std2 - c * z) / s, -REACH, REACH)[:, None] for kink in kinks]
    w, w_weights = panels(np.sort(np.concatenate([grid, *inside], axis=1), axis=1))
    inner = (w_weights * normal(w) * g(std2 * (c * z[:, None, None] + s * w))).sum(axis=(1, 2))
    return float(np.sum(weights * f(std1 * z) * inner))
