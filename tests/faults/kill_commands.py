"""The commands that `kill_loop.py` kills, on data of a second or less, and what has to run before them."""

import importlib
import importlib.util
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from linearized.settings.config import Settings

ROWS = ("--dataset=DIGITS", "--num_train=120", "--num_test=40")
SMALL = (*ROWS, "--exp_name=killed")
LEVELS = (2, 3, 4, 5, 6)  # noise levels whose arrays `noisy_cache` keeps

# What the commands import at work. Keras is imported and does nothing yet: its threads would not survive a fork.
WARM = (
    "kernel_gen.kernels.polynomial",
    "kernel_gen.features.rf_features",
    "sklearn.datasets",
    "linearized.data.transforms.noise",
    "linearized.launch.launchers.plain",
)
WARM_KERAS = (
    "keras", "pandas", "scipy.linalg", "linearized.experiments.gradient_fit",
    "linearized.experiments.least_squares_fit", "linearized.experiments.finetune_model",
    "linearized.models.nn", "linearized.models.rf", "linearized.solvers.linear.band.solver",
    "linearized.solvers.linear.block_lanczos", "linearized.kernel_ridge.embedded_fit",
    "linearized.experiments.centres_fit", "linearized.experiments.table", "linearized.report.page",
    "linearized.report.run_pictures",
)  # fmt: skip
KERAS = (
    "train_rf",
    "train_nn",
    "kernel_fit",
    "features_fit",
    "centres_fit",
    "report",
    "finetune",
    "compare",
    "reproduce",
)
NAMES = ("kernel_gen", "embed", "import_npy", "noisy_cache", "launch", *KERAS)  # those that are killed


class Command(NamedTuple):
    """A command that is killed: its settings, its `main`, its flags, and the names of commands that run before it."""

    settings: type[Settings]
    main: Callable[[Any], Any]
    flags: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


def commands(names: tuple[str, ...]) -> dict[str, Command]:
    """Return at least the commands of `names` and those that must run before them."""
    from kernel_gen import embed, import_npy
    from kernel_gen.__main__ import main as make_gram
    from kernel_gen.jobs.gram_job import GramJobSettings
    from linearized.cli import launch
    from linearized.cli.data import ShowDataSettings

    gram, features = ("--kernel=POLYNOMIAL", *ROWS), ("--features=RF", "--embedding_dim=64", *ROWS)
    words = ("python", "-m", "kernel_gen", *gram, "--num_shards=2")
    found = {
        "kernel_gen": Command(GramJobSettings, make_gram, (*gram, "--num_shards=4")),
        "embed": Command(embed.EmbedSettings, embed.main, (*features, "--num_shards=4")),
        "kernel_gen_one": Command(GramJobSettings, make_gram, gram),
        "embed_one": Command(embed.EmbedSettings, embed.main, features),
        "row_files": Command(ShowDataSettings, lambda _: _write_row_files(Path("rows"), 120, 40)),
        "import_npy": Command(import_npy.ImportSettings, import_npy.main,
                              (*gram, "--num_shards=8", "--source=rows"), before=("row_files",)),
        "damaged_cache": Command(ShowDataSettings, lambda _: _damage_caches()),
        "noisy_cache": Command(ShowDataSettings, lambda _: _load_noisy(), before=("damaged_cache",)),
        "launch": Command(launch.LaunchSettings, _without_dask(lambda settings: launch.launch(settings, words)),
                          ("--workers=2", "--grid=noise_ind=0,3")),
    }  # fmt: skip
    return found if set(names) <= set(found) else found | _keras_commands()


def warm_up(names: tuple[str, ...]) -> None:
    """Import what the commands of `names` import at work, so that forks of this process start with it."""
    for name in (*WARM, *(() if set(names).isdisjoint(KERAS) else WARM_KERAS)):
        importlib.import_module(name)


