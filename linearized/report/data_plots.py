"""Pictures of data sets: images at each noise level, their spectra, and the coordinates and labels of SYNTH."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.fft
from matplotlib.figure import Figure

from linearized.report.style import (
    COLOURS,
    LINES,
    MARKERS,
    handles_of,
    legend_below,
    new_figure,
    shades,
    spread_out,
)
from linearized.report.ticks import log_axis


def noisy_images(levels: Mapping[str, np.ndarray], image_shape: tuple[int, int, int], *, count: int = 6) -> Figure:
    """Draw the same few images at several noise levels, one row per level.

    Args:
        levels: Images (n, d) by name of the level; the first `count` are drawn, each over its own range of values.
        image_shape: Height, width and number of channels.
        count: Number of images per level.
    """
    figure, axes = new_figure(0.9 * count + 1.6, 0.95 * len(levels) + 0.2, nrows=len(levels), ncols=count)
    for row, (name, images) in enumerate(levels.items()):
        for axis, image in zip(axes[row * count : (row + 1) * count], images[:count], strict=True):
            pixels = image.reshape(image_shape)
            low, high = pixels.min(), pixels.max()
            shown = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
            axis.imshow(_drawable(shown), cmap="gray", interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        axes[row * count].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def _drawable(pixels: np.ndarray) -> np.ndarray:
    """Return an image that Matplotlib can draw: the same one if it has 3 or 4 channels, otherwise the channels' mean.

    Args:
        pixels: Image (height, width, channels).
    """
    return pixels if pixels.shape[2] in (3, 4) else pixels.mean(axis=2)


def contact_sheet(images: np.ndarray, names: Sequence[str], image_shape: tuple[int, int, int]) -> Figure:
    """Draw the first images of each class, one row per class.

    Args:
        images: Images (classes, n, d), each drawn over its own range of values; the place of an image that is not
            finite stays empty.
        names: Names of the classes; empty for regression.
        image_shape: Height, width and number of channels.
    """
    count = images.shape[1]
    figure, axes = new_figure(0.8 * count + 1.6, 0.85 * len(images) + 0.2, nrows=len(images), ncols=count)
    for place, axis in enumerate(axes):
        pixels = images[place // count, place % count].reshape(image_shape)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if not np.isfinite(pixels).all():
            continue
        low, high = pixels.min(), pixels.max()
        shown = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
        axis.imshow(_drawable(shown), cmap="gray", interpolation="nearest")
    for name, axis in zip(names, axes[::count], strict=False):
        axis.set_ylabel(name if len(name) <= 16 else f"{name[:15]}…", rotation=0, ha="right", va="center")
    return figure


def column_table(rows: Sequence[Sequence[str]], titles: Sequence[str]) -> Figure:
    """Draw a table of text, and return it as a figure.

    Args:
        rows: Texts of each row.
        titles: Titles of the columns.
    """
    widths = [max(len(row[place]) for row in (titles, *rows)) + 2 for place in range(len(titles))]
    figure, (axis,) = new_figure(0.085 * sum(widths) + 0.4, 0.26 * (len(rows) + 1) + 0.3)
    axis.set_axis_off()
    table = axis.table([list(row) for row in rows], colLabels=list(titles), cellLoc="left", colLoc="left",
                       bbox=(0, 0, 1, 1), colWidths=[width / sum(widths) for width in widths])  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for (row, _column), cell in table.get_celld().items():
        cell.set(edgecolor="0.8", linewidth=0.5)
        if row == 0:
            cell.set_text_props(weight="bold")
    return figure


def frequency_spectra(levels: Mapping[str, np.ndarray], image_shape: tuple[int, int, int]) -> Figure:
    """Draw the mean power of the cosine transform's coefficients against their distance from the lowest frequency.

    Args:
        levels: Images (n, d) by name of the noise level; each level is one line.
        image_shape: Height, width and number of channels.
    """
    height, width, channels = image_shape
    distance = np.rint(np.hypot(*np.mgrid[:height, :width])).astype(int).ravel()
    counts = np.bincount(distance)
    figure, (axis,) = new_figure(6.4, 3.6)
    named = spread_out(len(levels))
    for place, ((name, rows), shade) in enumerate(zip(levels.items(), shades(len(levels)), strict=True)):
        images = rows.reshape(-1, height, width, channels).astype(float)
        power = np.square(scipy.fft.dctn(images, axes=(1, 2), norm="ortho")).mean(axis=(0, 3)).ravel()
        mean = (np.bincount(distance, weights=power) / counts)[1:]  # centred images have no power at frequency 0
        axis.plot(np.arange(1, len(mean) + 1), np.where(mean > 0, mean, np.nan), color=shade,
                  linestyle=LINES[place % len(LINES)], label=name if place in named else "_")  # fmt: skip
    log_axis(axis, "y")
    axis.set(xlabel="frequency (distance from the lowest)", ylabel="mean power")
    legend_below(figure, handles_of([axis]))
    return figure


def coordinate_scales(levels: Mapping[str, np.ndarray], effective: int) -> Figure:
    """Draw the mean square of each coordinate of SYNTH, one line per noise level κ.

    The first `effective` coordinates and the others are each sorted from the largest to the smallest mean square.

    Args:
        levels: Rows (n, d) by name of the level.
        effective: Number of coordinates on which the labels depend.
    """
    figure, (axis,) = new_figure(6.4, 3.6)
    for (name, rows), shade in zip(levels.items(), shades(len(levels)), strict=True):
        variance = np.square(rows.astype(float)).mean(axis=0)
        ordered = np.concatenate([np.sort(part)[::-1] for part in (variance[:effective], variance[effective:])])
        axis.plot(np.arange(1, len(ordered) + 1), ordered, color=shade, label=name)
    axis.axvline(effective + 0.5, color="0.4", linewidth=1, linestyle=":")
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel="coordinate", ylabel="mean square")
    legend_below(figure, handles_of([axis]))
    return figure


def label_parts(levels: Mapping[str, np.ndarray], degrees: tuple[int, ...] = (2, 3, 4)) -> Figure:
    """Draw the share of the variance of SYNTH's labels that their terms up to each degree explain.

    A polynomial of that degree can explain at most this share. Markers shrink from the first level to the last, so that
    levels with equal values are all visible.

    Args:
        levels: Terms whose sum is the label, (n, len(degrees)), by name of the noise level.
        degrees: Degree of each term.
    """
    figure, (axis,) = new_figure(6.4, 3.6)
    for place, (name, parts) in enumerate(levels.items()):
        share = np.cumsum(parts, axis=1).var(axis=0) / parts.sum(axis=1).var()
        axis.plot(degrees, share, marker=MARKERS[place % len(MARKERS)], color=COLOURS[place % len(COLOURS)], label=name,
                  markersize=13 - 8 * place / max(len(levels) - 1, 1), fillstyle="none", linewidth=1)  # fmt: skip
    axis.set(xlabel="degree", ylabel="share of the variance up to it", xticks=degrees)
    axis.set_ylim(0, None)
    legend_below(figure, handles_of([axis]))
    return figure
