import io

from rich.console import Console

from linearized.experiments.table import print_levels, print_table


def record(**changes):
    entry = {
        "index": 0, "ridge": 1e-5, "train_loss": 0.1, "train_accuracy": 0.95, "test_loss": 0.25, "test_accuracy": 0.875,
        "diverged": False, "converged": True, "iterations": 47, "residual": 8e-5, **changes,
    }  # fmt: skip
    other = {**entry, "index": 1, "ridge": 2e-5, "test_accuracy": 0.9}
    return {
        "title": "RF", "ridges": [entry, other], "chosen": {"position": 1, "by": "test accuracy"},
        "seconds": 3.2, "peak_memory_gib": 1.0,
    }  # fmt: skip


def printed(record):
    out = io.StringIO()
    print_table(record, Console(file=out, width=40))
    return out.getvalue()


def test_a_row_a_ridge_with_the_best_marked():
    lines = printed(record()).splitlines()
    [best] = [line for line in lines if "best 1" in line]
    assert "0.9000" in best and "2.000e-05" in best
    [first] = [line for line in lines if "1.000e-05" in line]
    assert "47 it., 8e-05" in first and "0.8750" in first
    assert lines[-1].startswith("best: chosen by test accuracy")


def test_what_went_wrong_is_said():
    assert "NOT converged" in printed(record(converged=False))
    assert "diverged" in printed(record(diverged=True))
    assert "47 epochs" in printed(record(residual=None))  # as version 0.1 stored gradient training
    assert "47 epochs, loss -3.1 %" in printed(record(residual=None, converged=None, loss_change=-0.031))
    assert "NOT solved" in printed(record(residual=None, converged=False))


def test_the_error_of_the_predictions_has_a_column_and_a_large_one_is_told():
    kept = record(prediction_error=3e-4)
    kept["ridges"][1] = {**kept["ridges"][1], "prediction_error": None}
    text = printed(kept)
    assert "3e-04" in text and "lower --cg_rtol" not in text
    kept["ridges"][1]["prediction_error"] = 0.5
    assert "solution's by 0.5" in " ".join(printed(kept).split())
    assert "prediction" not in printed(record())


def test_a_remark_on_several_ridges_is_said_once():
    kept = record()
    remarks = ["unsolved", "unsolved", "unsolved", "", "other", "unsolved"]
    kept["ridges"] = [{**kept["ridges"][0], "index": index, "message": text} for index, text in enumerate(remarks)]
    lines = printed(kept).splitlines()
    assert [line for line in lines if line.startswith("index ") and ":" in line] == [
        "index 0 to 2, 5: unsolved", "index 4: other",
    ]  # fmt: skip


def test_regression_has_no_accuracies():
    text = printed(record(train_accuracy=None, test_accuracy=None))
    assert "accuracy" not in text.replace("test accuracy,", "")


def test_a_kernels_table_tells_the_published_choice_the_linear_fit_and_the_levels():
    kernel = record(message="float32 does not hold it", gcv=0.3, test_r2=0.6, test_relative_risk=0.8)
    kernel |= {
        "chosen_published": {"position": 0, "by": "test accuracy (published protocol)"}, "ridge_symbol": "ρ",
        "linear": {"test_loss": 0.31, "test_accuracy": 0.8, "by": "gcv"},
        "data": {"name": "X", "noise": "τ = 1", "n_train": 9},
        "solver": {"name": "band", "reason": "it fits"}, "model": {"name": "NTK kernel"}, "settings": {"noise_ind": 4},
    }  # fmt: skip
    text = printed(kernel)
    for words in ("published 0", "ridge ρ", "gcv", "index 0 to 1: float32", "linear fit: test loss 0.3100", "fits"):
        assert words in text
    out = io.StringIO()
    print_levels([kernel, kernel], Console(file=out, width=40))
    rows = [line for line in out.getvalue().splitlines() if "τ = 1" in line]
    assert len(rows) == 2 and "0.8750" in rows[0] and "0.9000" in rows[0]
