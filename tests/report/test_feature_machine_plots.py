"""Pictures of feature machines: what stands in the record and in M is what the panels draw."""

import numpy as np
import pytest

from linearized.report.feature_machine_plots import PANELS, feature_machine
from linearized.report.page import write_page
from linearized.report.run_pictures import draw_run
from linearized.report.runs import find
from linearized.storage import results
from linearized.storage.result_schema import BadRecord, check_record

from .conftest import kernel_record


def machine_record(*, variants=2, image_shape=None, overlap=0.3):
    """A record of a feature machine of two iterations after the fixed kernel, whose second iteration is the best."""
    record = kernel_record()

    def step(variant, iteration):
        ridges = [{**entry, "validation_loss": 1.0 - 0.3 * iteration + 0.05 * iteration**2 + 0.01 * variant}
                  for entry in record["ridges"]]  # fmt: skip
        return {"variant": variant, "iteration": iteration, "bandwidth": 2.0, "effective_rank": 6.0 / (1 + iteration),
                "overlap": None if overlap is None else overlap + 0.1 * iteration, "position": 1, "ridges": ridges,
                "seconds": 1.0}  # fmt: skip

    steps = [step(0, 0)] + [step(variant, iteration) for variant in range(variants) for iteration in (1, 2)]
    names = [{"name": name, "factor": 1.0} for name in ("diagonal, centred", "full, centred")[:variants]]
    record["feature_machine"] = {"variants": names, "steps": steps, "best": 2, "spectrum": [4.0, 1.5, 0.5, 0.0, 0, 0],
                                 "image_shape": image_shape}  # fmt: skip
    return record


def lines_of(axis):
    return {line.get_label(): line.get_xydata() for line in axis.lines if not line.get_label().startswith("_")}


def test_panels_draw_the_best_variant_from_the_fixed_kernel_on():
    record = machine_record()
    for entry in record["feature_machine"]["steps"]:
        for ridge in entry["ridges"]:
            ridge["test_accuracy"] = ridge["validation_accuracy"] = None
    scores, metric, spectrum = feature_machine(record).axes[:3]
    drawn = lines_of(scores)
    np.testing.assert_allclose(drawn["validation loss"], [[0, 1.0], [1, 0.75], [2, 0.6]])
    assert "other metrics" in drawn and scores.get_ylabel() == "loss"
    np.testing.assert_allclose(lines_of(metric)["share of tr M in the directions of the labels"][:, 1], [0.3, 0.4, 0.5])
    np.testing.assert_allclose(spectrum.lines[0].get_xydata(), [[1, 4.0], [2, 1.5], [3, 0.5]])  # zeros are left out


def test_a_metric_of_images_is_drawn_as_images_and_of_columns_as_a_line():
    metric = np.diag([1.0, 2, 3, 4, 5, 6])
    titles = [axis.get_title() for axis in feature_machine(machine_record(image_shape=[2, 3, 1]), metric).axes]
    assert {"M, signed root of entries", "diagonal of M", "leading eigenvector of M"} <= set(titles)
    figure = feature_machine(machine_record(image_shape=[2, 3, 1]), metric, ["diagonal"])
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), [[1, 2, 3], [4, 5, 6]])
    figure = feature_machine(machine_record(overlap=None, variants=1), np.arange(6.0))
    [diagonal] = [axis for axis in figure.axes if axis.get_title() == "diagonal of M"]
    np.testing.assert_array_equal(diagonal.lines[0].get_ydata(), np.arange(6.0))
    assert not any(axis.images for axis in figure.axes)


def test_the_correlation_with_a_network_is_drawn_beside_its_strengths():
    record = machine_record(overlap=None)
    for step, value in zip(record["feature_machine"]["steps"], [None, -0.2, 0.6, -0.2, 0.6], strict=True):
        step["ansatz"] = value
    figure = feature_machine(record, np.eye(6), network=np.arange(6.0))
    drawn = lines_of(figure.axes[1])["correlation of M with WWᵀ of the network"]
    np.testing.assert_array_equal(drawn, [[0, np.nan], [1, -0.2], [2, 0.6]])
    assert figure.axes[1].get_ylabel() == "correlation" and figure.axes[1].get_ylim()[0] < -0.2
    [strengths] = [axis for axis in figure.axes if axis.get_title() == "diagonal of WWᵀ of the network"]
    np.testing.assert_array_equal(strengths.lines[0].get_ydata(), np.arange(6.0))


def test_the_metric_of_a_fixed_kernel_is_not_drawn():
    record = machine_record(image_shape=[2, 3, 1])
    record["feature_machine"]["best"] = 0
    titles = {axis.get_title() for axis in feature_machine(record, np.eye(6), network=np.ones(6)).axes}
    assert titles == {"", "diagonal of WWᵀ of the network"}
    assert not any(axis.images for axis in feature_machine(record, np.eye(6)).axes)


def test_the_picture_lies_in_the_run_and_its_panels_stand_in_the_page(tmp_path):
    folder, record = tmp_path / "runs" / "machine", machine_record()
    arrays = {"history/000": np.ones(3), "feature_machine/metric": np.eye(6)}
    results.save(folder, record, arrays)
    draw_run(folder, results.load(folder), again=False, solver="solver.png")
    assert (folder / "features.png").stat().st_size > 10_000
    runs = find([tmp_path / "runs"])
    text = write_page(runs, tmp_path / "page.html", folders=[tmp_path], metrics=["test_loss"]).read_text()
    for panel in PANELS:
        assert f"{panel} of the feature machine" in text


@pytest.mark.parametrize("damage, words", [
    (lambda machine: machine.update(best=9), "best is 9"), (lambda machine: machine.pop("variants"), "variants is no"),
    (lambda machine: machine["steps"][1].update(variant=5), "variant is 5"),
    (lambda machine: machine["steps"][1].update(position=40), "has no ridge 40"),
    (lambda machine: machine["steps"][0].pop("effective_rank"), "effective_rank is missing"),
])  # fmt: skip
def test_a_record_that_cannot_be_drawn_is_refused(damage, words):
    record = {**machine_record(), "versions": {}, "finished": "now", "peak_memory_gib": 1.0}
    check_record(record)
    damage(record["feature_machine"])
    with pytest.raises(BadRecord, match=words):
        check_record(record)
