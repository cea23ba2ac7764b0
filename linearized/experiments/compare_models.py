"""Entries of `linearized compare --models=`: networks, kernels and the linear fit, and the settings of their runs.

Networks are trained with fewer epochs and ridges than `linearized train` uses by default. `budget` returns these
training flags. A model can declare other values (`Declaration.budget`), and flags of the user replace both.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from linearized.base.errors import UserError, shown
from linearized.base.lists import count_or_share
from linearized.base.own_functions import is_reference
from linearized.base.weights import SEED
from linearized.experiments.grids import grid
from linearized.experiments.krr_settings import KernelFitSettings
from linearized.experiments.needs import (
    refuse_beyond_memory,
    refuse_endless_fit,
    refuse_endless_run,
    refuse_large_fit,
)
from linearized.experiments.train_settings import TrainSettings
from linearized.models import declared
from linearized.settings.choice_settings import ChoiceSettings
from linearized.settings.data_settings import LevelsSettings, PreprocessedRows
from linearized.settings.flags import read_flags
from linearized.settings.run_settings import RunSettings

KERNEL, LINEAR_FIT = "krr:", "linear"
VALIDATION = 0.2  # fraction of the train rows, the same for all models, on which each model chooses its ridge
BUDGET = {"solver": "adam", "schedule": "cosine", "learning_rate": 3e-3}
EPOCHS, BATCH = 60, 64  # epochs and rows per batch for other data sets
MANY_ROWS, MANY_EPOCHS, LARGE_BATCH = 10_000, 30, 256  # for data sets with at least this many train rows
LEAST_STEPS = 1000  # with few rows, the number of epochs is raised until there are this many steps

_SHARED = {
    field.name
    for kind in (LevelsSettings, PreprocessedRows, ChoiceSettings, RunSettings)
    for field in dataclasses.fields(kind)
}
Run = TrainSettings | KernelFitSettings


def settings_of(label: str, given: Mapping[str, Any]) -> Run | None:
    """Return the settings with which one entry of --models is run; None for the entry `linear`, which has no settings.

    Args:
        label: The entry: a name of --model, or `krr:` and a name of --kernel, each with its own `:flag=value`, or
            `linear`.
        given: Flags for all entries, by name; those that an entry does not read are left out.

    Raises:
        UserError: For an entry that cannot be read, and for settings that do not fit together.
    """
    if label == LINEAR_FIT:
        return None
    kernel = label.startswith(KERNEL)
    kind = KernelFitSettings if kernel else TrainSettings
    name, *own = label.removeprefix(KERNEL).split(":")
    if kernel and own and is_reference(f"{name}:{own[0]}"):  # a kernel of the user's own, module:function
        name = f"{name}:{own.pop(0)}"
    flags, _ = read_flags(kind, [f"--{piece}" for piece in own])
    flags = ({**_kernel(name), **flags}) if kernel else {"model": name, **flags}
    if kernel:  # for kernels, flags such as --num_units have other meanings, so they are given after the kernel's name
        given = {flag: value for flag, value in given.items() if flag in _SHARED}
    draft = kind.draft(**{**given, **flags})
    if not kernel and not draft.uses_least_squares():
        given = {**budget(draft), **given}
        draft = kind.draft(**{**given, **flags})
    made = kind(**{**{flag: value for flag, value in given.items() if draft.reads(flag)}, **flags})
    made.level()  # raises unless there is one noise level for all
    return made


def budget(draft: TrainSettings) -> dict[str, Any]:
    """Return the default training flags of a network in a comparison, by name; flags of the user replace them.

    The networks are trained by Adam. The learning rate rises to 0.003 over 5 epochs and then falls to 0 along a cosine.
    There are 60 epochs of batches of 64 rows, or more epochs if these are fewer than 1,000 steps; from 10,000 train
    rows on there are 30 epochs of batches of 256 rows. The ridge is chosen between two ridges of the model's own grid,
    the smallest and the middle one. A model can declare other flags (`Declaration.budget`), which replace these.

    Args:
        draft: Settings of the model, which determine the number of train rows. If this number is only known after the
            files of the data set are read, it counts as at least 10,000.
    """
    own = declared(draft)
    rows = draft.num_train or draft.described().rows[0]
    rows -= count_or_share(draft.validation, rows, "validation") if rows else 0
    many = not rows or rows >= MANY_ROWS
    batch = LARGE_BATCH if many else BATCH
    epochs = MANY_EPOCHS if many else max(EPOCHS, math.ceil(LEAST_STEPS / math.ceil(rows / batch)))
    size = len(grid(own.ridges, draft.described().family, num_layers=draft.num_layers))
    ridges = ",".join(map(str, sorted({0, (size - 1) // 2})))
    return {**BUDGET, "max_cg_iters": epochs, "max_batch_size": batch, "reg_index": ridges, **own.budget}


def takes(settings: Run | None, flag: str) -> bool:
    """Return whether a flag that is given for all entries of --models applies to one entry.

    Args:
        settings: Settings of the entry's run; None for the linear fit, to which no flag applies.
        flag: Name of the flag.
    """
    if settings is None:
        return False
    return (flag in _SHARED or not isinstance(settings, KernelFitSettings)) and settings.reads(flag)


def seeded(settings: Run, seed: int) -> Run:
    """Return settings for one more repetition of a run: a copy with `seed` added to its random-number seeds.

    The seeds are `seed` (split of the rows, initial weights) and `weight_seed` (fixed random weights), if they are
    read.
    """
    changed = {"seed": settings.seed + seed, "weight_seed": getattr(settings, "weight_seed", SEED) + seed}
    return dataclasses.replace(settings, **{name: value for name, value in changed.items() if settings.reads(name)})


def refuse_needs(settings: Run) -> None:
    """Raise `UserError` if a run needs more memory than this machine has, or would take more than a month."""
    if isinstance(settings, KernelFitSettings):
        refuse_large_fit(settings)
        refuse_endless_fit(settings, settings.level(), settings.row_counts())
    else:
        refuse_beyond_memory(settings)
        refuse_endless_run(settings, settings.row_counts()["train"])


def _kernel(name: str) -> dict[str, Any]:
    """Return the flags for the kernel of an entry `krr:name`.

    Args:
        name: Name of a kernel such as "NTK", "polynomial(3)" for the polynomial kernel of degree 3, or
            "module:function" for a kernel of the user's own.

    Raises:
        UserError: For another text.
    """
    if is_reference(name):
        return {"kernel": name}
    found = re.fullmatch(r"(\w+)(?:\((\d+)\))?", name)
    if found is None or (found[2] and found[1].lower() not in ("poly", "polynomial")):
        raise UserError("krr: takes a kernel such as krr:NTK, krr:polynomial(3) or krr:module:function. "
                        f"Received: {shown(name)}.")  # fmt: skip
    return {"kernel": found[1], **({"degree": int(found[2])} if found[2] else {})}
