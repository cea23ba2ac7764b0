import numpy as np
import pandas as pd
import pytest

from linearized.report import plots, run_pictures
from linearized.storage import results


def record(accuracy=True, validation=True):
    def entry(index):
        row = {"index": index, "ridge": 10.0**index, "converged": index != 2, "diverged": False,
               "iterations": 1}  # fmt: skip
        for split in ("train", "validation", "test") if validation else ("train", "test"):
            row |= {f"{split}_loss": 1.0 + index, f"{split}_accuracy": 0.9 - index / 10 if accuracy else None}
        return row

    return {
        "title": "RF on X", "settings": {"loss": "square"}, "ridges": [entry(index) for index in range(4)],
        "chosen": {"position": 1, "index": 1, "by": "validation accuracy"},
        "solver": {"name": "cg", "step": "iteration", "history": "residual"},
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
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.filterwarnings("error")
def test_a_solver_that_was_done_at_once_is_a_point_a_ridge(tmp_path):
    figure = plots.training_curves(record(), {f"history/{index:03d}": np.zeros(1) for index in range(4)})
    plots.save_figure(figure, tmp_path / "training.png")
    assert {line.get_marker() for line in figure.axes[0].get_lines()} == {"o"}


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


def test_a_kernels_curves_show_its_own_ways_to_choose():
    kernel = record() | {"ridge_symbol": "ρ", "chosen_published": {"position": 3, "by": "test accuracy (published)"}}
    for entry in kernel["ridges"]:
        entry |= {"gcv": 2.0, "degrees_of_freedom": None, "leave_one_out_loss": 0.5, "leave_one_out_accuracy": 0.7}
    kernel["ridges"][0] |= {"degrees_of_freedom": 7.0, "test_loss": None, "test_accuracy": None}
    figure = plots.ridge_curves(kernel)
    assert len(figure.axes) == 4  # loss, accuracy, gcv, and degrees of freedom on the right of it
    drawn = lines(figure)
    np.testing.assert_allclose(drawn["leave-one-out"].get_ydata(), 0.5)
    assert drawn["chosen by test accuracy (published)"].get_xdata()[0] == 1000
    assert figure.axes[0].get_xlabel() == "ridge ρ"
    assert np.isnan(drawn["test"].get_ydata()[0])


def test_predicted_losses_are_lines_through_the_measured_dots():
    kernel = record(validation=False)
    for entry in kernel["ridges"]:
        entry |= {"train_loss": 1e-9, "leave_one_out_loss": 0.5, "gcv": 0.4, "predicted_loss": 0.5 + entry["index"],
                  "predicted_by_gcv": 0.4, "predicted_error": 0.1}  # fmt: skip
    kernel["ridges"][0] |= {"predicted_loss": None, "predicted_by_gcv": None, "predicted_error": None}
    figure = plots.ridge_curves(kernel, ["loss"])
    drawn = lines(figure)
    assert drawn["test"].get_linestyle() == "None" and "leave-one-out" not in drawn
    np.testing.assert_allclose(drawn["test loss predicted by leave-one-out"].get_ydata(), [np.nan, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(drawn["test loss predicted by gcv"].get_ydata()[1:], 0.4)
    [band] = figure.axes[0].collections
    corners = band.get_paths()[0].vertices
    assert {(10, 1.4), (10, 1.6), (1000, 3.6)} <= {(round(x), round(y, 6)) for x, y in corners}
    assert figure.axes[0].get_ylim()[0] == pytest.approx(0.4 / 3)  # train losses leave the panel
    for entry in kernel["ridges"]:
        entry["test_loss"] = None
    axis = plots.ridge_curves(kernel, ["loss"]).axes[0]  # without a warning
    assert axis.get_ylim()[0] == pytest.approx(0.4 / 3)


@pytest.mark.parametrize("metric, column", [("test_loss", "predicted_loss"),
                                            ("test_normalised_loss", "predicted_normalised_loss")])  # fmt: skip
def test_noise_curves_have_predictions_of_the_runs_that_make_them(metric, column):
    rows = [{"dataset": "SYNTH", "model": model, "noise_ind": noise, metric: 0.5, column: predicted, "seed": seed}
            for model, predicted in (("NTK", 0.4), ("NN", None)) for noise in (0, 3) for seed in (0, 1)]  # fmt: skip
    figure = plots.noise_curves(pd.DataFrame(rows), metric=metric)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["NN", "NTK", "predicted by leave-one-out"]
    drawn = [line for line in figure.axes[0].get_lines() if line.get_gid()]
    assert [line.get_ydata().tolist() for line in drawn] == [[0.4, 0.4]]
    plain = plots.noise_curves(pd.DataFrame(rows).drop(columns=column), metric=metric)
    assert [text.get_text() for text in plain.legends[0].get_texts()] == ["NN", "NTK"]


def test_kernels_stand_beside_models_in_one_figure(tmp_path):
    for model, settings, name in (({"hidden_layers": 1}, {"model": "RF"}, "a"),
                                  ({"hidden_layers": 1, "name": "NTK kernel"}, {"kernel": "NTK"}, "b")):  # fmt: skip
        saved = record() | {"settings": {**settings, "dataset": "DIGITS", "noise_ind": 2}, "model": model}
        data = {"name": "DIGITS", "fingerprint": "f00d", "dim": 64, "n_train": 10}
        results.save(tmp_path / name, saved | {"data": data, "seconds": 1.0}, {})
    table = results.collect(tmp_path)
    assert sorted(table["model"]) == ["NTK kernel", "RF"] and set(table["hidden_layers"]) == {1}
    labels = {label.get_text() for label in plots.noise_curves(table).axes[0].get_yticklabels()}
    assert labels == {"NTK kernel", "RF"}  # one noise level: a dot for each


def test_pictures_of_a_run_are_drawn_where_one_is_missing(tmp_path, capsys):
    data = {"name": "photos", "fingerprint": "f00d", "dim": 64, "n_train": 10}
    saved = record() | {"model": {"name": "vit"}, "settings": {}, "data": data, "seconds": 1.0}
    saved["ridges"], saved["chosen"]["position"] = saved["ridges"][:1], 0
    results.save(tmp_path / "run", saved, {"history/loss": np.ones(3), "history/validation_loss": np.ones(3)})
    run_pictures.main(run_pictures.PictureSettings(directory=str(tmp_path / "run")))
    drawn = [tmp_path / "run" / name for name in ("curves.png", "training.png")]
    first = [path.stat().st_mtime_ns for path in drawn]
    drawn[1].unlink()
    run_pictures.main(run_pictures.PictureSettings(directory=str(tmp_path / "run")))
    assert drawn[0].stat().st_mtime_ns == first[0] and drawn[1].is_file()


def test_draw_run_draws_what_is_missing_names_the_solver_s_picture_and_omits_one_without_a_history(tmp_path):
    folder, made = tmp_path / "run", record() | {"seconds": 1.0}
    results.save(folder, made, {"history/000": np.geomspace(1, 0.1, 4)})
    pictures = [folder / "curves.png", folder / "solver.png"]
    run_pictures.draw_run(folder, made, again=False, solver="solver.png")
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    pictures[0].write_bytes(b"kept")
    run_pictures.draw_run(folder, made, again=False, solver="solver.png")
    assert pictures[0].read_bytes() == b"kept"
    run_pictures.draw_run(folder, made, again=True, solver="solver.png")
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    results.save(tmp_path / "direct", made, {"history/000": np.zeros(0)})
    run_pictures.draw_run(tmp_path / "direct", made, again=False, solver="solver.png")
    assert sorted(path.name for path in (tmp_path / "direct").glob("*.png")) == ["curves.png"]