def _keras_commands() -> dict[str, Command]:
    from linearized.cli import krr, report, train
    from linearized.cli.data import ShowDataSettings
    from linearized.experiments import compare, finetune
    from linearized.report import reproduce

    fit = (*SMALL, "--checkpoint_seconds=0", "--ridges=0.01,0.1,1,10")
    least_squares = (*SMALL, "--model=RF", "--num_units=48", "--reg_index=4:12", "--checkpoint_seconds=0")
    network = (*SMALL, "--num_units=12", "--max_cg_iters=3", "--checkpoint_seconds=0")
    tuned = (*ROWS, "--model=saved.keras", "--epochs=4", "--checkpoint_seconds=0", "--exp_name=killed")
    return {
        "train_rf": Command(train.TrainSettings, train.main, least_squares),
        "train_nn": Command(train.TrainSettings, train.main, (*network, "--model=NN", "--reg_index=0,5")),
        "kernel_fit": Command(krr.KernelFitSettings, krr.main,
                              ("--kernel=POLYNOMIAL", "--solver=block_lanczos", *fit), before=("kernel_gen_one",)),
        "features_fit": Command(krr.KernelFitSettings, krr.main, ("--features=RF", "--embedding_dim=64", *fit),
                                before=("embed_one",)),
        "centres_fit": Command(krr.KernelFitSettings, krr.main, ("--kernel=POLYNOMIAL", "--centres=40",
                                                                 "--centre_choice=rpcholesky", *fit)),
        "report": Command(report.ReportSettings, report.main, ("--directory=storage/nn_dir", "--out=storage/page.html"),
                          before=("train_rf",)),
        "saved_model": Command(ShowDataSettings, lambda _: _save_model(Path("saved.keras"))),
        "finetune": Command(finetune.FinetuneSettings, finetune.main, tuned, before=("saved_model",)),
        "compare": Command(compare.CompareSettings, _with_forked_pools(compare.main), (*network, "--models=NN,CNN")),
        "reproduce": Command(reproduce.ReproduceSettings, _without_dask(_make_small_figure),
                             ("--out=storage/figures",)),
    }  # fmt: skip


def _write_row_files(folder: Path, train: int, test: int) -> None:
    """Write the row files of a Gram matrix, ten train rows a file."""
    rows = np.random.default_rng(0).normal(size=(train + test, 30)).astype(np.float32)
    gram = rows @ rows[:train].T
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, train, 10)):
        np.save(folder / f"train_ntk_{number}.npy", gram[start : start + 10])
        np.save(folder / f"test_ntk_{number}.npy", np.ascontiguousarray(gram[train:, start : start + 10].T))


def _load_noisy() -> None:
    from linearized.data import load

    for level in LEVELS:
        load("DIGITS", level, num_train=120, num_test=40)


def _damage_caches() -> None:
    """Make the caches and damage those of two levels; those of the other levels are removed."""
    from linearized.data import DATASETS

    _load_noisy()
    cached = sorted(DATASETS.load("DIGITS").folder(None).rglob("DIGITS_noise*/meta.json"))
    if len(cached) != len(LEVELS):
        raise RuntimeError(f"expected {len(LEVELS)} caches, found {len(cached)}")
    for number, meta in enumerate(cached):
        rows = meta.with_name("x_train.npy")
        if number == 0:
            rows.write_bytes(rows.read_bytes()[:-100])
        elif number == 1:
            meta.unlink()
        else:
            for path in (*meta.parent.iterdir(), meta.parent):
                path.rmdir() if path.is_dir() else path.unlink()


def _save_model(path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    keras.Sequential([keras.Input((64,)), layers.Dense(16, "relu"), layers.Dense(10)]).save(path)


def _make_small_figure(settings: Any) -> None:
    """Run `linearized reproduce` with a figure of two points in place of the published ones."""
    from linearized.report import reproduce
    from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Scale

    curves = (
        Curve("RF", "train", {"model": "RF"}, {"laptop": {"num_units": 32}}),
        Curve("polynomial KRR", "krr", {"kernel": "POLYNOMIAL"}),
    )
    small = FigureRecipe(
        title="Digits", shows="nothing but a test", dataset="DIGITS", axis="noise_ind", metric="test_accuracy",
        curves=curves, scales={"laptop": Scale((0,), (0,), {"num_train": 80, "num_test": 50})},
    )  # fmt: skip
    reproduce.RECIPES = SimpleNamespace(load=lambda name: small)
    reproduce.main(settings)


def _without_dask(main: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `main` for a process in which the local launcher does not find Dask and takes its plain workers."""

    def run(settings: Any) -> None:
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "distributed" else find(name, *rest)
        main(settings)

    return run


def _with_forked_pools(main: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `main` for a process whose pools fork: kills then hit the training, not the start of TensorFlow."""

    def run(settings: Any) -> None:
        context = multiprocessing.get_context
        multiprocessing.get_context = lambda method=None: context("fork")
        main(settings)

    return run
