"""The best linear fit against scikit-learn, and its errors against leaving rows out."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from linearized.data.dataset import Dataset
from linearized.experiments.linear_baseline import RIDGES, linear_baseline


def ridges_of(dataset: Dataset) -> np.ndarray:
    x = dataset.train.x.astype(float)
    return RIDGES * np.linalg.eigvalsh(np.cov(x.T, bias=True) * len(x)).max()


@pytest.mark.parametrize(("n", "side"), [(60, 4), (12, 4), (100, 7)], ids=["tall", "wide", "more columns than ridges"])
@pytest.mark.parametrize("task", ["classes", "binary", "regression"])
def test_the_fit_at_the_chosen_ridge_is_scikit_learns(tiny, task, n, side):
    dataset = tiny(task, n=n, side=side)
    found = linear_baseline(dataset, "test")
    y, t = (dataset.targets(split).astype(float) for split in (dataset.train, dataset.test))
    losses = []
    for ridge in ridges_of(dataset):
        model = Ridge(alpha=ridge, solver="svd").fit(dataset.train.x.astype(float), y)
        outputs = model.predict(dataset.test.x.astype(float)).reshape(t.shape)
        losses.append(np.square(outputs - t).sum(axis=1).mean())
    place = int(np.argmin(np.abs(ridges_of(dataset) - found["ridge"])))
    assert found["test_loss"] == pytest.approx(losses[place], rel=1e-4)
    if task == "regression":
        assert found["test_loss"] == pytest.approx(min(losses), rel=1e-4)


def test_leave_one_out_is_what_leaving_each_row_out_gives(tiny):
    dataset = tiny("regression", n=25)
    found = linear_baseline(dataset, "leave_one_out")
    x, y = dataset.train.x.astype(float), dataset.train.y[:, 0].astype(float)
    totals = []
    for ridge in ridges_of(dataset):
        errors = []
        for i in range(25):
            kept = np.arange(25) != i
            model = Ridge(alpha=ridge).fit(x[kept], y[kept])
            errors.append(y[i] - model.predict(x[i : i + 1])[0])
        totals.append(np.mean(np.square(errors)))
    # The shortcut holds the centring of all rows fixed up to its own leverage, so it is exact.
    assert found["leave_one_out_loss"] == pytest.approx(min(totals), rel=1e-4)


def test_gcv_is_the_loss_over_the_squared_share_of_free_directions(tiny):
    dataset = tiny("regression", n=40)
    found = linear_baseline(dataset, "gcv")
    x, y = dataset.train.x.astype(float), dataset.train.y[:, 0].astype(float)
    centred = x - x.mean(axis=0)
    scores = []
    for ridge in ridges_of(dataset):
        hat = centred @ np.linalg.solve(centred.T @ centred + ridge * np.eye(x.shape[1]), centred.T) + 1 / 40
        scores.append(np.mean((y - hat @ y) ** 2) / (1 - np.trace(hat) / 40) ** 2)
    assert found["gcv"] == pytest.approx(min(scores), rel=1e-5)
