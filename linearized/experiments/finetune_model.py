"""Changes of the model in `linearized finetune`: layers are replaced, the classifier is resized, weights are frozen."""

from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.layers import initializers
from linearized.layers.snnk.adapter import SNNKAdapter, adapted
from linearized.layers.snnk.expansions import snnk_function
from linearized.layers.snnk.layer import SNNK
from linearized.layers.snnk.rows import MADE_UP
from linearized.layers.snnk.uptrain import mlp_blocks, replace_pooler, uptrain
from linearized.layers.surgery.exchange import kervolved, with_lambda_layers
from linearized.layers.surgery.swap import swap
from linearized.layers.surgery.swapped import parts, walk

Dense = keras.layers.Dense
ADAPTER_FEATURES = 64  # default number of features of the SNNKs in adapters


def swapped(config, model: keras.Model, dataset: Dataset) -> keras.Model:
    """Return a copy of a model in which the layers that `--swap` selects are replaced by other ones.

    The classifier of the copy has as many outputs as the data. Scalable neural network kernels (SNNKs) are fitted to
    the layers that they replace, on the inputs that these layers receive from train rows.

    Args:
        config: `linearized.experiments.finetune_settings.FinetuneSettings`.
        model: Model to fine-tune.
        dataset: Data on which it is fine-tuned.

    Raises:
        UserError: If the model does not have the layers that `--swap` replaces, or they cannot be replaced.
    """
    model = _with_outputs(model, dataset.num_outputs, config.seed)
    options = {"num_features": config.num_features, "activation": snnk_function(config.activation), "seed": config.seed,
               "orthogonal": config.orthogonal, "normalize": config.normalize}  # fmt: skip
    try:
        if config.swap == "kervolution":
            return kervolved(model, config.kernel, config.places, config.last, variant=config.kernel_variant)
        if config.swap == "lambda":
            return with_lambda_layers(model, config.heads, config.keys, config.scope, config.last, config.seed)
        if config.swap == "mlp":
            inputs = typical_inputs(model, dataset, config.seed)
            return uptrain(model, config.last or len(mlp_blocks(model)), inputs=inputs, **options)
        if config.swap.startswith("pooler"):
            inputs = typical_inputs(model, dataset, config.seed)
            return replace_pooler(model, bundled=config.swap == "pooler_bundled", inputs=inputs, **options)
        if config.swap == "adapters":
            places = adapter_places(model, config.adapt, config.last)
            options["num_features"] = config.num_features or ADAPTER_FEATURES
            return _with_adapters(model, places, bottleneck=config.bottleneck, **options)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"--swap={config.swap} does not fit this model. {error}") from error
    return model


def typical_inputs(model: keras.Model, dataset: Dataset, seed: int) -> np.ndarray:
    """Return up to 512 random train rows in the shape and data type of a model's inputs.

    On these rows, new layers are fitted to the outputs of the layers that they replace.

    Args:
        model: Keras model with one input.
        dataset: Data set with the train rows.
        seed: Random-number seed of the choice.
    """
    rows = dataset.train.x
    chosen = np.random.default_rng([seed, 3]).permutation(len(rows))[:MADE_UP]
    dtype = keras.backend.standardize_dtype(model.inputs[0].dtype) if model.inputs else "float32"
    return np.asarray(rows[np.sort(chosen)]).reshape(-1, *model.input_shape[1:]).astype(dtype)


def adapter_places(model: keras.Model, adapt: str, last: int) -> list[keras.layers.Layer]:
    """Return the layers after which adapters are inserted, in the model's order.

    Args:
        model: Model without adapters.
        adapt: "mlp": the linear layers that end MLP blocks; "attention": the output projections of attention layers;
            "both": both of them, as in Houlsby et al. (2019) and in the paper on SNNKs (ICLR 2024).
        last: Number of MLP blocks, and of attention layers, counted from the end; 0: all.

    Raises:
        ValueError: If the model has no such layers, or fewer than `last`.
    """
    found = {
        "MLP blocks": [block.contract for block in mlp_blocks(model)],
        "attention layers": attention_outputs(model),
    }
    wanted = {"mlp": ["MLP blocks"], "attention": ["attention layers"], "both": list(found)}[adapt]
    for kind in wanted:
        if not 0 <= last <= len(found[kind]) or not found[kind]:
            raise ValueError(f"The model has {len(found[kind])} {kind}. Received: last={last}.")
    chosen = {id(layer) for kind in wanted for layer in found[kind][-last:]}
    return [layer for layer in walk(model) if id(layer) in chosen]


