"""Pictures of data, Gram matrices and solvers: what is drawn are the numbers that were given."""

import types

import numpy as np
import pandas as pd
import pytest
import scipy.fft

from linearized.report import plots


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_images_stand_in_rows_of_levels():
    random = np.random.default_rng(0)
    levels = {"τ = 0": random.random((5, 48)), "τ = 1": np.ones((5, 48))}
    figure = plots.noisy_images(levels, (4, 4, 3), count=3)
    assert len(figure.axes) == 6
    first = levels["τ = 0"][1].reshape(4, 4, 3)
    drawn = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(drawn, (first - first.min()) / np.ptp(first))
    assert not np.asarray(figure.axes[3].images[0].get_array()).any()  # an image of one colour is no division by zero


def test_spectra_find_the_frequency_that_images_have():
    coefficients = np.zeros((2, 8, 8, 1))
    coefficients[:, 3, 4] = 2.0  # at distance 5
    rows = scipy.fft.idctn(coefficients, axes=(1, 2), norm="ortho").reshape(2, 64)
    line = lines(plots.frequency_spectra({"one": rows}, (8, 8, 1)).axes[0])["one"]
    power = np.nan_to_num(line.get_ydata())
    counted = np.rint(np.hypot(*np.mgrid[:8, :8])) == 5
    assert line.get_xdata()[power.argmax()] == 5
    assert power.max() == pytest.approx(4.0 / counted.sum())


def test_coordinates_are_ordered_within_the_two_parts():
    rows = np.array([[1.0, 3.0, 5.0, 4.0], [1.0, -3.0, -5.0, 4.0]])
    line = lines(plots.coordinate_scales({"κ": rows}, 2).axes[0])["κ"]
    np.testing.assert_allclose(line.get_ydata(), [9, 1, 25, 16])


def test_label_parts_add_up_to_all_of_the_variance():
    parts = np.random.default_rng(1).standard_normal((4000, 3))
    line = lines(plots.label_parts({"a": parts}).axes[0])["a"]
    np.testing.assert_allclose(line.get_ydata(), [1 / 3, 2 / 3, 1], atol=0.06)
    assert line.get_ydata()[-1] == pytest.approx(1)


def test_gram_matrices_are_correlations_by_class():
    x = np.random.default_rng(2).standard_normal((6, 3))
    labels = np.array([[1], [0], [1], [0], [1], [0]])
    drawn = plots.gram_matrices({"linear": x @ x.T}, labels).axes[0].images[0].get_array()
    order = [1, 3, 5, 0, 2, 4]
    unit = x[order] / np.linalg.norm(x[order], axis=1, keepdims=True)
    np.testing.assert_allclose(drawn, unit @ unit.T, atol=1e-12)


def test_gram_spectra_are_shares_of_the_trace():
    random = np.random.default_rng(3)
    vectors, _ = np.linalg.qr(random.standard_normal((4, 4)))
    gram = vectors @ np.diag([4.0, 3.0, 2.0, 1.0]) @ vectors.T
    line = lines(plots.gram_spectra({"known": gram}).axes[0])["known"]
    np.testing.assert_allclose(line.get_ydata(), [0.4, 0.3, 0.2, 0.1])


def test_solvers_side_by_side():
    histories = {"cg": {10.0: np.array([1.0, 0.1]), 1.0: np.array([1.0, 0.5, 0.1])}, "eigh": {1.0: np.array([1e-12])}}
    figure = plots.residual_curves(histories)
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [3, 2]  # from the smallest ridge
    path = [types.SimpleNamespace(ridge=ridge, iterations=steps, residual=1e-7, converged=steps < 9)
            for ridge, steps in ((1.0, 9), (10.0, 4))]  # fmt: skip
    figure = plots.solver_steps({"cg": path}, rtol=1e-6)
    steps, crossed = figure.axes[0].get_lines()
    np.testing.assert_allclose(steps.get_ydata(), [9, 4])
    np.testing.assert_allclose(crossed.get_ydata(), [9])
    figure = plots.ridge_paths(np.array([1.0, 10.0]), {"train": np.array([0.1, 0.5]), "test": np.array([0.4, 0.6])})
    np.testing.assert_allclose(lines(figure.axes[0])["test"].get_ydata(), [0.4, 0.6])


def test_lines_are_told_apart_by_what_differs_but_seeds():
    row = {"dataset": "FMNIST", "model": "RF", "num_units": 64, "data_n_train": 100, "weight_seed": 0}
    rows = [row, row | {"weight_seed": 1}, row | {"num_units": 512}, row | {"model": "NN"}]
    assert plots.labelled(pd.DataFrame(rows)).tolist() == ["RF, N = 64", "RF, N = 64", "RF, N = 512", "NN"]
    alone = pd.DataFrame(rows[:2])
    assert plots.labelled(alone).tolist() == ["RF", "RF"]


def test_ridges_of_models_and_kernels_share_an_axis():
    def record(symbol, ridges):
        entries = [{"ridge": ridge, "test_loss": loss} for ridge, loss in zip(ridges, (0.3, 0.2, None), strict=True)]
        return {"data": {"n_train": 50}, "ridge_symbol": symbol, "ridges": entries, "chosen": {"position": 1}}

    figure = plots.ridge_comparison({"RF": record("λ", (0.1, 1, 10)), "NTK": record("ρ", (5, 50, 500))})
    drawn = lines(figure.axes[0])
    np.testing.assert_allclose(drawn["RF"].get_xdata(), drawn["NTK"].get_xdata())
    assert np.isnan(drawn["NTK"].get_ydata()[2])


def test_a_drawing_inside_a_page_has_its_own_ids_and_the_pages_colours():
    figure, (axis,) = plots.new_figure(4, 3)
    axis.plot([1, 2, 3], [1, 0.1, 0.01], "o-", color=plots.COLOURS[6])
    axis.set(yticks=[0.0712, 0.0734])
    first, second = (plots.inline_svg(figure, name, 'of "a" & <b>') for name in ("one", "two"))
    ids = [{part.split('"')[0] for part in text.split(' id="')[1:]} for text in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert 'aria-label="of &quot;a&quot; &amp; &lt;b>"' in first
    assert "#000000" not in first
    assert "currentColor" in first
    assert "DejaVu" not in first
    assert "<style" not in first
    assert "0.0712<" in first
