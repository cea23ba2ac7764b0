"""Fine-tunes a saved Keras model after a swap, on a folder of images, on GLUE's TSV files or on one of our data sets.

    linearized finetune --model=vit.keras --data=photos --swap=mlp --last=2 --trainable=snnk
    linearized finetune --model=bert.keras --data=glue/RTE --swap=adapters --trainable=adapters
    linearized finetune --model=cnn.keras --dataset=NFMNIST --noise_ind=6 --validation=0.1

The model takes images, vectors or token numbers and returns logits; its last linear layer is replaced if the number of
classes differs. The result lies under nn_dir of directories.txt: result.json, arrays.h5, model.keras. The same command
continues a run that was stopped; when the run is finished, it shows the result.
"""

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.lists import count_or_share
from linearized.base.names import slug
from linearized.base.reading import check_regular
from linearized.base.terminal import say, say_written
from linearized.data import DATASETS
from linearized.data import load as load_published
from linearized.data.dataset import Dataset, Split, part
from linearized.data.sources import glue, image_folder
from linearized.data.sources.wordpiece import CASINGS
from linearized.experiments import run as life
from linearized.experiments import select
from linearized.experiments.fit_results import Result
from linearized.experiments.saved_model import input_shape
from linearized.settings.command import run_command
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.data_settings import MOST_ROWS
from linearized.settings.model_settings import KERVOLUTIONS, SNNK_ACTIVATIONS
from linearized.settings.reads import SET, when
from linearized.settings.run_settings import CHECKPOINT_HELP, EXPERIMENT_HELP, MOST_SECONDS
from linearized.settings.training_settings import AugmentationSettings
from linearized.storage.result_schema import settled

if TYPE_CHECKING:
    import keras

PROGRAM = "linearized finetune"
SNNK_SWAPS = ("mlp", "pooler", "pooler_bundled", "adapters")
SWAPS = ("none", *SNNK_SWAPS, "kervolution", "lambda")
TRAINABLE = ("all", "classifier", "adapters", "snnk")
ADAPT = ("mlp", "attention", "both")
AUGMENTATION = tuple(field.name for field in dataclasses.fields(AugmentationSettings))


