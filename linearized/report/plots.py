"""Plotting functions of the suite: pictures of results, data and Gram matrices.

Each function takes saved results or plain arrays and returns a matplotlib Figure; `save_figure` writes it atomically to
a file, and `inline_svg` converts it to a drawing inside an HTML report.
"""

from linearized.report.convergence_plots import residual_curves, ridge_paths, solver_steps
from linearized.report.data_plots import coordinate_scales, frequency_spectra, label_parts, noisy_images
from linearized.report.gram_plots import gram_matrices, gram_spectra
from linearized.report.noise_plots import labelled, line_with_spread, noise_curves
from linearized.report.ridge_plots import ridge_comparison, ridge_curves, training_curves
from linearized.report.style import (
    COLOURS,
    LINES,
    MARKERS,
    STYLE,
    cap_accuracy,
    handles_of,
    inline_svg,
    legend_below,
    metric_name,
    new_figure,
    save_figure,
)
from linearized.report.tangent_plots import lazy_to_rich, width_curves

__all__ = [
    "COLOURS",
    "LINES",
    "MARKERS",
    "STYLE",
    "cap_accuracy",
    "coordinate_scales",
    "frequency_spectra",
    "gram_matrices",
    "gram_spectra",
    "handles_of",
    "inline_svg",
    "label_parts",
    "labelled",
    "lazy_to_rich",
    "legend_below",
    "line_with_spread",
    "metric_name",
    "new_figure",
    "noise_curves",
    "noisy_images",
    "residual_curves",
    "ridge_comparison",
    "ridge_curves",
    "ridge_paths",
    "save_figure",
    "solver_steps",
    "training_curves",
    "width_curves",
]  # fmt: skip
