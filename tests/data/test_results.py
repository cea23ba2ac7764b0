import copy
import functools
import json

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.storage import results
from linearized.storage.result_schema import BadRecord, check_record


def entry(index, ridge, loss):
    return {"index": index, "ridge": ridge, "converged": True, "diverged": False, "iterations": 3, "residual": 1e-5,
            "message": "", "test_loss": loss, "test_accuracy": None}  # fmt: skip


def record(**changes):
    return {
        "title": "RF on DIGITS", "settings": {"model": "RF", "dataset": "DIGITS", "noise_ind": 0},
        "data": {"name": "DIGITS", "fingerprint": "f00d", "dim": 64, "n_train": 10, "n_test": 5, "noise": "τ = 0"},
        "model": {"hidden_layers": 1}, "solver": {"name": "cg", "step": "iteration", "history": "residual"},
        "ridges": [entry(0, 0.1, 2.0), entry(1, 1.0, np.float32(1.5))],
        "chosen": {"position": 1, "index": 1, "by": "test loss"}, "seconds": 1.0,
        "made_by": {"version": "1.0", "commit": "f00d", "machine": {"cores": 2}, "seeds": {"seed": 3}}, **changes,
    }  # fmt: skip


def test_what_is_saved_is_loaded(tmp_path):
    arrays = {"history/000": np.arange(3.0), "x": np.ones((2, 2), np.float32)}
    results.save(tmp_path / "run", record(), arrays)
    loaded = results.load(tmp_path / "run")
    assert loaded["ridges"][1]["test_loss"] == 1.5
    assert loaded["versions"]["numpy"] == np.__version__
    assert loaded["peak_memory_gib"] > 0
    for name, array in results.load_arrays(tmp_path / "run").items():
        np.testing.assert_array_equal(array, arrays[name])
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["arrays.h5", "result.json"]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        results.save(tmp_path / "run", record(seconds=float("nan")), {})
    assert not results.finished(tmp_path / "run")


def test_collect_gives_a_row_a_run_and_names_what_it_cannot_read(tmp_path):
    results.save(tmp_path / "a" / "run", record(), {})
    results.save(tmp_path / "b", record(settings={"model": "NT", "noise_ind": 2}), {})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "result.json").write_text("{")
    table = results.collect(tmp_path)
    assert sorted(table["model"]) == ["NT", "RF"]
    assert set(table["test_loss"]) == {1.5}
    assert table.attrs["unreadable"] == [str(tmp_path / "c" / "result.json")]
    assert len(results.collect(tmp_path, every_ridge=True)) == 4


def test_collect_names_what_fell_short_the_same_in_every_format(tmp_path):
    short = record()
    short["ridges"][1]["converged"] = False
    results.save(tmp_path / "a", short, {})
    published = record()  # as version 0.1 stored training by gradients at one ridge
    published["ridges"] = [{**entry(0, 0.0, 1.0), "residual": None, "converged": True}]
    published["chosen"] = {"position": 0, "index": 0, "by": "test loss (published protocol)"}
    results.save(tmp_path / "b", published | {"format": 1}, {})
    second = record()
    second["ridges"] = [{**entry(0, 0.0, 1.0), "residual": None, "converged": None, "loss_change": -0.5}]
    second["chosen"] = {"position": 0, "index": 0, "by": "the only one"}
    results.save(tmp_path / "c", second | {"format": 2}, {})
    table = results.collect(tmp_path)
    assert table["flaw"].tolist() == ["not converged", "", "not converged"]
    assert table["converged"].tolist() == [False, None, False]
    assert table["chosen_by"].tolist() == ["test loss", "the only one", "the only one"]


def test_summary_is_short_and_starts_with_the_metrics_of_the_chosen_ridge(tmp_path):
    results.save(tmp_path / "a", record(), {})
    results.save(tmp_path / "b", record(settings={"model": "NT", **{f"setting_{i}": i for i in range(90)}}), {})
    classes = record()
    for entry in classes["ridges"]:
        entry |= {"test_accuracy": 0.75, "validation_accuracy": 0.5, "train_loss": 0.125, "test_matthews": 0.25}
    results.save(tmp_path / "c", classes, {})
    table = results.summary(tmp_path)
    assert list(table.columns) == [
        "test_accuracy", "test_loss", "validation_accuracy", "train_loss", "test_matthews", "model", "dataset",
        "noise_ind", "n", "ridge", "chosen_by", "converged", "seconds", "path",
    ]  # fmt: skip
    assert table["test_loss"].tolist() == [1.5] * 3 and table["ridge"].tolist() == [1.0] * 3
    assert table["test_accuracy"].tolist()[2] == 0.75 and table["n"].tolist() == [10] * 3
    assert results.summary(tmp_path / "nothing").empty


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format": 99})])
def test_damaged_results_are_refused(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UserError, match=r"result\.json"):
        results.load(tmp_path)


def test_a_missing_result_says_so(tmp_path):
    with pytest.raises(UserError, match="not finished"):
        results.load(tmp_path)


def test_a_finished_run_is_read_back_and_what_a_kill_left_is_removed(tmp_path):
    assert results.read_back(tmp_path / "run") is None
    results.save(tmp_path / "run", record(), {})
    (tmp_path / "run" / "unfinished").mkdir()
    (tmp_path / "run" / "unfinished" / "state.npz").write_bytes(b"work")
    assert results.read_back(tmp_path / "run")["seconds"] == 1.0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["arrays.h5", "result.json"]


def test_a_refused_run_leaves_finished_ridges_alone(tmp_path):
    def refused(name, file):
        with pytest.raises(UserError, match="no"), results.making(tmp_path / name) as work:
            work.mkdir()
            (work / file).write_bytes(b"work")
            raise UserError("no")

    refused("a", "training.npz")
    refused("b", "ridge_003.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def leaves(value, path=()):
    """The path of every entry within a record, itself included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for key, entry in inside for one in leaves(entry, (*path, key)))]


def changed(record, path, value):
    """A copy of a record with one entry replaced; `...` takes it out."""
    new = copy.deepcopy(record)
    *way, last = path
    where = functools.reduce(lambda inside, key: inside[key], way, new)
    if value is ...:
        del where[last]
    else:
        where[last] = value
    return new


OPTIONAL = {"residual", "message", "test_accuracy", "hidden_layers", "noise", "n_test", "model", "dataset", "noise_ind",
            "numpy", "format", "made_by", "commit", "seed", "cores"}  # fmt: skip


def test_every_missing_or_foreign_entry_of_a_record_is_named(tmp_path):
    results.save(tmp_path, record(), {})
    whole = results.load(tmp_path)
    check_record(whole)
    paths = [path for path in leaves(whole) if path and path[0] not in ("versions", "format")]
    for path in paths:
        for value in (["a"], {"a": [1]}, ...):
            new = changed(whole, path, value)
            if isinstance(path[-1], int) or (value is ... and path != ("model",) and path[-1] in OPTIONAL):
                continue
            if value == {"a": [1]} and path in (("model",),):
                continue  # an object, of which nothing is required
            with pytest.raises(BadRecord) as error:
                check_record(new)
            assert str(path[0]) in str(error.value)
    for path, value in ((("ridges", 0, "test_loss"), "0.5"), (("seconds",), "1"), (("chosen", "position"), 2),
                        (("chosen", "position"), -1), (("ridges",), []), (("settings", "noise_ind"), "0"),
                        (("seconds",), 10**400), (("ridges", 1, "iterations"), True)):  # fmt: skip
        with pytest.raises(BadRecord, match=str(path[-1])):
            check_record(changed(whole, path, value))
