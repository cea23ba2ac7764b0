"""Settings of `linearized finetune`: the model, the data, the layers to replace, the weights to train, the training."""

import dataclasses
from pathlib import Path

from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.data import DATASETS
from linearized.data.sources import image_folder
from linearized.data.sources.wordpiece import CASINGS
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.data_settings import MOST_ROWS
from linearized.settings.model_files import NO_MODEL_HELP
from linearized.settings.model_settings import KERVOLUTIONS, SNNK_FUNCTIONS
from linearized.settings.reads import SET, when
from linearized.settings.run_settings import CHECKPOINT_HELP, EXPERIMENT_HELP, MOST_SECONDS, MOST_STEPS
from linearized.settings.training_settings import AugmentationSettings

SNNK_SWAPS = ("mlp", "pooler", "pooler_bundled", "adapters")
SWAPS = ("none", *SNNK_SWAPS, "kervolution", "lambda")
TRAINABLE = ("all", "classifier", "adapters", "snnk")
ADAPT = ("mlp", "attention", "both")


@dataclasses.dataclass(frozen=True)
class FinetuneSettings(AugmentationSettings):
    """Settings of `linearized finetune`."""

    GROUP = "Model"

    model: str = setting("", "a saved .keras model that takes images, vectors or token numbers and returns logits")
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
        "number of MLP blocks, layers of --adapt or convolutions to change, counted from the end; 0: all",
        minimum=0,
        when=when(swap=("mlp", "adapters", "kervolution", "lambda")),
    )
    adapt: str = setting(
        "mlp", "layers that adapters follow: MLP blocks, attention, or both", choices=ADAPT, when=when(swap="adapters")
    )
    kernel: str = setting(
        "polynomial", "kernel of --swap=kervolution", choices=KERVOLUTIONS, when=when(swap="kervolution")
    )
    kernel_variant: str = setting(
        "standard",
        "variant of --swap=kervolution; published: degree 2, γ 0.5, bias added after the kernel",
        choices=("standard", "published"),
        when=when(swap="kervolution"),
    )
    places: str = setting(
        "all", "kervolutions: all convolutions, or all but the first and those of 1x1 (inner)",
        choices=("all", "inner"), when=when(swap="kervolution"))  # fmt: skip
    heads: int = setting(4, "lambda layers: queries per pixel", minimum=1, when=when(swap="lambda"))
    keys: int = setting(16, "lambda layers: depth of queries and keys", minimum=1, when=when(swap="lambda"))
    scope: int = setting(
        0,
        "lambda layers: side in pixels of the window of a position lambda (odd); 0: all pixels",
        minimum=0,
        when=when(swap="lambda"),
    )
    num_features: int | None = setting(
        None, "random features of each SNNK; unset: 64 in adapters, and in each replaced layer the first of 64, 128, "
        "... 1024 that brings its error on held-out rows to 0.2", minimum=2, when=when(swap=SNNK_SWAPS),
    )  # fmt: skip
    activation: str = setting(
        "relu",
        "activation of the SNNKs' features; or package.module:function, a smooth f(x) or f(x, xp) of yours",
        choices=SNNK_FUNCTIONS,
        when=when(swap=SNNK_SWAPS),
    )
    orthogonal: bool = setting(
        True, "projections of the SNNKs in orthogonal blocks, else independent", when=when(swap=SNNK_SWAPS)
    )
    normalize: float = setting(
        0.0, "norm to which the SNNKs' inputs are scaled; 0: unchanged", minimum=0.0, when=when(swap=SNNK_SWAPS)
    )
    bottleneck: int = setting(16, "width of an adapter, 0: a modulating vector", minimum=0, when=when(swap="adapters"))
    trainable: str = setting("all", "trained weights, besides the classifier's", choices=TRAINABLE, group="Solver")
    learning_rate: float = setting(
        1e-3,
        "learning rate of AdamW after one epoch of warm-up, from which it falls to 0 along a cosine",
        minimum=0.0,
        maximum=1e38,
        aliases=("lr",),
        group="Solver",
    )
    weight_decay: float = setting(
        0.0, "weight decay of AdamW, multiplied by the learning rate in each step", minimum=0.0, group="Solver"
    )
    epochs: int = setting(3, "passes over the train rows", minimum=1, maximum=MOST_STEPS, group="Solver")
    batch_size: int = setting(32, "rows per training step", minimum=1, group="Solver")
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
    skip_bad: bool = setting(
        False, "skip pictures that cannot be read, and list them in the record", when=when(dataset=""), group="Data"
    )  # fmt: skip
    vocabulary: str = setting(
        "", "GLUE: BERT's vocab.txt; empty: the words of the train set", when=when(dataset=""), group="Data"
    )
    casing: str = setting(
        "auto",
        "GLUE: whether capitals and accents are kept; auto: they are if the vocabulary has capitals",
        choices=CASINGS,
        when=when(dataset=""),
        group="Data",
    )
    seed: int = setting(
        0,
        "random-number seed of projections, new weights, the order of rows and a folder's split",
        minimum=0,
        maximum=LARGEST_SEED,
        group="Solver",
    )
    exp_name: str = setting("finetune", EXPERIMENT_HELP, identity=False, name=True, group="Run")
    checkpoint_seconds: float = setting(
        30.0, CHECKPOINT_HELP, minimum=0.0, maximum=MOST_SECONDS, identity=False, group="Run"
    )

    no_model: bool = setting(False, NO_MODEL_HELP, identity=False, group="Run")

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
        """Return the name of the run's folder, which is unique to the settings that determine the result.

        Args:
            model_digest: Digest of the content of the model file.
        """
        data = f"{self.dataset}_noise{self.noise_ind}" if self.dataset else Path(self.data).resolve().name
        words = (slug(data, 60), slug(Path(self.model).stem, 60), self.swap, self.trainable, self.key(), model_digest)
        return "_".join(words)
