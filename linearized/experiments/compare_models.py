"""The entries of `linearized compare --models=`: networks, kernels and the linear fit, and the settings of their runs.

Networks are compared at a budget that ends: Adam with a cosine to 0, `BUDGET` epochs, two ridges of their grid. That is
not the published training, which `linearized train` has; every flag that is given replaces it.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from linearized.base.errors import UserError, shown
from linearized.base.weights import SEED
from linearized.experiments import train
from linearized.experiments.krr import KernelFitSettings
from linearized.settings.data_settings import LevelsSettings, PreprocessedRows
from linearized.settings.flags import read_flags
from linearized.settings.run_settings import RunSettings

KERNEL, LINEAR_FIT = "krr:", "linear"
VALIDATION = 0.2  # of the train rows, the same for all models, by which each chooses its ridge
BUDGET = {
    "max_cg_iters": 60, "solver": "adam", "schedule": "cosine", "learning_rate": 3e-3, "max_batch_size": 64,
    "reg_index": "0,9",
}  # fmt: skip

_SHARED = {field.name for kind in (LevelsSettings, PreprocessedRows, RunSettings) for field in dataclasses.fields(kind)}
Run = train.TrainSettings | KernelFitSettings


def settings_of(label: str, given: Mapping[str, Any]) -> Run | None:
    """Return the settings of one entry; None for the linear fit.

    Args:
        label: A name of --model or `krr:` and a name of --kernel, each with `:flag=value` of its own, or `linear`.
        given: Flags for all; those that an entry does not read are left out.

    Raises `UserError` for an entry that cannot be read, and for settings that do not go together.
    """
    if label == LINEAR_FIT:
        return None
    kernel = label.startswith(KERNEL)
    kind = KernelFitSettings if kernel else train.TrainSettings
    name, *own = label.removeprefix(KERNEL).split(":")
    flags, _ = read_flags(kind, [f"--{piece}" for piece in own])
    flags = ({**_kernel(name), **flags}) if kernel else {"model": name, **flags}
    if kernel:  # flags such as --num_units have other meanings there: they stand after the kernel's name
        given = {flag: value for flag, value in given.items() if flag in _SHARED}
    draft = kind.draft(**{**given, **flags})
    if not kernel and not draft.uses_least_squares():
        given = {**BUDGET, **given}
        draft = kind.draft(**{**given, **flags})
    made = kind(**{**{flag: value for flag, value in given.items() if draft.reads(flag)}, **flags})
    made.level()  # one, for all alike
    return made


def takes(settings: Run | None, flag: str) -> bool:
    """Return whether an entry is given, and reads, a flag for all; the linear fit, None, has the rows of the others."""
    if settings is None:
        return False
    return (flag in _SHARED or not isinstance(settings, KernelFitSettings)) and settings.reads(flag)


def seeded(settings: Run, seed: int) -> Run:
    """Return settings whose division of the rows, initial weights and fixed random weights are those of a seed."""
    changed = {"seed": settings.seed + seed, "weight_seed": getattr(settings, "weight_seed", SEED) + seed}
    return dataclasses.replace(settings, **{name: value for name, value in changed.items() if settings.reads(name)})


def _kernel(name: str) -> dict[str, Any]:
    """Return the flags of a kernel's name: NTK, or polynomial(3) for degree 3."""
    found = re.fullmatch(r"(\w+)(?:\((\d+)\))?", name)
    if found is None or (found[2] and found[1].lower() not in ("poly", "polynomial")):
        raise UserError(f"krr: takes a kernel such as krr:NTK, krr:RF or krr:polynomial(3). Received: {shown(name)}.")
    return {"kernel": found[1], **({"degree": int(found[2])} if found[2] else {})}