@dataclasses.dataclass(frozen=True)
class FinetuneSettings(AugmentationSettings):
    """Settings of `linearized finetune`."""

    GROUP = "Model"

    model: str = setting("", "a saved .keras model: images, vectors or token numbers in, logits out")
    data: str = setting("", "a folder of class folders of images, or of a GLUE task (train.tsv, dev.tsv)", group="Data")
    dataset: str = setting("", "one of our data sets instead of --data", choices=("", *DATASETS), group="Data")
    noise_ind: int = setting(
        0,
        "noise level of --dataset, from 0 (linearized data lists what the levels are)",
        minimum=0,
        when=when(dataset=SET),
        group="Data",
    )
    swap: str = setting(
        "none",
        "SNNKs for the last MLP blocks or the tanh pooler, adapters, or kervolutions or lambda layers for convolutions",
        choices=SWAPS,
    )
    last: int = setting(
        0,
        "how many of the last MLP blocks, of --adapt's layers or of the convolutions; 0: all",
        minimum=0,
        when=when(swap=("mlp", "adapters", "kervolution", "lambda")),
    )
    adapt: str = setting(
        "mlp", "what adapters follow: MLP blocks, attention layers, or both", choices=ADAPT, when=when(swap="adapters")
    )
    kernel: str = setting(
        "polynomial", "kernel of --swap=kervolution", choices=KERVOLUTIONS, when=when(swap="kervolution")
    )
    kernel_variant: str = setting(
        "standard",
        "of --swap=kervolution; published: degree 2, γ 0.5, bias outside",
        choices=("standard", "published"),
        when=when(swap="kervolution"),
    )
    places: str = setting(
        "all", "kervolutions: all convolutions, or all but the first and those of 1x1 (inner)",
        choices=("all", "inner"), when=when(swap="kervolution"))  # fmt: skip
    heads: int = setting(4, "of --swap=lambda: queries per pixel", minimum=1, when=when(swap="lambda"))
    keys: int = setting(16, "of --swap=lambda: depth of queries and keys", minimum=1, when=when(swap="lambda"))
    scope: int = setting(
        0,
        "of --swap=lambda: pixels a side that a position lambda covers (odd); 0: all",
        minimum=0,
        when=when(swap="lambda"),
    )
    num_features: int | None = setting(
        None, "random features of each SNNK; unset: 64 in adapters, and in each replaced layer the first of 64, 128, "
        "... 1024 that brings its error on held-out rows to 0.2", minimum=2, when=when(swap=SNNK_SWAPS),
    )  # fmt: skip
    activation: str = setting(
        "relu", "whose features the SNNKs have", choices=SNNK_ACTIVATIONS, when=when(swap=SNNK_SWAPS)
    )
    orthogonal: bool = setting(
        True, "projections of the SNNKs in orthogonal blocks, else independent", when=when(swap=SNNK_SWAPS)
    )
    normalize: float = setting(
        0.0, "norm to which the SNNKs' inputs are scaled; 0: unchanged", minimum=0.0, when=when(swap=SNNK_SWAPS)
    )
    bottleneck: int = setting(16, "width of an adapter, 0: a modulating vector", minimum=0, when=when(swap="adapters"))
    trainable: str = setting("all", "what is trained, beside the classifier", choices=TRAINABLE, group="Solver")
    learning_rate: float = setting(
        1e-3,
        "of AdamW, after one epoch of warm-up; a cosine to 0 after it",
        minimum=0.0,
        maximum=1e38,
        aliases=("lr",),
        group="Solver",
    )
    weight_decay: float = setting(
        0.0, "share of the rate that AdamW takes off each weight a step", minimum=0.0, group="Solver"
    )
    epochs: int = setting(3, "over the train rows", minimum=1, group="Solver")
    batch_size: int = setting(32, "rows a step", minimum=1, group="Solver")
    validation: float = setting(
        0.0, "train rows held out and scored: a fraction below 1, else a count; 0: none", minimum=0.0, group="Data"
    )
    num_train: int = setting(
        0, "first train rows (a folder's images: in random order), 0: all", minimum=0, maximum=MOST_ROWS, group="Data"
    )
    num_test: int = setting(0, "test rows; 0: all", minimum=0, maximum=MOST_ROWS, group="Data")
    scaling: str = setting(
        "unit",
        "pixels to [0, 1], [-1, 1] or left 0..255",
        choices=tuple(image_folder.SCALINGS),
        when=when(dataset=""),
        group="Data",
    )
    vocabulary: str = setting(
        "", "GLUE: BERT's vocab.txt; empty: the words of the train set", when=when(dataset=""), group="Data"
    )
    casing: str = setting(
        "auto",
        "GLUE: keep capitals and accents; auto: if the vocabulary's pieces have capitals",
        choices=CASINGS,
        when=when(dataset=""),
        group="Data",
    )
    seed: int = setting(
        0,
        "of projections, new weights, the order of rows and a folder's split",
        minimum=0,
        maximum=LARGEST_SEED,
        group="Solver",
    )
    exp_name: str = setting("finetune", EXPERIMENT_HELP, identity=False, name=True, group="Run")
    checkpoint_seconds: float = setting(
        30.0, CHECKPOINT_HELP, minimum=0.0, maximum=MOST_SECONDS, identity=False, group="Run"
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.model or bool(self.data) == bool(self.dataset):
            raise UserError(
                "--model, a saved .keras model, is needed, and either --data, a folder, or --dataset. Received: "
                f"--model={self.model} --data={self.data} --dataset={self.dataset}."
            )
        if self.trainable == "adapters" and self.swap != "adapters":
            raise UserError("--trainable=adapters trains what --swap=adapters puts in. Received: --swap=" + self.swap)
        if self.trainable == "snnk" and self.swap not in ("mlp", "pooler"):
            raise UserError("--trainable=snnk trains the outputs of SNNKs: add --swap=mlp or --swap=pooler. "
                            f"Received: --swap={self.swap}.")  # fmt: skip
        if self.dataset:
            source = DATASETS.load(self.dataset)
            source.level(self.noise_ind)
            if source.image_shape is None:
                names = [name for name in DATASETS if DATASETS.load(name).image_shape is not None]
                raise UserError(f"{self.dataset} has no images. Take one of: {', '.join(names)}.")

    def run_name(self, model_digest: str) -> str:
        """The folder of the run: readable, and unique to what decides the result."""
        data = f"{self.dataset}_noise{self.noise_ind}" if self.dataset else Path(self.data).resolve().name
        words = (slug(data, 60), slug(Path(self.model).stem, 60), self.swap, self.trainable, self.key(), model_digest)
        return "_".join(words)


def run(config: FinetuneSettings) -> Result:
    """Load, swap, train, score, save; see `experiments.run`. A finished run is read back, a killed one goes on.

    Raises `UserError` for what a user can mend, and `Busy`, before data and frameworks are loaded, if another process
    holds the run's folder.
    """
    path = Path(config.model)
    if not path.is_file():
        raise UserError(f"{path} is no file. Save a model with model.save('name.keras').")
    digest = hashlib.blake2b(path.read_bytes(), digest_size=4).hexdigest()
    folder = directory("nn_dir") / config.exp_name / config.run_name(digest)
    return life.run(folder, config, PROGRAM, lambda unfinished: _tuned(config, path, digest, unfinished))


def _tuned(config: FinetuneSettings, path: Path, digest: str, unfinished: Path) -> life.Outcome:
    """Return the record, the arrays and the tuned model; `unfinished` is where checkpoints are kept."""
    if (shape := input_shape(path)) is not None:
        refuse_unfit_inputs(config, shape)
    refuse_missing_files(config)

    from linearized.experiments.backend import load_backend

    load_backend()
    from linearized.experiments import finetune_model
    from linearized.experiments.gradient_fit import loss_change
    from linearized.layers.snnk.uptrain import errors_of
    from linearized.models.common import load
    from linearized.solvers.training import sgd
    from linearized.solvers.training.recipe import Recipe

    original = load(path)
    dataset = load_data(config, original)
    model = finetune_model.swapped(config, original, dataset)
    finetune_model.choose_trainable(model, config.trainable)
    rows = finetune_model.from_rows(model)
    counts = {"num_parameters": int(model.count_params()), "original_parameters": int(original.count_params()),
              "trained_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables)}  # fmt: skip
    errors = errors_of(model)
    logging.info("%s: %d train rows, %s, errors of the SNNKs %s", path.name, len(dataset.train), counts, errors)
    loss = "square" if dataset.task == "regression" else "cross_entropy"
    done = sgd.fit(
        rows, dataset, learning_rate=config.learning_rate, epochs=config.epochs, batch_size=config.batch_size,
        loss=loss, optimizer="adamw", seed=config.seed,
        recipe=Recipe(schedule="cosine", warm_up=min(1, config.epochs - 1), weight_decay=config.weight_decay,
                      augment_crop=config.augment_crop, augment_flip=config.augment_flip),
        checkpoint=unfinished / "checkpoint", checkpoint_seconds=config.checkpoint_seconds,
        key=f"{dataset.fingerprint}-{config.key()}-{digest}",
    )  # fmt: skip
    if done.diverged and done.epochs_done == 0:
        raise UserError(done.message)
    predictions = {name: sgd.predict(rows, split.x) for name, split in dataset.splits().items()}
    scores = {
        f"{name}_{metric}": value
        for name, split in dataset.splits().items()
        for metric, value in scored(predictions[name], split, dataset, loss).items()
    }
    change = loss_change(np.asarray(done.history["loss"]) + np.asarray(done.history["penalty"]))
    entries = [{
        "index": 0, "ridge": 0.0, "converged": not done.diverged and settled(change), "diverged": done.diverged,
        "residual": None, "loss_change": change, "iterations": done.epochs_done, "message": done.message, **scores,
    }]  # fmt: skip
    choice = select.choose(entries)
    select.warn(choice, entries, "Give more --epochs, or another --learning_rate.")
    record = {
        "title": f"{path.stem} on {dataset.name}, swap {config.swap}, trained {config.trainable}",
        "settings": config.to_dict(),
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "dim": dataset.dim,
                 **{f"n_{name}": len(split) for name, split in dataset.splits().items()}, **dataset.notes},
        "model": {"name": path.stem, **counts, "snnk_errors": errors},
        "solver": {"name": "adamw", "step": "epoch", "history": "train loss", "loss": loss},
        "ridges": entries,
        **select.recorded(choice, entries),
    }  # fmt: skip
    arrays = {f"predictions/{name}": values for name, values in predictions.items()}
    arrays |= {f"history/{name}": values for name, values in done.history.items()}
    return life.Outcome(record, arrays, {"model.keras": model.save})


def scored(predictions: np.ndarray, split: Split, dataset: Dataset, loss: str) -> dict[str, float | None]:
    """Return loss and accuracy of predictions (n, k) on a split, and the scores customary for the task."""
    scores = dataset.score(split, predictions, loss=loss)
    if dataset.metrics:
        from linearized.experiments.customary_metrics import customary  # scikit-learn's metrics take a second to import

        scores |= customary(dataset, split.y.reshape(-1), predictions)
    return scores


def refuse_missing_files(config: FinetuneSettings) -> None:
    """Raise `UserError` for a folder of data and a vocabulary that do not exist."""
    if config.data and not Path(config.data).is_dir():
        raise UserError(f"--data={config.data} is no folder. Give one of class folders of images, or of a GLUE task.")
    if config.vocabulary:
        check_regular(config.vocabulary, "Give BERT's vocab.txt, or leave out --vocabulary.")


def refuse_unfit_inputs(config: FinetuneSettings, shape: tuple[int | None, ...] | None) -> None:
    """Raise `UserError` for a model whose input shape does not fit the data, or the flags that only some data read.

    Args:
        shape: The model's, with the number of rows first.
    """
    if not isinstance(shape, tuple) or None in shape[1:] or len(shape) not in (2, 4):
        raise UserError("The model must take one input of known size: images (n, height, width, channels), vectors "
                        f"(n, d) or token numbers (n, length). Received: {shape}.")  # fmt: skip
    if config.dataset:
        source = DATASETS.load(config.dataset)
        size = (int(np.prod(source.image_shape)),)
        if shape[1:] not in (source.image_shape, size):
            raise UserError(f"{config.dataset} has images of shape {source.image_shape}; the model must take those, or "
                            f"rows of length {size[0]}. Received: a model of input shape {shape}.")  # fmt: skip
        return
    texts, images = (
        dict.fromkeys(("vocabulary", "casing"), "texts"),
        dict.fromkeys(("scaling", *AUGMENTATION), "images"),
    )
    idle = texts if len(shape) == 4 else images
    for name, kind in idle.items():
        if getattr(config, name) != FinetuneSettings.__dataclass_fields__[name].default:
            raise UserError(f"--{name} is read with {kind}. Received: --{name}={getattr(config, name)} for a model of "
                            f"input shape {shape}.")  # fmt: skip


def load_data(config: FinetuneSettings, model: "keras.Model") -> Dataset:
    """Return the data in the shape that the model takes, with the validation rows split off.

    Raises `UserError` if the model has several inputs, or inputs of another shape than the data.
    """
    shape = getattr(model, "input_shape", None)  # a Sequential model that was never built has none
    refuse_unfit_inputs(config, shape)
    if config.dataset:
        names = ("num_train", "num_test", "validation", "seed")
        return load_published(config.dataset, config.noise_ind, **{name: getattr(config, name) for name in names})
    if len(shape) == 4:
        dataset = image_folder.load(config.data, shape[1:], scaling=config.scaling, seed=config.seed)
    else:
        from linearized.experiments.finetune_model import embedding_size

        dataset = glue.load(config.data, shape[1], embedding_size(model), config.vocabulary, config.casing)
    how = {"subset": "random" if len(shape) == 4 else "first", "seed": config.seed}
    train = part(dataset.train, config.num_train, what="num_train", **how)
    test = part(dataset.test, config.num_test, what="num_test", **how)
    if not config.validation:
        return dataclasses.replace(dataset, train=train, test=test)
    if dataset.validation is not None:
        raise UserError(f"{config.data} has a validation part of its own. Leave --validation at 0.")
    train, validation = _held_out(train, config.validation, config.seed)
    return dataclasses.replace(dataset, train=train, validation=validation, test=test)


def _held_out(train: Split, validation: float, seed: int) -> tuple[Split, Split | None]:
    """Split `validation` rows (a count or a fraction) off the train rows, drawn by `seed`."""
    count = count_or_share(validation, len(train), "validation")
    if not count:
        return train, None
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    kept, held_out = np.sort(order[count:]), np.sort(order[:count])
    return Split(train.x[kept], train.y[kept]), Split(train.x[held_out], train.y[held_out])


def main(config: FinetuneSettings) -> None:
    """Runs and prints the scores."""
    result = run(config)
    chosen: dict[str, Any] = result.chosen
    counts = result.record["model"]
    say(f"{counts['trained_parameters']:,} of {counts['num_parameters']:,} parameters trained "
        f"({counts['original_parameters']:,} before the swap)")  # fmt: skip
    for split in ("train", "test"):
        for reason, words in (("unlabelled", "without a label"), ("odd_columns", "with another number of columns")):
            if count := result.record["data"].get(f"{split}_rows_{reason}"):
                say(f"{split}: {count} rows {words} were dropped")
    for name, error in counts.get("snnk_errors", {}).items():
        say(f"{name}: replaced with a relative error of {error:.3f} on held-out rows, before training")
    for name in ("train", "validation", "test"):
        found = {key.removeprefix(f"{name}_"): value for key, value in chosen.items() if key.startswith(f"{name}_")}
        shown = [f"{metric.replace('_', ' ')} {value:.4f}" for metric, value in found.items() if value is not None]
        if shown:
            say(f"{name}: {', '.join(shown)}")
    draw(result.folder)
    say_written(result.folder)


def draw(folder: Path) -> None:
    """Have the report draw `curves.png` and `training.png` where one is missing. Raises `UserError` where it cannot."""
    if all((folder / name).is_file() for name in ("curves.png", "training.png")):
        return
    if subprocess.run([sys.executable, "-m", "linearized.report.run_pictures", f"--directory={folder}"]).returncode:
        raise UserError(f"The pictures of {folder} cannot be drawn, see above. The result itself is whole.")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(FinetuneSettings, __doc__, main, arguments)
