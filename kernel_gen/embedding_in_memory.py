"""Features of arrays in memory, computed without files.

The function `embedding` is the public `kernel_gen.embedding`.
"""

import dataclasses
import math
from typing import Any

from kernel_gen.gram_in_memory import checked_shape, in_scale
from linearized.base.errors import UserError
from linearized.settings.embedding_settings import FEATURES, EmbeddedRows
from linearized.settings.gram_settings import KernelSettings, RowSettings
from linearized.settings.memory import refuse_large_embedding


def embedding(features: str, inputs: int | tuple[int, int, int], *, scale: str = "stax", **settings: Any):
    """Return a function φ that maps rows (n, d) to features (n, m), with φ(x)·φ(z) ≈ the kernel k(x, z).

        phi = kernel_gen.embedding("NTK", 784, activation="gelu", embedding_dim=4096)
        train, test = phi(x_train), phi(x_test)

    Args:
        features: A name in `linearized.settings.embedding_settings.FEATURES`: NTK, RF, CNTK or POLYNOMIAL.
        inputs: Number of columns d, or (height, width, channels) of the images that are flattened to rows.
        scale: "stax" divides rows by √d and images by √channels; "input" leaves them unchanged; "published" (the
            default of the command line) is "input" for the NTK of one hidden layer of ReLUs and for the RF kernel,
            otherwise "stax".
        settings: Settings of the kernel and of the embedding, such as activation (a name, a function or an
            `Activation`), num_layers, embedding_dim (the largest number m of features), method and embedding_seed; see
            `EmbeddedRows` in `linearized.settings.embedding_settings`. With method="landmarks", φ depends on landmarks,
            which are train rows; draw them with `phi = phi.on(x_train)` before calling φ.

    Returns: φ, whose attributes are `dim` (the number m of features), `dtype` and `scale`. It raises `UserError` for
    rows of a different length and for numbers that are not finite.

    Raises `UserError` for unknown settings and settings that do not fit the kernel or the inputs.

    Example:
        >>> import numpy as np
        >>> import kernel_gen
        >>> x = np.random.default_rng(0).normal(size=(20, 8))
        >>> features = kernel_gen.embedding("NTK", 8, embedding_dim=4096)(x)
        >>> k = kernel_gen.gram("NTK", x)
        >>> bool(np.linalg.norm(features @ features.T - k) < 0.1 * np.linalg.norm(k))
        True
    """
    shape = None if isinstance(inputs, int) else checked_shape(inputs)
    dim = inputs if shape is None else math.prod(shape)
    if dim < 1:
        raise UserError(f"`inputs` is a number of columns of at least 1, or an image shape. Received: {inputs!r}.")
    rows = {field.name for field in dataclasses.fields(RowSettings)}
    known = {field.name for field in dataclasses.fields(EmbeddedRows)} - rows
    known |= {field.name for field in dataclasses.fields(KernelSettings)}
    if unknown := sorted(set(settings) - known):
        raise UserError(f"Unknown settings: {', '.join(unknown)}. There are: {', '.join(sorted(known))}.")
    own = {name: settings.pop(name) for name in ("activation",) if not isinstance(settings.get(name, ""), str)}
    made = in_scale(EmbeddedRows, {**settings, "features": FEATURES.canonical(features), "scale": scale})
    for name, value in own.items():
        KernelSettings.from_dict({"kernel": made.kernel, name: value})  # raises if the kernel does not accept the value
        object.__setattr__(made, name, value)  # settings of datasets, which are written to files, accept names only
    refuse_large_embedding(made, shape, dim, 0)
    return FEATURES.load(made.features).build(made, shape, dim)
