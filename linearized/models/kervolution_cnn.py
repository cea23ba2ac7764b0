"""KERV_CNN: the Myrtle networks of `cnn` with kervolutions instead of convolutions (CVPR 2019, arXiv 2003.02237).

A kervolution is a convolution whose products x·w of a patch x and a filter w are replaced by a kernel of x and w. Each
kervolution is followed by batch normalisation and a ReLU. The normalisation makes the outputs of different kernels
comparable: without it, the outputs of a Gaussian kernel are in (0, 1), and the outputs of a polynomial kernel of degree
3 are cubes.

Penalty: λ Σ‖filters‖² over the kervolutions; none on the other weights.
"""

from typing import TYPE_CHECKING, Any

from linearized.data.dataset import Dataset
from linearized.models.cnn import GROUPS, LAST_POOLS, check_depth, convolved, one_convolution
from linearized.models.declaration import Declaration
from linearized.settings.model_settings import KERVOLUTION, KervolutionSettings
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras

DECLARED = Declaration(
    reads("num_units", "depth", "seed", "kervolution_kernel", "kervolution_layers", *KERVOLUTION),
    groups=(KervolutionSettings,), units=32, images=True, ridges="convolutional", batches="convolutional",
    hidden_layers=lambda config: config.depth - 1, parameters=one_convolution, multiplications=convolved,
    check=check_depth, complete=lambda config: {"kervolution_kernel": config.kervolution_kernel or "polynomial"},
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled Myrtle network with kervolutions, from flat rows (n, d) to outputs (n, k).

    Args:
        config: Settings num_units (channels of every kervolution), depth (5, 7 or 10, counting the readout), seed, and
            those of `linearized.settings.model_settings.KervolutionSettings`.
        dataset: Dataset that determines the image shape and the number of outputs k.
        ridge: λ of the penalty that the module's docstring states.

    Raises:
        UserError: If the rows are not images, and for settings that the kernel does not have.
    """
    import keras

    from linearized.models.common import batch_norm, image_input, readout
    from linearized.models.kervolutions import kervolution

    inputs, x = image_input(dataset, "KERV_CNN")
    layer = 0
    for group, kervolutions in enumerate(GROUPS[config.depth] + (0,) * LAST_POOLS, start=1):
        for _ in range(kervolutions):
            layer += 1
            kernel = config.kervolution_kernel if layer <= (config.kervolution_layers or layer) else "linear"
            x = kervolution(
                config, kernel, ridge, config.num_units, 3, 1, x.shape[-1], (config.seed, layer), f"kervolution_{layer}"
            )(x)
            x = batch_norm(name=f"norm_{layer}")(x)
            x = keras.layers.ReLU(name=f"relu_{layer}")(x)
        x = keras.layers.AveragePooling2D(2, padding="same", name=f"pool_{group}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, readout(dataset, x.shape[-1], config.seed)(x), name="KERV_CNN")
