"""Models from the user's own Keras files (`--model=path.keras`), trained from the weights of the file or from new ones.

Penalty: λ Σ‖W‖² over the trained weights W that have two or more axes and no regularizer in the file. Regularizers of
the file are kept. The model receives flat rows, or images if its input has the shape of the images.
"""

from typing import TYPE_CHECKING, Any

from linearized.base.errors import UserError
from linearized.base.reading import one_line
from linearized.data.dataset import Dataset
from linearized.models.declaration import Declaration
from linearized.models.row_shapes import row_shape, stated_shape
from linearized.models.saved_model import input_shape
from linearized.settings.model_settings import KerasFileSettings
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras

PROBABILITIES = ("softmax", "sigmoid", "log_softmax", "Softmax")


def check(config: Any) -> None:
    """Raise `UserError` for a file that is not a model or does not fit the rows, and for --mixed_precision.

    Keras is not imported for this.

    Args:
        config: Settings `model` and `mixed_precision`, and the settings of the data.
    """
    if config.mixed_precision:
        raise UserError(f"--mixed_precision changes nothing: {config.model} holds the precision of its layers. "
                        "Leave it out.")  # fmt: skip
    shape = input_shape(config.model)
    if shape is not None:
        row_shape(config.model, shape, config.dim(), config.described().image_shape, config.data_name())


DECLARED = Declaration(
    reads("init", "seed", "linearize"), groups=(KerasFileSettings,), units=0, ridges="convolutional",
    batches="convolutional", check=check, hidden_layers=lambda _config: None,
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Load the user's model, add the penalty, and return it uncompiled, from rows (n, d) to outputs (n, k).

    Args:
        config: Settings `model` (the path), `init` ("file": the weights of the file; "fresh": new ones), `seed` (for
            new weights whose initializers have no seed of their own) and `loss`.
        dataset: Dataset that the inputs and outputs must fit.
        ridge: λ of the penalty that the module's docstring states.

    Raises:
        UserError: For a file that cannot be loaded or does not fit the dataset, see `of_rows`.
    """
    from linearized.models.common import penalty

    model = of_rows(config, dataset)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1 and variable.regularizer is None:
            variable.regularizer = penalty(ridge)
    return model


def of_rows(config: Any, dataset: Dataset) -> "keras.Model":
    """Load a model file, and return a model from the dataset's flat rows (n, d) to the outputs of the loaded model.

    Args:
        config: Settings `model`, `init`, `seed` and `loss`, as for `build`.
        dataset: Dataset that the inputs and outputs must fit.

    Raises:
        UserError: For a file that Keras cannot load, for inputs or outputs that do not fit the dataset, for outputs
            that are probabilities with the cross-entropy loss, and for a model whose layers are all frozen.
    """
    import keras

    from linearized.models.common import load

    path = config.model
    model = load(path)
    if config.init == "fresh":
        keras.utils.set_random_seed(config.seed)
        model = _fresh(model, path)
    taken = row_shape(path, stated_shape(model), dataset.dim, dataset.image_shape, dataset.name)
    if taken != (dataset.dim,) or not hasattr(model, "input_shape"):
        rows = keras.Input((dataset.dim,), name="x")
        inner = rows if taken == (dataset.dim,) else keras.layers.Reshape(taken, name="image")(rows)
        try:
            model = keras.Model(rows, model(inner), name=f"{model.name}_of_rows")
        except Exception as error:  # a model of a user's class may raise any exception
            raise UserError(f"{path} cannot take rows of {dataset.name}: {one_line(error)}") from error
    _check_outputs(model, path, dataset, config.loss)
    return model


def _fresh(model: "keras.Model", path: str) -> "keras.Model":
    """Return a model of the same architecture as `model`, with new initial weights.

    Args:
        model: Keras model.
        path: Path of the model's file, used in error messages.

    Raises:
        UserError: If Keras cannot build the new model.
    """
    import keras

    try:
        return keras.models.clone_model(model)
    except Exception as error:  # a model of a user's class may raise any exception
        raise UserError(f"--init=fresh cannot build {path} again ({one_line(error)}). Use --init=file.") from error


def _check_outputs(model: "keras.Model", path: str, dataset: Dataset, loss: str) -> None:
    """Raise `UserError` for a model whose outputs do not fit the dataset or the loss, or that has no weights to train.

    Args:
        model: Keras model.
        path: Path of the model's file, used in error messages.
        dataset: Dataset with k outputs; the outputs of the model must be (n, k).
        loss: "square" or "cross_entropy". The cross-entropy requires logits, not probabilities.
    """
    outputs = model.outputs or []
    shapes = [tuple(output.shape) for output in outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] != dataset.num_outputs:
        received = " and ".join(map(str, shapes)) or "none that are known"
        raise UserError(f"{path} must have outputs of shape (n, {dataset.num_outputs}) for {dataset.name}. Received: "
                        f"{received}.")  # fmt: skip
    last = model.layers[-1]
    while getattr(last, "layers", None):
        last = last.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", type(last).__name__)
    if loss == "cross_entropy" and activation in PROBABILITIES:
        raise UserError(f"--loss=cross_entropy takes logits, and {path} ends in {activation}. Use --loss=square, or "
                        "save the model without it.")  # fmt: skip
    if not model.trainable_variables:
        raise UserError(f"{path} has no weights to train: all of its layers are frozen.")
