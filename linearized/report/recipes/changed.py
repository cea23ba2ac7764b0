"""Changes of a figure's recipe by flags: another dataset, other values of the horizontal axis, seeds and sizes."""

import dataclasses
import re
from collections.abc import Mapping

from linearized.base.errors import UserError
from linearized.base.lists import listed_numbers
from linearized.data import DATASETS
from linearized.report.recipes.figure_recipe import SHAPES, FigureRecipe

REPLACEMENTS = tuple(name for name in SHAPES if name != "SPHERE")  # datasets that a figure of images can be made on
SHARED = ("num_train", "num_test", "validation", "noise_ind")  # flags of all runs
MOST = 2**31


def changed(recipe: FigureRecipe, scale: str, changes: Mapping[str, int | str]) -> FigureRecipe:
    """Return a copy of a recipe with other axis values, seeds, numbers of rows or another noise level at one scale.

    A change of the dataset is only checked: the recipe does not store it, and it is passed to `runs` later.

    Args:
        recipe: The recipe.
        scale: Name of the scale, "laptop", "workstation" or "paper".
        changes: New values by name. `dataset` (of the runs) is required. The others are optional: `values` (of the
            horizontal axis, comma-separated whole numbers), `seeds` (their number), num_train, num_test, validation and
            noise_ind.

    Raises:
        UserError: For a change that the figure cannot have, and for values that the dataset does not have.
    """
    dataset = str(changes["dataset"])
    if dataset not in (recipe.dataset, recipe.stand_in) and (
        recipe.dataset not in REPLACEMENTS or _kept(recipe, scale, "dataset")
    ):
        raise UserError(f"This figure is of {recipe.dataset} alone: leave out --dataset. Received: {dataset}.")
    for name in SHARED:
        if name in changes and name == recipe.axis:
            raise UserError(f"--{name} is the axis of this figure: give --values. Received: --{name}={changes[name]}.")
        if name in changes and (kept := _kept(recipe, scale, name)):
            raise UserError(f"--{name} changes nothing: {kept} has its own. Received: {changes[name]}.")
    size = recipe.scales[scale]
    values = _whole(str(changes["values"])) if "values" in changes else size.values
    seeds = tuple(range(int(changes["seeds"]))) if "seeds" in changes else size.seeds
    shared = {**size.shared, **{name: changes[name] for name in SHARED if name in changes}}
    for level in values if recipe.axis == "noise_ind" else (shared.get("noise_ind", 0),):
        DATASETS.load(dataset).level(level)
    if recipe.axis != "noise_ind" and min(values) < 1:
        raise UserError(f"--values are values of --{recipe.axis}, at least 1. Received: {changes['values']}.")
    rows = SHAPES[dataset][0] if dataset in SHAPES else shared.get("synth_n", MOST)
    for name, wanted in (("num_train", shared.get("num_train", 0)), ("values", max(values))):
        if (name in changes and wanted > rows) and (name == "num_train" or recipe.axis == "num_train"):
            raise UserError(f"{dataset} has {rows} train rows. Received: --{name}={changes[name]}.")
    new = dataclasses.replace(size, values=values, seeds=seeds, shared=shared)
    return dataclasses.replace(recipe, scales={**recipe.scales, scale: new})


def suffix(changes: Mapping[str, int | str]) -> str:
    """Return the end of the file name of a picture with changed data, such as "-dataset_CIFAR10-values_0_5".

    Args:
        changes: New values by name, such as `dataset` and `values`, as for `changed`.
    """
    return "".join(f"-{name}_{re.sub(r'[^0-9A-Za-z.]+', '_', str(value))}" for name, value in changes.items())


def _kept(recipe: FigureRecipe, scale: str, name: str) -> str:
    """Return the label of the first curve that has a value of its own for a flag, or "" if there is none.

    A change of this flag for all curves would have no effect on that curve.

    Args:
        recipe: The recipe.
        scale: Name of the scale.
        name: Name of the flag.
    """
    return next((curve.label for curve in recipe.curves if name in {**curve.flags, **curve.sizes.get(scale, {})}), "")


def _whole(text: str) -> tuple[int, ...]:
    """Return the distinct whole numbers of the text of --values, in increasing order.

    Raises:
        UserError: If the text is not a list of whole numbers.
    """
    numbers = listed_numbers(text, "values", least=0.0, most=float(MOST))
    if any(number != int(number) for number in numbers):
        raise UserError(f"--values takes whole numbers such as 0,5,10. Received: {text[:60]}.")
    return tuple(sorted({int(number) for number in numbers}))
