"""`linearized theory`: predictions beside measured errors, how a run goes on, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.cli import main
from linearized.data.loading import load_preprocessed
from linearized.experiments import theory, theory_record
from linearized.experiments.theory import TheorySettings
from linearized.learning_theory.eigenframework import predict
from linearized.report.theory_plots import theory_figure
from linearized.settings.config import parse
from linearized.settings.gram_settings import GramSettings

POINT = {"n": 10, "ridge": 1.0, "beyond": False, "converged": True, "predicted": 0.9, "predicted_train": 0.4,
         "other": 1.0, "fresh": 1.2, "train": 0.5, "leave_one_out": 1.1, "gcv": 0.6}  # fmt: skip
UNMEASURED = ("n", "ridge", "beyond", "kappa", "degrees", "predicted", "predicted_train", "predicted_sphere",
              "predicted_hermite")  # fmt: skip


def pool(rows=360, tests=300, dim=10):
    """Return rows on a sphere and two targets of them, in a train and a test part."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows + tests, dim))
    x *= np.sqrt(dim) / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.stack([x[:, 0] + x[:, 1] * x[:, 2], x[:, 3] + 0.5 * random.normal(size=len(x))], axis=1)
    return x[:rows], y[:rows], x[rows:], y[rows:]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A finished run on LAPLACE with 8 draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINEARIZED_STORAGE", str(tmp_path_factory.mktemp("storage")))
        yield linearized.theory("LAPLACE", pool(), draws=8, ridges=[0.01, 0.3, 3], sizes=[30, 60, 120, 200])


def test_predictions_agree_with_fits_on_draws(result):
    table = result.table
    assert len(table) == 12 and table["converged"].all()
    up_to_a_third = table[~table["beyond"]]
    assert sorted(up_to_a_third["n"].unique()) == [30, 60, 120]
    for name, room in (("other", 0.1), ("fresh", 0.12)):
        np.testing.assert_allclose(up_to_a_third["predicted"], up_to_a_third[name], rtol=room)
    assert np.abs(np.log(up_to_a_third["predicted"] / up_to_a_third["other"])).mean() < 0.05
    large = table[table["train"] > 0.05]
    np.testing.assert_allclose(large["predicted_train"], large["train"], rtol=0.15)


def test_measured_losses_are_those_of_direct_solutions(result):
    x, y, x_test, y_test = (part.astype(np.float32) for part in pool())
    import kernel_gen  # JAX is imported by the kernels alone

    bandwidth = np.median(np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(len(x), 1)])
    kernel = kernel_gen.gram("LAPLACE", x, bandwidth=float(bandwidth)).astype(float)
    crossed = kernel_gen.gram("LAPLACE", x_test, x, bandwidth=float(bandwidth)).astype(float)
    losses = []
    for draw in range(8):
        order = np.random.default_rng([0, 60, draw]).permutation(len(x))
        train, other = order[:60], order[60:]
        alpha = np.linalg.solve(kernel[np.ix_(train, train)] + 0.3 * np.eye(60), y[train])
        losses.append([np.square(kernel[np.ix_(other, train)] @ alpha - y[other]).sum(axis=1).mean(),
                       np.square(crossed[:, train] @ alpha - y_test).sum(axis=1).mean()])  # fmt: skip
    row = result.table[(result.table["n"] == 60) & (result.table["ridge"] == 0.3)].iloc[0]
    np.testing.assert_allclose(row[["other", "fresh"]].astype(float), np.mean(losses, axis=0), rtol=5e-3)
    errors = np.std(losses, axis=0, ddof=1) / np.sqrt(8)
    np.testing.assert_allclose(row[["other_error", "fresh_error"]].astype(float), errors, rtol=0.03)


def test_result_predicts_at_any_size_and_ridge(result):
    row = result.table.iloc[5]
    again = result.predict(int(row["n"]), row["ridge"])
    assert again.test.sum() == pytest.approx(row["predicted"]) and again.test.shape == (2,)
    assert result.predict(77, 0.1).kappa > 0
    squares = np.square(result.coefficients).sum(axis=0)
    np.testing.assert_allclose(squares, np.square(pool()[1]).mean(axis=0), rtol=1e-4)
    assert result.eigenvalues.sum() == pytest.approx(1, rel=1e-4)  # the trace of a Laplace kernel over N
    with pytest.raises(UserError, match="at most 360 train rows"):
        result.predict(361, 0.1)


def test_best_ridge_is_that_of_least_prediction_and_the_exponent_is_fitted_to_it(result):
    best = result.best
    assert (best["predicted"] == result.table.groupby("n")["predicted"].min().to_numpy()).all()
    law = result.record["exponents"]["measured"]
    assert law["points"] == 3 and 0.1 < law["exponent"] < 1 and 0 < law["error"] < 0.2
    steps = -np.diff(np.log(best["other"][:3])) / np.log(2)
    assert steps.min() <= law["exponent"] <= steps.max()


def test_same_call_reads_the_result_back(result, monkeypatch):
    monkeypatch.setattr(theory, "_made", lambda *_: pytest.fail("made again"))
    before = (result.folder / theory.NAME).read_bytes()
    again = theory.run(result.config)[0]
    assert not again.fresh and again.record == result.record
    assert (result.folder / theory.NAME).read_bytes() == before


