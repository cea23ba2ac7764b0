"""Pictures of Gram matrices: the matrix with its rows sorted by class, and its eigenvalues."""

import textwrap
from collections.abc import Mapping

import numpy as np
import scipy.linalg
from matplotlib.figure import Figure

from linearized.report.style import COLOURS, LINES, handles_of, legend_below, letters_in, new_figure
from linearized.report.ticks import log_axis


def gram_matrices(grams: Mapping[str, np.ndarray], labels: np.ndarray) -> Figure:
    """Draw the correlations `K_ij / √(K_ii K_jj)`, one panel per matrix, with rows and columns sorted by class.

    Args:
        grams: Matrices (n, n) by name.
        labels: Classes of the rows, (n,) or (n, 1).
    """
    order = np.argsort(labels.reshape(-1), kind="stable")
    borders = np.flatnonzero(np.diff(labels.reshape(-1)[order])) + 0.5
    figure, axes = new_figure(3.4 * len(grams) + 0.8, 3.4, ncols=len(grams))
    pictures = []
    for axis, (name, gram) in zip(axes, grams.items(), strict=True):
        scale = np.sqrt(np.diag(gram))
        pictures.append(axis.imshow((gram / scale[:, None] / scale)[np.ix_(order, order)], cmap="viridis", vmax=1))
        axis.hlines(borders, -0.5, len(order) - 0.5, color="white", linewidth=0.4)
        axis.vlines(borders, -0.5, len(order) - 0.5, color="white", linewidth=0.4)
        axis.grid(False)
        axis.set(xticks=[], yticks=[], xlabel="images, by class")
        axis.set_title(textwrap.fill(name, letters_in(2.6, 10)), fontsize=10)
        figure.colorbar(pictures[-1], ax=axis, shrink=0.8)
    return figure


def gram_spectra(grams: Mapping[str, np.ndarray]) -> Figure:
    """Draw the eigenvalues of each matrix divided by their sum, largest first. Takes O(n³) operations per matrix.

    Args:
        grams: Matrices (n, n) by name.
    """
    figure, (axis,) = new_figure(6.4, 3.6)
    for place, (name, gram) in enumerate(grams.items()):
        values = scipy.linalg.eigvalsh(gram.astype(float))[::-1]
        values = np.where(values > 0, values, np.nan) / np.trace(gram)  # rounding makes the smallest ones negative
        axis.plot(
            np.arange(1, len(values) + 1),
            values,
            LINES[place % len(LINES)],
            color=COLOURS[place % len(COLOURS)],
            label=name,
        )
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel="eigenvalue, from the largest", ylabel="share of the trace")
    legend_below(figure, handles_of([axis]))
    return figure
