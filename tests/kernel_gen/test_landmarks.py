"""Features by landmarks: against Nyström in NumPy, by their laws, projected, and as a job."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kernel_gen import embedding, gram
from kernel_gen.features import landmarks
from kernel_gen.features.landmarks import Landmarks, leading, root
from kernel_gen.jobs.feature_job import EmbedSettings
from kernel_gen.jobs.runner import run, shard_commands
from kernel_gen.kernel import Kernel
from linearized.base.blocks import cores
from linearized.base.errors import UserError
from linearized.base.platforms import usable_cores
from linearized.data.loading import load_preprocessed
from linearized.storage.embeddings import open_embedding

GELU = {"activation": "gelu", "bias_std": 0.2, "dtype": "float64"}


@pytest.fixture(scope="module")
def digits():
    """Train and test rows, 1,500 and 250 images in random order."""
    x = load_digits().data[np.random.default_rng(0).permutation(1797)] / 4
    return x[:1500], x[1500:1750]


def made(train, dim, name="NTK", seed=0, **settings):
    return embedding(name, train.shape[1], embedding_dim=dim, method="landmarks", embedding_seed=seed, **settings).on(
        train
    )


def error(found, exact):
    """Relative error of the products of different rows."""
    off = ~np.eye(len(exact), dtype=bool)
    return np.linalg.norm((found - exact)[off]) / np.linalg.norm(exact[off])


@pytest.mark.parametrize("scale", ["stax", "input"])
def test_up_to_64_landmarks_are_nystrom_and_exact_at_landmarks(digits, scale):
    train, test = digits
    phi = made(train[:60], 100, scale=scale, **GELU)
    assert (phi.dim, phi.refined) == (60, 60)
    k = gram("NTK", test, train[:60], scale=scale, **GELU)
    np.testing.assert_allclose(phi(test) @ phi(train[:60]).T, k, rtol=1e-7)
    nystrom = k @ np.linalg.solve(gram("NTK", train[:60], scale=scale, **GELU), k.T)
    np.testing.assert_allclose(phi(test) @ phi(test).T, nystrom, rtol=1e-6)


def test_root_is_exact_on_leading_eigenvectors_and_keeps_the_trace():
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((300, 300)))[0]
    values = np.concatenate([np.geomspace(1e3, 50, 40), np.geomspace(10, 1, 260)])
    matrix = (basis * values) @ basis.T
    rest, right, left = root(matrix, 40, np.random.RandomState(0), np.dtype("float64"))
    found = rest * np.eye(300) + right @ left
    others = np.sqrt(values[40:].sum() / np.square(values[40:]).sum())
    expected = (basis * np.concatenate([values[:40] ** -0.5, np.full(260, others)])) @ basis.T
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.max())
    np.testing.assert_allclose(np.trace(found @ matrix @ matrix @ found), values.sum(), rtol=1e-4)


def test_leading_eigenvalues_of_many():
    matrix = np.diag(2.0 ** -np.arange(200.0))
    values, vectors = leading(lambda q: matrix @ q, 200, 12, np.random.RandomState(0))
    np.testing.assert_allclose(values, 2.0 ** -np.arange(12.0), rtol=1e-6)
    np.testing.assert_allclose(np.abs(vectors[:12]), np.eye(12), atol=1e-5)


@pytest.mark.parametrize("name, settings", [("NTK", {}), ("NTK", GELU | {"num_layers": 2}), ("RF", {})])
def test_the_error_falls_with_the_number_of_landmarks_and_is_below_that_of_random_features(digits, name, settings):
    """The mean error, over three draws, of products of rows that are no landmarks falls as 1/√m or faster."""
    train, test = digits
    exact = gram(name, test, **settings)
    dims, errors, drawn = (128, 448, 1400), [], []
    for dim in dims:
        maps = [made(train, dim, name, seed, **settings) for seed in range(3)]
        errors.append(np.mean([error((f := phi(test)) @ f.T, exact) for phi in maps]))
        maps = [embedding(name, 64, embedding_dim=dim, embedding_seed=seed, **settings) for seed in range(3)]
        drawn.append(np.mean([error((f := phi(test)) @ f.T, exact) for phi in maps]))
    assert np.polyfit(np.log(dims), np.log(errors), 1)[0] < -0.45, errors
    assert (np.array(errors) < np.array(drawn)).all(), (errors, drawn)


def test_squared_norms_are_too_small_by_what_landmarks_leave_out(digits):
    """The bias that the module states: none at the landmarks on average, less with more landmarks elsewhere."""
    train, test = digits
    shares = []
    for dim in (96, 384, 1500):
        phi, exact = made(train, dim), gram("NTK", test).diagonal()
        shares.append((np.square(phi(test)).sum(axis=1) / exact).mean())
    assert shares[0] < shares[1] < shares[2] < 1
    assert shares[2] > 0.95
    kept = np.square(phi(train)).sum()  # all train rows are landmarks
    np.testing.assert_allclose(kept, np.trace(gram("NTK", train)), rtol=1e-3)


def wide(rows, rank, noise=0.0):
    """Rows (rows, 300) within a subspace, except for noise, of different norms."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, rank)) @ random.standard_normal((rank, 300))
    x += noise * random.standard_normal(x.shape)
    return x * np.geomspace(0.1, 1, rows)[random.permutation(rows)][:, None]


