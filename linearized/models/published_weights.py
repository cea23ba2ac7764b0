"""The function `take_up`, which copies the weights of public PyTorch networks into RESNET and LAMBDA_RESNET models.

The networks are torchvision's residual networks and the reproduction of lambda networks on CIFAR-10 by
joigalcar3/LambdaNetworks, for `--lambda_variant=published` and `unpermuted`. Save the state of a PyTorch model with
`np.savez("weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()})`; then call
`take_up(model, dict(np.load("weights.npz")))`, or start a training run from the file with
`linearized train --published_weights=weights.npz`.

In the table, S, B and N are the numbers of a stage, a block and a layer. A convolution has o output channels, i input
channels and filters of a x a pixels. A lambda layer has d input channels, h heads, keys of depth k, values of depth v,
n query pixels and m context pixels. The readout maps f features to c classes.

| PyTorch                               | shape          | here                               | shape        |
|---------------------------------------|----------------|------------------------------------|--------------|
| conv1.weight, bn1.*                   | (o, i, 7, 7)   | stem, stem_norm                    | (7, 7, i, o) |
| layerS.B.convN.weight, bnN.*          | (o, i, a, a)   | stage_S_(B+1)_conv_N or mix_N, norm_N | (a, a, i, o) |
| layerS.B.downsample*.0.weight, .1.*   | (o, i, 1, 1)   | stage_S_(B+1)_short, short_norm    | (1, 1, i, o) |
| ...conv2.toqueries.weight             | (k h, d)       | mix_2: queries                     | (d, h k)     |
| ...conv2.tokeys, tovalues             | (k, d), (v, d) | mix_2: keys, values                | (d, k), (d, v) |
| ...conv2.bn_queries, bn_values        | (k), (m)       | mix_2: query_norm, value_norm      | (k), (m)     |
| ...conv2.E                            | (n, m, k)      | embedding_HxWx1, shared            | (n, m, k, 1) |
| fc.weight, fc.bias                    | (c, f), (c)    | readout                            | (f, c), (c)  |

The queries in an array are ordered by depth and then by head in PyTorch, but by head and then by depth here. The
reproduction reshapes an image from (d, H, W) to (H W, d) without transposing it, which mixes pixels and channels. A
network of the variant "unpermuted" does so too, and therefore has the same outputs as the PyTorch network. A network of
the variant "published" uses the channels of pixel i as row i, as the lambda layer was intended.
"""

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.layers.batch_norm import SettledBatchNorm
from linearized.layers.lambda_layer import LambdaLayer