def test_damaged_results_are_refused_in_one_line(result, tmp_path):
    for name in (theory.NAME, theory.ARRAYS):
        content = bytearray((result.folder / name).read_bytes())
        content[len(content) // 2 : len(content) // 2 + 40] = b"x" * 40
        (tmp_path / name).write_bytes(content[:-60])
    with pytest.raises(UserError, match="Remove its folder"):
        theory.load(tmp_path)
    with pytest.raises(UserError, match="Remove its folder"):
        theory.load_arrays(tmp_path)


def test_picture_has_predictions_and_points_of_every_kind(result):
    figure = result.plot()
    labels = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    for part in (
        "predicted, n^-",
        "pool's other rows, n^-",
        "fresh rows",
        "leave-one-out",
        "gcv",
        "n > N/3",
        "n = 200",
    ):
        assert part in labels
    assert [axis.get_xscale() for axis in figure.axes] == ["log"] * 4
    points = [{name: point[name] for name in UNMEASURED} for point in result.record["points"]]
    laws = {"predicted": None, "measured": None}
    bare = theory_figure({**result.record, "points": points, "exponents": laws, "spectrum": None}, result._arrays)
    assert "measured" not in str([text.get_text() for text in bare.legends[0].get_texts()])


def test_command_predicts_without_draws_level_by_level(directories, capsys):
    words = ["theory", "--dataset=DIGITS", "--noise_ind=0,2", "--pool=60", "--num_test=20", "--draws=0"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.count("test loss from the spectrum of a pool of N = 60 rows") == 2 and "measured" not in said
    folders = sorted(directories.parent.rglob(theory.NAME))
    assert len(folders) == 2 and all((path.parent / "theory.png").stat().st_size > 5000 for path in folders)
    record = json.loads(folders[0].read_text())
    assert record["command"].startswith("linearized theory ") and record["pool"] == 60
    assert {point["n"] for point in record["points"]} == {10, 20}
    before = {path: path.stat().st_mtime_ns for path in folders}
    assert main(words) == 0 and before == {path: path.stat().st_mtime_ns for path in folders}


def test_features_are_predicted_as_their_kernel(directories):
    common = {"draws": 0, "ridges": "1", "sizes": "20", "num_test": 10}
    exact = linearized.theory("POLYNOMIAL", "DIGITS", 60, degree=1, **common)
    features = linearized.theory(
        "POLYNOMIAL", "DIGITS", 60, degree=1, features="POLYNOMIAL", embedding_dim=80, **common
    )
    assert features.table["predicted"][0] == pytest.approx(exact.table["predicted"][0], rel=1e-3)


def test_ratios_leave_out_what_is_beyond_a_third_or_did_not_converge():
    points = [POINT, {**POINT, "beyond": True, "other": 0.1}, {**POINT, "converged": False, "other": 0.1},
              {**POINT, "predicted": 1.5, "gcv": None}]  # fmt: skip
    got = theory_record.agreement(points)
    assert got["other"] == [0.9, 1.5] and got["gcv"] == pytest.approx([0.5, 0.5])
    assert got["leave_one_out"] == pytest.approx([1.1 / 1.2] * 2) and got["train"] == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize("flags, said", [
    (["--validation=0"], "leave out --validation"), (["--sizes=10,60", "--pool=60"], "below the pool's 60 rows"),
    (["--sizes=2.5"], "whole numbers"), (["--sizes=x"], "--sizes takes numbers"), (["--sizes=0"], "at least 1"),
    (["--pool=20"], "24 rows for a grid"), (["--ridges=-1"], "--ridges must be finite"), (["--draws=-1"], "--draws"),
    (["--kernel=RFM"], "learned from the labels"),
    (["--degree=3"], "--degree is read by"), (["--solver=eigh"], "Unknown flag"),
])  # fmt: skip
def test_settings_are_refused_before_any_work(flags, said):
    with pytest.raises(UserError, match=said):
        parse(TheorySettings, flags)


def test_a_pool_that_lapack_cannot_decompose_is_refused_before_loading(monkeypatch, directories):
    monkeypatch.setattr(theory, "load_preprocessed", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UserError, match=r"at most 32766 rows.*--pool=4000"):
        theory.run(parse(TheorySettings, ["--dataset=SYNTH"]))


def test_prediction_of_the_record_is_that_of_the_framework(result):
    row = result.table.iloc[0]
    direct = predict(result.eigenvalues, result.coefficients, int(row["n"]), row["ridge"], pool=360)
    assert (row["predicted"], row["kappa"]) == pytest.approx((direct.test.sum(), direct.kappa))


def test_python_of_the_document_runs(directories, capsys):
    text = (Path(__file__).parents[2] / "docs" / "theory.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "theory.md", "exec"), {})
    assert "leave_one_out" in capsys.readouterr().out


def test_pools_are_random_rows_unless_all_or_the_first_are_asked_for():
    config = parse(TheorySettings, ["--pool=40", "--num_test=30"])
    drawn = load_preprocessed(config, 0)
    expected = linearized.load("DIGITS", 0, num_train=40, num_test=30, subset="random", seed=0)
    np.testing.assert_array_equal(drawn.train.x, expected.train.x)
    np.testing.assert_array_equal(drawn.test.x, expected.test.x)
    assert config.gram_settings(0).subset == "random" and "--subset=random" in config.gram_settings(0).flags()
    other = load_preprocessed(parse(TheorySettings, ["--pool=40", "--seed=1"]), 0)
    assert not np.array_equal(other.train.x, drawn.train.x)
    first = load_preprocessed(parse(TheorySettings, ["--pool=40", "--subset=first"]), 0)
    np.testing.assert_array_equal(first.train.x, linearized.load("DIGITS", 0, num_train=40).train.x)
    whole = parse(TheorySettings, [])
    assert whole.gram_settings(0).flags() == GramSettings().flags()