@pytest.mark.parametrize("scale", ["stax", "input"])
def test_projections_lose_nothing_within_a_subspace(scale):
    x = wide(400, 30)
    train, test = x[:60], x[60:]
    phi = made(train, 60, scale=scale, **GELU)
    assert phi.directions == 128
    k = gram("NTK", test, train, scale=scale, **GELU)
    np.testing.assert_allclose(phi(test) @ phi(train).T, k, atol=1e-7 * k.max())


class Linear(Kernel):
    """x·z, which keeps the coordinates that it prepares."""

    tile, scale, dtype = 64, "input", np.dtype("float64")

    def __init__(self):
        self.prepared = []

    def prepare(self, x):
        self.prepared.append(x)
        return x

    def block(self, one, two, *, same=False):
        return one @ two.T


class Rounded(Kernel):
    """A kernel of which each entry has a rounding error of its own."""

    def __init__(self, kernel, random):
        self.kernel, self.random = kernel, random
        self.tile, self.scale, self.dtype = kernel.tile, kernel.scale, kernel.dtype

    def prepare(self, x):
        return self.kernel.prepare(x)

    def block(self, one, two, *, same=False):
        found = self.kernel.block(one, two, same=same)
        errors = np.finfo(found.dtype).eps * self.random.uniform(-1, 1, found.shape)
        return (found * (1 + errors)).astype(found.dtype)


def test_projections_keep_norms_and_take_inner_products_of_principal_directions():
    x, kernel = wide(700, 40, noise=0.5), Linear()
    Landmarks(kernel, Linear(), 300, 500, 0).on(x[:500])(x[500:])
    columns, rows = kernel.prepared
    for coordinates, given in ((columns, x[:500]), (rows, x[500 : 500 + 200])):
        assert coordinates.shape[1] == 130
        np.testing.assert_allclose(np.linalg.norm(coordinates, axis=1), np.linalg.norm(given, axis=1))
    values, vectors = np.linalg.eigh(x[:500].T @ x[:500])
    project = vectors[:, np.argsort(-values)[:40]]  # the subspace; the other directions are noise alone
    exact = x[500:] @ project @ project.T @ x[:500].T
    assert np.linalg.norm(rows @ columns.T - exact) < 0.05 * np.linalg.norm(exact)
    assert np.linalg.norm(rows @ columns.T - x[500:] @ x[:500].T) < 0.05 * np.linalg.norm(exact)


def test_equal_rows_and_rows_of_zeros_have_finite_features():
    for train in (np.ones((300, 8)), np.zeros((300, 8))):
        phi = made(train, 200)
        found = phi(np.concatenate([train[:3], np.eye(8)]))
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[:3] @ found[:3].T, gram("NTK", train[:3]), atol=1e-4)


def test_other_train_rows_are_other_landmarks(digits):
    train, test = digits
    found = made(train[:100], 100)
    np.testing.assert_array_equal(found.on(train[100:300])(test), made(train[100:300], 100)(test))


