"""Fine-tunes a saved Keras model after a swap, on a folder of images or on GLUE's TSV files.

    python -m linearized.finetune --model=vit.keras --data=photos --swap=mlp --last=2 --trainable=snnk
    python -m linearized.finetune --model=bert.keras --data=glue/RTE --swap=adapters --trainable=adapters

The model takes images or token numbers and gives logits; its last linear layer is replaced where the number of classes
asks for it. The result lies under nn_dir of directories.txt: result.json, arrays.h5, model.keras. The same command
again goes on where it was stopped; when it is done, it shows the result.
"""

import dataclasses
import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from data import glue, image_folder, results
from data.command import run_command
from data.config import Settings, setting
from data.dataset import Dataset, part
from data.directories import directory
from data.errors import UserError
from data.files import claimed, whole_file
from linearized.fits import Result
from linearized.metrics import evaluate
from linearized.model_settings import SNNK_ACTIVATIONS

if TYPE_CHECKING:
    import keras

SWAPS = ("none", "mlp", "pooler", "pooler_bundled", "adapters")
TRAINABLE = ("all", "classifier", "adapters", "snnk")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Settings of `python -m linearized.finetune`."""

    model: str = setting("", "a saved .keras model: images or token numbers in, logits out")
    data: str = setting("", "a folder of class folders of images, or of a GLUE task (train.tsv, dev.tsv)")
    swap: str = setting("none", "SNNKs for the last MLP blocks or the tanh pooler, or adapters", choices=SWAPS)
    last: int = setting(0, "so many last MLP blocks (--swap=mlp, adapters); 0: all", minimum=0)
    num_features: int = setting(64, "random features of each SNNK", minimum=2)
    activation: str = setting("relu", "whose features the SNNKs have", choices=SNNK_ACTIVATIONS)
    bottleneck: int = setting(16, "width of an adapter, 0: a modulating vector", minimum=0)
    trainable: str = setting("all", "what is trained, beside the classifier", choices=TRAINABLE)
    learning_rate: float = setting(1e-3, "of AdamW, after one epoch of warm-up; a cosine to 0 after it", minimum=0.0)
    weight_decay: float = setting(0.0, "share of the rate that AdamW takes off each weight a step", minimum=0.0)
    epochs: int = setting(3, "over the train rows", minimum=1)
    batch_size: int = setting(32, "rows a step", minimum=1)
    num_train: int = setting(0, "first train rows (images: in random order), 0: all", minimum=0)
    num_test: int = setting(0, "test rows, 0: all", minimum=0)
    scaling: str = setting("unit", "pixels to [0, 1], [-1, 1] or left 0..255", choices=tuple(image_folder.SCALINGS))
    vocabulary: str = setting("", "GLUE: BERT's vocab.txt; empty: the words of the train set")
    seed: int = setting(0, "of projections, new weights, the order of rows and a folder's split", minimum=0)
    exp_name: str = setting("finetune", "the experiment: a folder of results below nn_dir", identity=False)
    checkpoint_seconds: float = setting(30.0, "work that a killed run may lose; 0: none", minimum=0.0, identity=False)

    def __post_init__(self):
        super().__post_init__()
        if not self.model or not self.data:
            raise UserError("--model and --data are needed: a saved .keras model and a folder.")
        if self.trainable == "adapters" and self.swap != "adapters":
            raise UserError("--trainable=adapters trains what --swap=adapters puts in. Received: --swap=" + self.swap)
        if self.trainable == "snnk" and self.swap not in ("mlp", "pooler"):
            raise UserError("--trainable=snnk trains the outputs of SNNKs: add --swap=mlp or --swap=pooler. "
                            f"Received: --swap={self.swap}.")  # fmt: skip
        idle = {"last": ("mlp", "adapters"), "bottleneck": ("adapters",), "num_features": SWAPS[1:],
                "activation": SWAPS[1:]}  # fmt: skip
        for field in dataclasses.fields(self):
            if self.swap not in idle.get(field.name, SWAPS) and getattr(self, field.name) != field.default:
                raise UserError(f"--{field.name} is read with --swap={', '.join(idle[field.name])}. Received: --swap="
                                f"{self.swap} --{field.name}={getattr(self, field.name)}.")  # fmt: skip

    def run_name(self, model_digest: str) -> str:
        """The folder of the run: readable, and unique to what decides the result."""
        words = (Path(self.data).name, Path(self.model).stem, self.swap, self.trainable, self.key(), model_digest)
        return "_".join(words)


def run(config: Config) -> Result:
    """Loads, swaps, trains, scores, saves. A finished run is read back, a killed one goes on where it was.

    Raises `UserError` for what a user can mend.
    """
    start, path = time.monotonic(), Path(config.model)
    if not path.is_file():
        raise UserError(f"{path} is no file. Save a model with model.save('name.keras').")
    digest = hashlib.blake2b(path.read_bytes(), digest_size=4).hexdigest()
    folder = directory("nn_dir") / config.exp_name / config.run_name(digest)
    if results.finished(folder):
        logging.info("done before; remove %s to run it again", folder)
        return Result(folder, results.load(folder), fresh=False)

    from linearized.backend import load_backend

    load_backend()
    from linearized import finetune_model
    from linearized.models.common import load
    from linearized.solvers import sgd
    from linearized.solvers.recipe import Recipe

    try:
        original = load(path)
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    dataset = load_data(config, original)
    model = finetune_model.swapped(config, original, dataset)
    finetune_model.choose_trainable(model, config.trainable)
    rows = finetune_model.from_rows(model)
    counts = {"num_parameters": int(model.count_params()), "original_parameters": int(original.count_params()),
              "trained_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables)}  # fmt: skip
    logging.info("%s: %d train rows, %s", path.name, len(dataset.train), counts)
    loss = "square" if dataset.task == "regression" else "cross_entropy"
    with claimed(folder):
        work = folder / "unfinished"
        done = sgd.fit(
            rows, dataset, learning_rate=config.learning_rate, epochs=config.epochs, batch_size=config.batch_size,
            loss=loss, optimizer="adamw", seed=config.seed,
            recipe=Recipe(schedule="cosine", warm_up=min(1, config.epochs - 1), weight_decay=config.weight_decay),
            checkpoint=work / "checkpoint", checkpoint_seconds=config.checkpoint_seconds,
            key=f"{dataset.fingerprint}-{config.key()}-{digest}",
        )  # fmt: skip
        if done.diverged and done.epochs_done == 0:
            raise UserError(done.message)
        predictions = {name: sgd.predict(rows, split.x) for name, split in dataset.splits().items()}
        scores = {
            f"{name}_{metric}": value
            for name, split in dataset.splits().items()
            for metric, value in evaluate(predictions[name], split, dataset, loss=loss).items()
        }
        entry = {"index": 0, "ridge": 0.0, "converged": not done.diverged, "diverged": done.diverged,
                 "iterations": done.epochs_done, "message": done.message, **scores}  # fmt: skip
        record = {
            "title": f"{path.stem} on {dataset.name}, swap {config.swap}, trained {config.trainable}",
            "settings": config.to_dict(),
            "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "dim": dataset.dim,
                     **{f"n_{name}": len(split) for name, split in dataset.splits().items()}},
            "model": {"name": path.stem, **counts},
            "solver": {"name": "adamw", "step": "epoch", "history": "train loss"},
            "ridges": [entry],
            "chosen": {"position": 0, "index": 0, "by": "the only one"},
            "seconds": round(time.monotonic() - start, 3),
        }  # fmt: skip
        arrays = {f"predictions/{name}": values for name, values in predictions.items()}
        arrays |= {f"history/{name}": values for name, values in done.history.items()}
        with whole_file(folder / "model.keras") as aside:
            model.save(aside)
        results.save(folder, record, arrays)
        shutil.rmtree(work, ignore_errors=True)
    return Result(folder, results.load(folder), fresh=True)


def load_data(config: Config, model: "keras.Model") -> Dataset:
    """The data in the shape that the model takes."""
    shape = model.input_shape
    if not isinstance(shape, tuple) or None in shape[1:] or len(shape) not in (2, 4):
        raise UserError("The model must take one input of known size: images (n, height, width, channels) or token "
                        f"numbers (n, length). Received: {shape}.")  # fmt: skip
    if len(shape) == 4:
        dataset = image_folder.load(config.data, shape[1:], scaling=config.scaling, seed=config.seed)
    else:
        from linearized.finetune_model import embedding_size

        dataset = glue.load(config.data, shape[1], embedding_size(model), config.vocabulary)
    how = {"subset": "random" if len(shape) == 4 else "first", "seed": config.seed}
    train = part(dataset.train, config.num_train, what="num_train", **how)
    test = part(dataset.test, config.num_test, what="num_test", **how)
    return dataclasses.replace(dataset, train=train, test=test)


def main(config: Config) -> None:
    """Runs and prints the scores."""
    result = run(config)
    chosen: dict[str, Any] = result.chosen
    counts = result.record["model"]
    print(f"{counts['trained_parameters']:,} of {counts['num_parameters']:,} parameters trained "
          f"({counts['original_parameters']:,} before the swap)")  # fmt: skip
    for name in ("train", "test"):
        accuracy = chosen[f"{name}_accuracy"]
        told = "" if accuracy is None else f", accuracy {accuracy:.4f}"
        print(f"{name}: loss {chosen[f'{name}_loss']:.4f}{told}")
    print(f"written to {result.folder}")


if __name__ == "__main__":
    sys.exit(run_command(Config, __doc__, main))
