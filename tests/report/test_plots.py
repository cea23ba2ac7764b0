import numpy as np
import pandas as pd
import pytest

from report import plots


def record(accuracy=True, validation=True):
    def entry(index):
        row = {"index": index, "ridge": 10.0**index, "converged": index != 2}
        for split in ("train", "validation", "test") if validation else ("train", "test"):
            row |= {f"{split}_loss": 1.0 + index, f"{split}_accuracy": 0.9 - index / 10 if accuracy else None}
        return row

    return {
        "title": "RF on X", "settings": {"loss": "square"}, "chosen": {"position": 1, "by": "validation accuracy"},
        "ridges": [entry(index) for index in range(4)], "solver": {"step": "iteration", "history": "residual"},
    }  # fmt: skip


def lines(figure, panel=0):
    return {line.get_label(): line for line in figure.axes[panel].get_lines()}


@pytest.mark.parametrize("accuracy, panels", [(True, 2), (False, 1)])
def test_ridge_curves_draw_each_split_and_mark_the_choice(accuracy, panels):
    figure = plots.ridge_curves(record(accuracy))
    assert len(figure.axes) == panels
    drawn = lines(figure)
    np.testing.assert_allclose(drawn["test"].get_xdata(), [1, 10, 100, 1000])
    np.testing.assert_allclose(drawn["validation"].get_ydata(), [1, 2, 3, 4])
    assert drawn["chosen by validation accuracy"].get_xdata()[0] == 10
    assert list(drawn["not converged"].get_xdata()) == [100]
    assert figure.axes[0].get_xscale() == "log"


def test_training_curves_draw_a_line_a_ridge():
    arrays = {f"history/{index:03d}": np.geomspace(1, 1e-4, 5 + index) for index in range(4)}
    figure = plots.training_curves(record(), arrays)
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [5, 6, 7, 8]


def test_noise_curves_average_over_seeds():
    rows = [
        {"dataset": "FMNIST", "model": model, "noise_ind": noise, "test_accuracy": base - noise / 10 + seed / 100}
        for model, base in (("RF", 0.8), ("NN", 0.9)) for noise in range(3) for seed in range(2)
    ]  # fmt: skip
    figure = plots.noise_curves(pd.DataFrame(rows))
    containers = {container.get_label(): container for container in figure.axes[0].containers}
    np.testing.assert_allclose(containers["NN"].lines[0].get_ydata(orig=False), [0.905, 0.805, 0.705])


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figures_are_written_whole(tmp_path, suffix):
    path = plots.save_figure(plots.ridge_curves(record()), tmp_path / f"curves.{suffix}")
    assert path.stat().st_size > 1000
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
