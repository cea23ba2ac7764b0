"""RFM: recursive feature machines as an entry of `--kernel`. Their kernel is learned from the labels.

The learned kernel is k(√M x, √M z) with a metric M. `--base` names the base kernel k, whose settings are read too. The
kernel is not known before the fit, so no Gram matrix can be computed in advance. `fit_level` fits a machine, and
`learned` returns the kernel of a finished run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.models.row_shapes import row_shape
from linearized.models.saved_model import input_shape
from linearized.settings.feature_machine_settings import bandwidth_factors, further_bases, refuse_without_gradients
from linearized.settings.gram_settings import KERNELS, KernelSettings, RowSettings
from linearized.settings.reads import ALWAYS, When, reads, when

TRACE_GRID = True  # no ridges are published for it, so their grid is in units of the trace of K


def _reads() -> dict[str, When]:
    """Return the settings that a feature machine reads, with the conditions under which it reads them.

    These are its own settings and the settings of the base kernels, the kernels whose modules provide gradients.
    """
    own = reads("base", "iterations", "rfm_search", "rfm_sample", "ansatz_model")
    own |= reads("rfm_bases", when=when(rfm_search=True, bandwidth=0.0))
    own |= reads("rfm_diagonal", "rfm_centred", "rfm_power", when=when(rfm_search=False))
    for base in KERNELS:
        module = None if KERNELS[base] == __name__ else KERNELS.load(base)
        if not hasattr(module, "GRADIENTS"):
            continue
        fixed = module.GRADIENTS.names()  # gradients are known only for these values, so the settings cannot vary
        for name, condition in module.READS.items():
            if condition.names() and condition.names() <= fixed:
                if not condition.holds(KernelSettings.draft(kernel=base)):
                    continue
                condition = ALWAYS
            if name in fixed:
                continue
            here = when(base=base) & condition
            own[name] = own[name] | here if name in own else here
        if "bandwidth" in module.READS:
            here = when(base=base, bandwidth=0.0)
            own["rfm_bandwidths"] = own["rfm_bandwidths"] | here if "rfm_bandwidths" in own else here
    return own


READS = _reads()


def check(settings: KernelSettings) -> None:
    """Raise `UserError` for a base kernel without gradients, and for invalid --rfm_bandwidths and --rfm_bases."""
    refuse_without_gradients(settings.base, settings)
    bandwidth_factors(settings)
    further_bases(settings)


def check_rows(settings: RowSettings, image_shape: tuple[int, int, int] | None) -> None:
    """Raise `UserError` for rows that do not fit a base kernel or the network of `--ansatz_model`.

    No framework is imported for this.

    Args:
        settings: Settings of the kernel and the rows.
        image_shape: (height, width, channels) if the rows are images.
    """
    for name in (settings.base, *further_bases(settings)):
        if of_base := getattr(KERNELS.load(name), "check_rows", None):
            of_base(settings, image_shape)
    if settings.ansatz_model:
        shape = input_shape(settings.ansatz_model)
        row_shape(settings.ansatz_model, shape, settings.dim(), image_shape, settings.data_name())


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> None:
    """Raise `UserError`, because the kernel does not exist without labels.

    The function exists because all modules of kernels have one of this name.
    """
    raise UserError(
        "RFM is learned from labels, and there is no kernel without them. Fit it with linearized krr --kernel=RFM, "
        "linearized.krr(kernel='RFM', data=...) or linearized.kernel_ridge.feature_machine.fit."
    )


def learned(settings: KernelSettings, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], dataset: Any) -> Any:
    """Return the kernel that a finished run has learned, a `StretchedKernel`.

    Args:
        settings: Settings of the kernel.
        record: Record of the run.
        arrays: Arrays of the run, by name.
        dataset: Data set of the run, whose train rows determine parameters of the base kernel.
    """
    from kernel_gen.kernels.stretched import StretchedKernel
    from linearized.kernel_ridge.learned_metric import base_kernel

    machine = record["feature_machine"]
    variant = machine["variants"][machine["steps"][machine["best"]]["variant"]]
    base = base_kernel(settings, dataset.image_shape, variant.get("base", "")).settled(np.asarray(dataset.train.x))
    if hasattr(base, "bandwidth"):
        base.bandwidth = float(arrays["feature_machine/bandwidth"][0])
    return StretchedKernel(base, arrays["feature_machine/metric"])


def fit_level(config: Any, level: int, dataset: Any, work: Path, place: Any) -> Any:
    """Fit a feature machine at one noise level, and return the record and the arrays of the result.

    Args:
        config: `KernelFitSettings` of one noise level.
        level: Noise level.
        dataset: Rows and labels.
        work: Folder of unfinished work.
        place: Object that computes blocks of rows, from `linearized.cluster.tiles.places`.

    Raises:
        UserError: If the fixed kernel, from which all variants start, cannot be fitted.
    """
    from linearized.experiments.feature_machine_run import fitted

    return fitted(config, level, dataset, work, place)