def attention_outputs(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the output projection (a dense layer) of each attention layer of `model`.

    Attention layers are Keras' `MultiHeadAttention`, `GroupQueryAttention` and subclasses of these.
    """
    kinds = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
    return [
        part
        for layer in walk(model)
        if isinstance(layer, kinds)
        for part in parts(layer).values()
        if part.name == "attention_output"
    ]


def _with_adapters(model: keras.Model, places: list, *, seed: int, **options: Any) -> keras.Model:
    """Return a copy of a model with adapters; each adapter has its own random projections.

    Args:
        model: Model without adapters.
        places: Layers of the model; an adapter is inserted after each of them.
        seed: Random-number seed of all adapters.
        **options: Further arguments of `linearized.layers.snnk.adapter.adapted`.
    """
    chosen = {id(layer): number for number, layer in enumerate(places)}
    kinds = {type(layer) for layer in places}

    def factory(layer):
        return adapted(layer, seed=(seed, chosen[id(layer)]), **options)

    return swap(model, dict.fromkeys(kinds, factory), where=lambda layer: id(layer) in chosen)


def classifier(model: keras.Model) -> Dense:
    """Return the last linear Dense layer of a model. Raises `UserError` if there is none."""
    found = [layer for layer in walk(model) if type(layer) is Dense and layer.activation is keras.activations.linear]
    if not found:
        raise UserError("The model has no linear Dense layer that returns logits. Give a model that ends in one.")
    return found[-1]


def _with_outputs(model: keras.Model, outputs: int, seed: int) -> keras.Model:
    last = classifier(model)
    if last.units == outputs:
        return model

    def factory(layer):
        start = initializers.SeededNormal(layer.kernel.shape[0] ** -0.5, seed)
        config = {**layer.get_config(), "units": outputs}
        new = Dense.from_config({**config, "kernel_initializer": start})
        new.build((None, layer.kernel.shape[0]))
        return new

    return swap(model, {Dense: factory}, where=lambda layer: layer is last)


def choose_trainable(model: keras.Model, what: str) -> None:
    """Freeze all weights of a model except the chosen ones. The classifier is always trained.

    Args:
        model: Model, which is changed.
        what: "all": nothing is frozen; "adapters": the adapters are trained; "snnk": the matrices Ψ of the scalable
            neural network kernels (SNNKs) are trained; "classifier": only the classifier is.

    Raises:
        UserError: If the model has no classifier.
    """
    model.trainable = True
    if what == "all":
        return
    kinds = {"adapters": (SNNKAdapter,), "snnk": (SNNK,), "classifier": ()}[what]
    last = classifier(model)
    _freeze(model, lambda layer: layer is last or isinstance(layer, kinds))


def _freeze(layer: keras.layers.Layer, kept) -> None:
    if kept(layer):
        return
    if not any(map(kept, walk(layer))):
        layer.trainable = False
        return
    inner = parts(layer).values()
    of_parts = {id(variable) for part in inner for variable in part.variables}
    for variable in layer.trainable_variables:
        if id(variable) not in of_parts:
            variable.trainable = False
    for part in inner:
        _freeze(part, kept)


def from_rows(model: keras.Model) -> keras.Model:
    """Return a model with flat float rows (n, d) as inputs, which is the form in which data sets store rows.

    It reshapes the rows to the inputs of `model`, and shares the weights of `model`.
    """
    shape = model.input_shape[1:]
    size = 1
    for length in shape:
        size *= length
    rows = keras.Input((size,), name="rows")
    x = rows if len(shape) == 1 else keras.layers.Reshape(shape, name="shaped")(rows)
    dtype = keras.backend.standardize_dtype(model.inputs[0].dtype) if model.inputs else "float32"
    x = keras.ops.cast(x, dtype)
    return keras.Model(rows, model(x), name="rows")


def embedding_size(model: keras.Model) -> int:
    """Return the number of different tokens that the first embedding layer of a model accepts.

    Raises:
        UserError: If the model has no embedding layer.
    """
    for layer in walk(model):
        if isinstance(layer, keras.layers.Embedding):
            return int(layer.input_dim)
    raise UserError("The model takes (n, length) but has no Embedding layer: GLUE's texts need one.")
