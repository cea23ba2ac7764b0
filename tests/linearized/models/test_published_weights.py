"""Weights in the layout of the public PyTorch networks: their shapes are written out, their values found again."""

import pickle

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.base.reading import Unreadable
from linearized.experiments.train import TrainSettings as Config
from linearized.experiments.train import run
from linearized.models import lambda_resnet, resnet
from linearized.models.common import load
from linearized.models.published_weights import published_name, take_up

STAGES, SIDES = (3, 4, 6, 3), (8, 4, 2, 1)  # blocks, and image sides of 32x32 pictures after the stem


def state(base, lambdas, classes=3, keys=16, heads=4):
    """A state dictionary of ResNet-50 with `base` channels, as the modules of the public code are named and shaped."""
    random, shapes, shared = np.random.default_rng(0), {}, {}

    def norm(name, size):
        shapes.update({f"{name}.{what}": (size,) for what in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["conv1.weight"] = (base, 3, 7, 7)
    norm("bn1", base)
    inputs = base
    for stage, count in enumerate(STAGES):
        planes = base * 2**stage
        for block in range(count):
            name, side = f"layer{stage + 1}.{block}", SIDES[max(stage - 1, 0) if block == 0 else stage]
            shapes[f"{name}.conv1.weight"] = (planes, inputs, 1, 1)
            shapes[f"{name}.conv3.weight"] = (4 * planes, planes, 1, 1)
            for number, size in ((1, planes), (2, planes), (3, 4 * planes)):
                norm(f"{name}.bn{number}", size)
            if lambdas:
                shapes[f"{name}.conv2.toqueries.weight"] = (keys * heads, planes)
                shapes[f"{name}.conv2.tokeys.weight"] = (keys, planes)
                shapes[f"{name}.conv2.tovalues.weight"] = (planes // heads, planes)
                norm(f"{name}.conv2.bn_queries", keys)
                norm(f"{name}.conv2.bn_values", side**2)
                shared[f"{name}.conv2.E"] = side**2
            else:
                shapes[f"{name}.conv2.weight"] = (planes, planes, 3, 3)
            if block == 0:
                short = f"{name}.downsample_residual" if lambdas else f"{name}.downsample"
                shapes[f"{short}.0.weight"] = (4 * planes, inputs, 1, 1)
                norm(f"{short}.1", 4 * planes)
            inputs = 4 * planes
    shapes |= {"fc.weight": (classes, inputs), "fc.bias": (classes,)}
    arrays = {name: 0.1 * random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {name: 1 + np.abs(value) for name, value in arrays.items() if name.endswith("running_var")}
    tables = {size: random.standard_normal((size, size, keys)).astype(np.float32) for size in set(shared.values())}
    return {**arrays, **{name: tables[size] for name, size in shared.items()}}


@pytest.fixture(scope="module")
def networks(tiny_module):
    base = {"num_units": 8, "resnet_depth": 50}
    return {
        True: lambda_resnet.build(Config(model="LAMBDA_RESNET", lambda_variant="published", **base), tiny_module),
        "unpermuted": lambda_resnet.build(
            Config(model="LAMBDA_RESNET", lambda_variant="unpermuted", **base), tiny_module
        ),
        False: resnet.build(Config(model="RESNET", **base), tiny_module),
    }


@pytest.fixture(scope="module")
def tiny_module():
    from linearized.data.dataset import Dataset, Split

    x = np.random.default_rng(0).standard_normal((4, 3072)).astype(np.float32)
    split = Split(x, np.array([0, 1, 2, 0]))
    return Dataset("tiny", 0, split, None, split, "classes", 3, (32, 32, 3), "CIFAR10", "0" * 16)


@pytest.mark.parametrize("lambdas", [False, True], ids=["torchvision", "lambda"])
def test_every_array_finds_its_weight(networks, lambdas):
    model, arrays = networks[lambdas], state(8, lambdas)
    take_up(model, {f"module.{name}": value for name, value in arrays.items()})
    np.testing.assert_array_equal(model.get_layer("stem").kernel, arrays["conv1.weight"].transpose(2, 3, 1, 0))
    norm = model.get_layer("stage_3_2_norm_3")
    np.testing.assert_array_equal(norm.gamma, arrays["layer3.1.bn3.weight"])
    np.testing.assert_array_equal(norm.moving_variance, arrays["layer3.1.bn3.running_var"])
    short = "downsample_residual" if lambdas else "downsample"
    np.testing.assert_array_equal(
        np.asarray(model.get_layer("stage_2_1_short").kernel)[0, 0], arrays[f"layer2.0.{short}.0.weight"][..., 0, 0].T
    )
    np.testing.assert_array_equal(model.get_layer("readout").kernel, arrays["fc.weight"].T)
    count = sum(value.size for name, value in arrays.items() if not name.endswith("tracked"))
    repeated = sum(value.size for name, value in arrays.items() if name.endswith("conv2.E"))
    shared = sum(np.prod(v.shape) for v in model.variables if v.name == "embedding")
    counters = sum(1 for v in model.variables if v.name == "moving_count")
    assert model.count_params() == count - repeated + shared + counters
    assert np.isfinite(model(np.zeros((1, 3072), np.float32))).all()


@pytest.mark.parametrize("variant", [True, "unpermuted"])
def test_a_lambda_layer_gives_what_the_public_einsums_give(networks, variant):
    """Queries reshaped to (b, n, k, h), content and position lambdas, heads before values: in NumPy, by its names.

    Unpermuted, the rows are those of `torch.reshape(x, [b, n, d])` of an image x of shape (b, d, n1, n2), here n = d.
    """
    model, arrays = networks[variant], state(8, True)
    take_up(model, arrays)
    layer, embedding = model.get_layer("stage_2_2_mix_2"), model.get_layer("embedding_4x4x1")
    x = np.random.default_rng(1).standard_normal((2, 4, 4, 16)).astype(np.float32)
    found = layer(x, embedding=np.asarray(embedding.embedding), training=False)
    c = {name.removeprefix("layer2.1.conv2."): v for name, v in arrays.items() if name.startswith("layer2.1.conv2")}

    def norm(values, name, shape):
        mean, variance, scale, shift = (
            c[f"{name}.{what}"].reshape(shape) for what in ("running_mean", "running_var", "weight", "bias")
        )
        return (values - mean) / np.sqrt(variance + 1e-5) * scale + shift

    rows = (x.transpose(0, 3, 1, 2) if variant == "unpermuted" else x).reshape(2, 16, 16)
    keys = np.exp(rows @ c["tokeys.weight"].T)
    keys /= keys.sum(1, keepdims=True)
    values = norm(rows @ c["tovalues.weight"].T, "bn_values", (1, -1, 1))
    queries = norm((rows @ c["toqueries.weight"].T).reshape(2, 16, 16, 4).transpose(0, 2, 1, 3), "bn_queries",
                   (1, -1, 1, 1))  # fmt: skip
    content = np.einsum("bmk,bmv->bkv", keys, values)
    position = np.einsum("nmk,bmv->bnkv", c["E"], values)
    expected = np.einsum("bknh,bkv->bhvn", queries, content) + np.einsum("bknh,bnkv->bhvn", queries, position)
    np.testing.assert_allclose(found, expected.reshape(2, 16, 4, 4).transpose(0, 2, 3, 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("change", "word"), [
    ({"fc.bias": None}, "no array 'fc.bias'"), ({"extra.weight": np.zeros(3)}, "no counterpart"),
    ({"conv1.weight": np.zeros((8, 3, 3, 3))}, "fit"), ({"bn1.weight": np.full(8, np.nan)}, "finite"),
    ({"layer1.1.conv2.E": np.zeros((64, 64, 16))}, "share one E"), ({"layer1.1.conv2.E": None}, "conv2.E"),
])  # fmt: skip
def test_weights_that_do_not_fit_leave_the_model_as_it_was(networks, change, word):
    model, arrays = networks[True], state(8, True) | change
    before = model.get_weights()
    with pytest.raises(UserError, match=word):
        take_up(model, {name: value for name, value in arrays.items() if value is not None})
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def of_resnet18(base, channels, classes):
    """A state dictionary of torchvision's ResNet-18 with `base` channels."""
    random = np.random.default_rng(0)
    arrays = {"conv1.weight": (base, channels, 7, 7), "bn1": base, "fc.weight": (classes, 8 * base), "fc.bias": classes}
    inputs = base
    for stage in range(4):
        planes = base * 2**stage
        for block in range(2):
            name = f"layer{stage + 1}.{block}"
            arrays |= {f"{name}.conv1.weight": (planes, inputs, 3, 3), f"{name}.bn1": planes}
            arrays |= {f"{name}.conv2.weight": (planes, planes, 3, 3), f"{name}.bn2": planes}
            if inputs != planes:
                arrays |= {f"{name}.downsample.0.weight": (planes, inputs, 1, 1), f"{name}.downsample.1": planes}
            inputs = planes
    found = {}
    for name, shape in arrays.items():
        if name.endswith(("weight", "bias")):
            found[name] = 0.1 * random.standard_normal(shape).astype(np.float32)
        else:
            found |= {f"{name}.weight": np.ones(shape, np.float32), f"{name}.running_var": np.ones(shape, np.float32)}
            found |= {f"{name}.bias": np.zeros(shape, np.float32), f"{name}.running_mean": np.zeros(shape, np.float32)}
            found[f"{name}.num_batches_tracked"] = np.array(5)
    return found


SMALL = {"model": "RESNET", "resnet_depth": 18, "num_units": 2, "num_train": 20, "num_test": 10, "max_cg_iters": 2,
         "loss": "cross_entropy", "learning_rate": 1e-30}  # fmt: skip


def test_a_run_starts_from_the_file_of_the_flag(directories, tmp_path):
    """At a rate of 1e-30 filters stay what the file has; other content at the same path is another run."""
    path = tmp_path / "weights.npz"
    arrays = of_resnet18(2, 1, 10)
    np.savez(path, **arrays)
    config = Config(**SMALL, published_weights=str(path))
    model = load(run(config).folder / "model.keras")
    np.testing.assert_allclose(model.get_layer("stem").kernel, arrays["conv1.weight"].transpose(2, 3, 1, 0), atol=1e-12)
    last = model.get_layer("stage_4_2_mix_2").kernel
    np.testing.assert_allclose(last, arrays["layer4.1.conv2.weight"].transpose(2, 3, 1, 0), atol=1e-12)
    name = config.run_name()
    np.savez(path, **arrays | {"fc.bias": np.ones(10)})
    assert config.run_name() != name
    path.rename(tmp_path / "other.npz")
    np.savez(path, **arrays)
    assert config.run_name() == name


@pytest.mark.parametrize(("settings", "word"), [
    ({"model": "CNN", "published_weights": "x.npz"}, "RESNET, LAMBDA_RESNET"),
    ({"model": "LAMBDA_RESNET", "published_weights": "x.npz"}, "--lambda_variant=published or unpermuted"),
    ({"model": "RESNET", "published_weights": "x.npz", "resnet_stem": "small"}, "--resnet_stem=pooled"),
    ({"model": "LAMBDA_RESNET", "published_weights": "x.npz", "lambda_variant": "published", "lambda_scope": 3},
     "--lambda_scope=0"),
])  # fmt: skip
def test_settings_without_a_place_in_the_published_layout_are_refused(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**settings)


def test_files_that_hold_no_plain_arrays_are_refused_before_data_are_read(directories, tmp_path, monkeypatch):
    def no_rows(*args):
        raise AssertionError("rows were loaded")

    monkeypatch.setattr("linearized.experiments.train.load_preprocessed", no_rows)
    for name, words, write in (
        ("state.pt", "np.savez", lambda path: path.write_bytes(pickle.dumps({"fc.bias": [1.0]}))),
        ("objects.npz", "Python objects", lambda path: np.savez(path, x=np.array([{}], dtype=object))),
        ("absent.npz", "np.savez", lambda path: None),
    ):
        write(tmp_path / name)
        with pytest.raises(Unreadable, match=f"{name}.*{words}"):
            run(Config(**SMALL, published_weights=str(tmp_path / name)))
    assert not list(directories.rglob("result.json"))


def test_names():
    ours = ("stem", "stage_4_3_mix_2", "stage_1_2_norm_1", "stage_2_1_short_norm")
    assert list(map(published_name, ours)) == ["conv1", "layer4.2.conv2", "layer1.1.bn1", "layer2.0.downsample*.1"]