@pytest.mark.filterwarnings("error")
def test_rows_that_overflow_are_refused_with_advice_and_no_warning():
    x = 1e21 * np.random.default_rng(0).standard_normal((80, 200))
    for train, rows in ((x, x), (1e-21 * x, x)):
        with pytest.raises(UserError, match=r"Projected rows must be finite.*dtype=float64"):
            made(train, 70)(rows)


SMOOTH = {"activation": "gelu", "bias_std": 1.0, "weight_std": 0.3}


@pytest.mark.parametrize(
    "settings",
    [{"activation": "gelu"}, {"activation": "leaky_relu(1)"}, {}, SMOOTH],
    ids=["gelu", "linear", "relu", "smooth"],
)
def test_machines_whose_kernels_round_otherwise_agree_up_to_the_root_of_rounding(digits, settings):
    """Each landmark occurs twice, so that K is singular; that of a linear network has the rank 64 in any case."""
    train, test = np.concatenate([digits[0][:300]] * 2), digits[1]
    found, random = [], np.random.default_rng(0)
    for _ in range(2):
        phi = embedding("NTK", 64, embedding_dim=600, method="landmarks", **settings)
        phi.kernel, phi.exact = Rounded(phi.kernel, random), Rounded(phi.exact, random)
        found.append(phi.on(train)(test))
    error = np.linalg.norm(found[0] - found[1]) / np.linalg.norm(found[0])
    assert 0 < error < np.sqrt(np.finfo(np.float32).eps)


def test_directions_that_rounding_makes_have_the_factor_0():
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 50))
    matrix = x @ x.T
    noise = 1e-7 * np.trace(matrix) / 400 * random.uniform(0, 1, 400)
    for dtype, zero in (("float32", True), ("float64", False)):
        rest, _, _ = root(matrix + np.diag(noise), 64, np.random.RandomState(0), np.dtype(dtype))
        assert (rest == 0) == zero


def test_features_without_train_rows_or_with_others_are_refused(digits):
    train, test = digits
    phi = embedding("NTK", 64, method="landmarks")
    with pytest.raises(UserError, match=r"\.on\(x_train\)"):
        phi(test)
    with pytest.raises(UserError, match="rows of 64 numbers"):
        phi.on(train[:, :60])
    with pytest.raises(UserError, match="at least 1"):
        phi.on(train[:0])
    with pytest.raises(UserError, match="finite"):
        phi.on(np.full((5, 64), np.nan))


def test_the_root_is_computed_once_and_only_for_rows(directories, monkeypatch, digits):
    """Neither a listing of commands nor a finished job needs it; many shards and threads share it."""
    roots = []
    monkeypatch.setattr(landmarks, "root", lambda *given: roots.append(cores()) or root(*given))
    config = EmbedSettings(
        dataset="DIGITS", num_train=900, num_test=300, embedding_dim=50, num_shards=3, method="landmarks", threads=2
    )
    assert len(shard_commands(config)) == 3 and not roots
    assert run(config) == [0, 1, 2] and len(roots) == 1
    assert roots[0] == min(2, usable_cores())  # on the cores of the job, not on that of one tile
    assert run(config) == [] and len(roots) == 1
    phi = made(digits[0], 40)
    assert (phi.dim, len(roots)) == (40, 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(phi, [digits[1]] * 4))
    assert len(roots) == 2


def test_a_job_takes_landmarks_from_the_train_rows_alone(directories):
    config = EmbedSettings(
        dataset="DIGITS", num_train=90, num_test=20, validation=10.0, embedding_dim=200, num_shards=3,
        method="landmarks", dtype="float64",
    )  # fmt: skip
    assert run(config) == [0, 1, 2]
    dataset, found = load_preprocessed(config, 0), open_embedding(config.path())
    phi = config.build().on(dataset.train.x)
    assert phi.dim == len(dataset.train) == 80
    for name, split in dataset.splits().items():
        np.testing.assert_allclose(found.splits[name][:], phi(split.x), atol=1e-9 * np.abs(phi(split.x)).max())
    with pytest.raises(UserError, match="method"):
        run(dataclasses.replace(config, method="random", folder=str(config.path())))
    assert len(list(config.path().glob("shard_*.h5"))) == 3
