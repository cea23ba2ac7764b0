"""The settings of `linearized train`: one model, one dataset, a ridge grid."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linearized.base.activations import ACTIVATION_HELP, ACTIVATIONS
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.base.weights import BLOCK_HELP, LAW_HELP, LAWS, MOST_UNITS, SEED, WEIGHT_SEED_HELP
from linearized.data.scores import LOSSES
from linearized.experiments.backend_choice import BACKENDS, refuse_jax
from linearized.experiments.refusals import refuse_unfit, weights_digest
from linearized.models import MODELS, declaration, declared, declared_reads, setting_groups
from linearized.models.declaration import HIDDEN_UNITS
from linearized.settings.choice_settings import ChoiceSettings
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.data_settings import LevelsSettings, PreprocessedRows
from linearized.settings.model_files import NO_MODEL_HELP
from linearized.settings.reads import Declarations
from linearized.settings.run_settings import MEMORY_HELP, MOST_GIB, MOST_STEPS, NUM_LAYERS_HELP, RunSettings
from linearized.settings.training_settings import TrainingSettings
from linearized.solvers import LEAST_SQUARES, SOLVER_READS, SOLVERS

if TYPE_CHECKING:
    pass

LINEAR = [name for name in MODELS if declaration(name).linear]
WIDTHS = {name: declaration(name).units for name in MODELS}
UNITS_HELP = (
    "hidden units of a layer, or channels of a convolutional network's first stage; unset: "
    f"{', '.join(f'{name} {units}' for name, units in WIDTHS.items() if units != HIDDEN_UNITS)}, others {HIDDEN_UNITS}"
)
AUTO_HELP = (
    f"auto: {' and '.join(LINEAR)} with the square loss by lanczos, cg or band, "
    f"{' and '.join(name for name in MODELS if declaration(name).optimizer == 'sgd')} by sgd, others by adam"
)


@dataclasses.dataclass(frozen=True)
class TrainSettings(*setting_groups(), TrainingSettings, PreprocessedRows, LevelsSettings, ChoiceSettings, RunSettings):
    """Settings of `linearized train`: the flags of the published code of Ghorbani et al., and further ones."""

    GROUP = "Model"

    model: str = setting("RF", "the model; or path.keras, a Keras model of your own, see --init", choices=MODELS)
    num_units: int | None = setting(None, UNITS_HELP, minimum=1, maximum=MOST_UNITS)
    num_layers: int = setting(1, NUM_LAYERS_HELP, minimum=1, maximum=1000)
    activation: str = setting("relu", ACTIVATION_HELP, choices=ACTIVATIONS)
    reg_index: str = setting(
        "", "ridges to fit: all, an index, 0,4,9 or 3:8; empty: all for CG, 0 for SGD", group="Solver"
    )
    learning_rate: float = setting(
        1e-3,
        "learning rate; the peak of the schedule is twice this, see docs/guides/training.md",
        minimum=0.0,
        maximum=1e38,
        group="Solver",
        aliases=("lr",),
    )
    drop_rate: float = setting(0.0, "dropout rate of the hidden layers", minimum=0.0, maximum=0.999)
    max_batch_size: int | None = setting(
        None, "rows per batch of SGD, Adam and AdamW, and rows in memory at once of Newton-CG; unset: the published "
        "batches, see docs/guides/training.md", minimum=1, group="Solver")  # fmt: skip
    max_cg_iters: int = setting(
        750,
        "largest number of iterations of CG, or of epochs of SGD and Adam",
        minimum=1,
        maximum=MOST_STEPS,
        group="Solver",
        aliases=("epochs",),
    )
    max_ncg_iters: int = setting(
        0, "largest number of Newton-CG steps after SGD or Adam", minimum=0, maximum=MOST_STEPS, group="Solver"
    )
    loss: str = setting("square", "loss that is minimised", choices=LOSSES, group="Solver")

    solver: str = setting(
        "auto",
        AUTO_HELP,
        choices=("auto", *SOLVERS),
        group="Solver",
    )
    cg_rtol: float | None = setting(
        None, "least squares stops at this residual of the normal equations, relative; unset: 1e-4, as published, with "
        "a given --solver or --cg_atol, and errors of the train predictions of 1e-3 with --solver=auto", minimum=0.0,
        maximum=1.0, group="Solver",
    )  # fmt: skip
    cg_atol: float | None = setting(
        None, "or at this one, absolute; unset: 1e-3 where --cg_rtol is used", minimum=0.0, group="Solver"
    )
    weight_seed: int = setting(SEED, WEIGHT_SEED_HELP, minimum=0, maximum=LARGEST_SEED)
    law: str = setting("sphere", LAW_HELP, choices=LAWS)
    block: int = setting(0, BLOCK_HELP, minimum=0, maximum=MOST_UNITS)
    directions: str = setting(
        "shared", "NT: classes share the direction G, as published", choices=("shared", "per_class")
    )
    depth: int = setting(5, "layers of the Myrtle CNN and KERV_CNN: 5, 7 or 10", minimum=5, maximum=10)
    memory: float = setting(0.0, MEMORY_HELP, minimum=0.0, maximum=MOST_GIB, identity=False, group="Run")
    tensorboard: bool = setting(
        False, "write TensorBoard logs beside the result (SGD, Adam)", identity=False, group="Run"
    )
    backend: str = setting(
        "auto", "Keras' backend for SGD and Adam; auto: jax for long runs of small batches of "
        f"{' and '.join(name for name in MODELS if declaration(name).faster_on_jax)} on a CPU where nothing needs "
        "tensorflow, unless $KERAS_BACKEND is set", choices=("auto", *BACKENDS), identity=False, group="Run",
    )  # fmt: skip
    no_model: bool = setting(False, NO_MODEL_HELP, identity=False, group="Run")

    @classmethod
    def kinds(cls) -> Declarations:
        """Return which settings each model and each solver reads, in the form of `Settings.kinds`.

        The keys are names of settings such as "model" and "solver", whose values select a model or a solver.
        """
        return super().kinds() | {"model": declared_reads(), "solver": SOLVER_READS}

    def chosen(self) -> Mapping[str, str | None]:
        """Return the names of the selected model, solver and other entries, by setting; see `Settings.chosen`.

        The solver "auto" is replaced by the one that `working_solver` returns.
        """
        return {**super().chosen(), "model": MODELS.entry(self.model), "solver": self.working_solver()}

    def refuse_aliases(self, given: set[str]) -> None:
        """Raise `UserError` for `--epochs`, another name of --max_cg_iters, with a solver that has no epochs.

        Args:
            given: Names of given flags that are aliases of others, such as "epochs".
        """
        if "epochs" in given and self.uses_least_squares():
            raise UserError(
                f"--epochs is --max_cg_iters of solvers that train by gradients, and {self.working_solver()} has "
                f"iterations. Give --max_cg_iters. Received: --epochs={self.max_cg_iters} --model={self.model}."
            )

    def complete(self) -> None:
        """Set the default width of the model, and further settings that follow from others."""
        own = declared(self)
        values = own.complete(self) if own.complete else {}
        for name, value in {"num_units": self.num_units or own.units or None, **values}.items():
            object.__setattr__(self, name, value)

    def __post_init__(self):
        super().__post_init__()
        linear, least_squares = declared(self).linear, self.solver in LEAST_SQUARES
        if least_squares and not (linear and self.loss == "square"):
            raise UserError(
                f"--solver={self.solver} fits {', '.join(LINEAR)} and, with --linearize, model files, with the square "
                f"loss. Received: --model={self.model} --loss={self.loss}. Use --solver=sgd, adam, adamw or newton_cg."
            )
        if self.solver == "newton_cg" and self.max_ncg_iters == 0:
            raise UserError("--solver=newton_cg takes no step with --max_ncg_iters=0. Give it, say, 100.")
        rule = declared(self).momentum
        if self.momentum == rule:
            raise UserError(f"--momentum={rule} is the published rule of {self.model}: leave --momentum out.")
        if self.mixed_precision and self.max_ncg_iters:
            raise UserError("Newton-CG needs float32: leave out --mixed_precision or --max_ncg_iters.")
        refuse_jax(self)
        refuse_unfit(self)

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, by name, from which the key of its folder is computed.

        They are those of `Settings.identity` with two changes: a single noise level above 0 is a number instead of a
        text, and `published_weights` is a digest of the file's content instead of its name.
        """
        one = {"noise_ind": int(self.noise_ind)} if self.noise_ind.isdigit() and self.noise_ind != "0" else {}
        if self.published_weights:  # the content determines the result, not the file's name
            one["published_weights"] = weights_digest(self.published_weights)
        return super().identity() | one

    def uses_least_squares(self) -> bool:
        """Return whether one least-squares solver fits all ridges; otherwise the model is trained ridge by ridge."""
        linear = declared(self).linear and self.loss == "square"
        return self.solver in LEAST_SQUARES or (self.solver == "auto" and linear)

    def working_solver(self) -> str:
        """Return the name of the solver: --solver or, for "auto", the model's optimizer or "lanczos" (least squares).

        For "auto" and least squares, "lanczos" is preliminary: the fit may choose another solver when the size of the
        problem is known.
        """
        if self.solver != "auto":
            return self.solver
        if self.uses_least_squares():
            return "lanczos"
        return declared(self).optimizer

    def recipe_settings(self) -> dict[str, Any]:
        """Return the options of first-order training, by the fields of `linearized.solvers.training.recipe.Recipe`.

        `--schedule=published` stands for the learning-rate schedule with which the model was published. Lambda networks
        with `--lambda_variant=published` or `unpermuted` have the schedule of joigalcar3/LambdaNetworks, all other
        models the schedule of arXiv 2006.13409. `--momentum=published` is Nesterov's rule for RF and the classical one
        for all other models, both in the convention of TensorFlow 1.
        """
        recipe = super().recipe_settings()
        if self.momentum == "published":
            recipe["momentum"] = declared(self).momentum
        if self.schedule == "published":
            recipe["schedule"] = declared(self).schedule(self)
        return recipe

    def run_name(self) -> str:
        """Return the name of the folder of the result, which is unique to the settings that determine the result."""
        job = f"_job{self.job_id}" if self.job_id >= 0 else ""
        units = "" if self.num_units is None else f"_N{self.num_units}"
        return f"{self.data_name()}_{slug(self.model_name())}{units}_noise{self.noise_ind}_{self.key()}{job}"

    def model_name(self) -> str:
        """Return the name of the model for titles and folders; for a model file, its name without the suffix.

        With --linearize, the word "linearized" follows.
        """
        name = Path(self.model).stem if MODELS.is_file(self.model) else self.model
        return f"{name} linearized" if self.linearize else name

    def folder(self) -> Path:
        """Return the path of the folder in which the result is stored, for settings of a single noise level.

        It is `nn_dir` of directories.txt, then the experiment's name, then `run_name()`.
        """
        return directory("nn_dir") / self.exp_name / self.run_name()