SETTLED = 1000  # count of batches that imported normalisations start from, at which their momentum is the full one
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def take_up(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Assign the weights of a PyTorch network to `model`, a RESNET or LAMBDA_RESNET of the same depth and width.

    Args:
        model: Keras model that receives the weights.
        arrays: State dictionary of the PyTorch network as NumPy arrays; a prefix "module." and batch counters are
            ignored.

    Raises:
        UserError: For an array that is missing, has another shape, is not finite or has no counterpart in the model,
            and if lambda layers of the same image size have different position embeddings. The model is then unchanged.
    """
    left = {name.removeprefix("module."): np.asarray(value) for name, value in arrays.items()}
    left = {name: value for name, value in left.items() if not name.endswith("num_batches_tracked")}
    assigned: list[tuple[Any, np.ndarray]] = []

    def take(variable: Any, name: str, change=lambda value: value) -> None:
        if name not in left:
            raise UserError(f"The weights have no array {name!r}, which {variable.path} needs. "
                            f"Received: {len(arrays)} arrays.")  # fmt: skip
        value = left.pop(name)
        try:
            value = change(value)
        except ValueError:
            value = np.zeros(0)
        if value.shape != tuple(variable.shape) or not np.isfinite(value).all():
            raise UserError(f"{name!r} must be finite and fit {variable.path} of shape {tuple(variable.shape)}. "
                            f"Received: an array that gives shape {value.shape}.")  # fmt: skip
        assigned.append((variable, value))

    for layer in model.layers:
        place = published_name(layer.name)
        if isinstance(layer, keras.layers.Conv2D):
            take(layer.kernel, _found(left, place, "weight"), lambda value: np.transpose(value, (2, 3, 1, 0)))
        elif isinstance(layer, SettledBatchNorm):
            _norm(take, layer, left, place)
        elif isinstance(layer, keras.layers.Dense):
            take(layer.kernel, "fc.weight", np.transpose)
            take(layer.bias, "fc.bias")
        elif isinstance(layer, LambdaLayer):
            _lambda(take, layer, left, place, model)
    _embeddings(model, left, assigned)
    if left:
        raise UserError(f"{len(left)} arrays have no counterpart in {model.name}, such as {min(left)!r}. Build the "
                        "model with the same depth, width and variant.")  # fmt: skip
    for variable, value in assigned:
        variable.assign(value)
    for variable in model.variables:
        if variable.name == "moving_count":
            variable.assign(SETTLED)


def published_name(name: str) -> str:
    """Return the PyTorch name of a Keras layer, or the name unchanged if its form is not known.

    torchvision and joigalcar3/LambdaNetworks name the layers of a shortcut differently: "layer1.0.downsample.0" and
    "layer1.0.downsample_residual.0". The returned name then contains "*": "layer1.0.downsample*.0".

    Args:
        name: Name of the Keras layer, such as "stage_1_1_conv_2".
    """
    fixed = {"stem": "conv1", "stem_norm": "bn1", "readout": "fc"}
    found = re.fullmatch(r"stage_(\d)_(\d+)_(conv|mix|norm|short)_?(\d|norm)?", name)
    if found is None:
        return fixed.get(name, name)
    stage, block, kind, number = found.groups()
    start = f"layer{stage}.{int(block) - 1}."
    if kind == "short":
        return rf"{start}downsample*.{1 if number == 'norm' else 0}"
    return f"{start}{'bn' if kind == 'norm' else 'conv'}{number}"


def _found(left: Mapping[str, np.ndarray], place: str, what: str) -> str:
    """Return the full name of one array of a layer, such as "layer1.0.downsample.0.weight".

    A "*" in the name of the layer is replaced by "" or "_residual", whichever exists.

    Args:
        left: Arrays of the PyTorch network by name.
        place: PyTorch name of the layer that `published_name` returned.
        what: Last part of the array's name, such as "weight".
    """
    names = [place.replace("*", tail) for tail in ("", "_residual")]
    return next((f"{name}.{what}" for name in names if f"{name}.{what}" in left), f"{names[0]}.{what}")


def _norm(take, layer: SettledBatchNorm, left: Mapping[str, np.ndarray], place: str) -> None:
    for ours, theirs in NORM.items():
        take(getattr(layer, ours), _found(left, place, theirs))


def _lambda(take, layer: LambdaLayer, left: Mapping[str, np.ndarray], place: str, model: keras.Model) -> None:
    if layer.norm != "published" or layer.intra_depth != 1 or layer.scope:
        raise UserError(f"{model.name} must be built with --lambda_variant=published or unpermuted, "
                        "intra-depth 1 and no scope.")  # fmt: skip
    depth, heads = layer.keys, layer.heads
    take(layer.to_queries, f"{place}.toqueries.weight",
         lambda value: value.reshape(depth, heads, -1).transpose(2, 1, 0).reshape(-1, heads * depth))  # fmt: skip
    take(layer.to_keys, f"{place}.tokeys.weight", np.transpose)
    take(layer.to_values, f"{place}.tovalues.weight", np.transpose)
    _norm(take, layer.query_norm, left, f"{place}.bn_queries")
    _norm(take, layer.value_norm, left, f"{place}.bn_values")


def _embeddings(model: keras.Model, left: dict[str, np.ndarray], assigned: list[tuple[Any, np.ndarray]]) -> None:
    """Pair the position embeddings E of all lambda layers with the weights of the model that receive them.

    Lambda layers of one image size share one `PositionEmbedding` in the model.

    Args:
        model: Keras model that receives the weights.
        left: Arrays of the PyTorch network that are not assigned yet; those found here are removed.
        assigned: List to which pairs of weight and value are appended.

    Raises:
        UserError: For an array E that is missing, has another shape or is not finite, and if the arrays of layers with
            a shared `PositionEmbedding` differ.
    """
    values: dict[str, np.ndarray] = {}
    for layer in model.layers:
        if not isinstance(layer, LambdaLayer):
            continue
        height, width = layer.input[0].shape[1:3]
        shared = model.get_layer(f"embedding_{height}x{width}x{layer.strides}")
        name = f"{published_name(layer.name)}.E"
        value = left.pop(name, np.zeros(0))[..., None]
        if value.shape != tuple(shared.embedding.shape) or not np.isfinite(value).all():
            raise UserError(f"{name!r} must be finite and of shape {tuple(shared.embedding.shape[:3])}. "
                            f"Received: shape {value.shape[:-1]}.")  # fmt: skip
        if shared.name not in values:
            values[shared.name] = value
            assigned.append((shared.embedding, value))
        elif not np.array_equal(values[shared.name], value):
            raise UserError(f"Layers of one image size share one E. Received: {name!r} differs from the one before.")
