"""The commands as functions: `linearized.train`, `krr`, `theory`, `compare` and `plot`.

Data are a pair (X, y), four arrays (X, y, X_test, y_test), a `Dataset` (from `linearized.load` or
`linearized.from_arrays`), the name of a data set that `linearized data` lists, a path, or a value of the flag --data.
The rows of a `Dataset` are used without further preprocessing. Unless a data set is given by its name, the default
ridges of kernels and of the models RF and NT are multiples of the scale of the kernel (see
`linearized.experiments.grids`). Flags that contain a list as text, such as ridges="0.1,1", also accept lists
(ridges=[0.1, 1]). Results are stored in the same folders as those of the commands. If an earlier call or a command with
the same settings has stored a result, it is loaded.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from linearized.api.results import KernelResult, TrainResult
from linearized.api.theory_result import TheoryResult
from linearized.base.errors import UserError, shown
from linearized.base.keywords import suggests_keywords
from linearized.data import DATASETS
from linearized.data.dataset import Dataset
from linearized.data.own.memory import keep, register, register_dataset
from linearized.data.preparation import Preparation
from linearized.settings.keywords import from_keywords

Data = str | os.PathLike | tuple[Any, ...] | Dataset


def train(model: str | os.PathLike = "RF", data: Data = "DIGITS", **flags: Any) -> TrainResult:
    """Fit a model over its ridge grid, like the command `linearized train`.

    Args:
        model: Name of the model, as for the flag --model, or the path of a saved Keras model, a .keras file.
        data: Arrays (X, y) or (X, y, X_test, y_test), a `Dataset`, the name of a data set that `linearized data` lists,
            a path, or a value of the flag --data.
        flags: Flags of the command by name, such as num_units=4096.

    Returns:
        The result at every ridge. If a run with the same model, data and flags is stored, its result is loaded and
        nothing is fitted.

    Raises:
        UserError: Under the same conditions as the command, and if several noise levels are given.

    Example:
        >>> import linearized
        >>> result = linearized.train("RF", "DIGITS", num_units=256, num_train=400)
        >>> bool(result.table["test_accuracy"].max() > 0.85)
        True
    """
    from linearized.experiments.train import run
    from linearized.experiments.train_settings import TrainSettings

    given = {"model": model, **data_flags(data), **flags}
    config = from_keywords(TrainSettings, "linearized.train", given, own="model, data and ")
    return TrainResult(config, run(config), given_preparation(data))


def krr(kernel: str | Callable[..., Any] = "NTK", data: Data = "DIGITS", **flags: Any) -> KernelResult:
    """Fit kernel ridge regression over its ridge grid, like the command `linearized krr`.

    Args:
        kernel: Name of the kernel, as for the flag --kernel. Or your own kernel: a function k(x1, x2) of rows (n1, d)
            and (n2, d) that returns (n1, n2), or the text "module:function" that names it. The function must be defined
            at the top level of a module in a .py file.
        data: Arrays (X, y) or (X, y, X_test, y_test), a `Dataset`, the name of a data set that `linearized data` lists,
            a path, or a value of the flag --data.
        flags: Flags of the command by name, such as num_layers=2.

    Returns:
        The result at every ridge. If a run with the same kernel, data and flags is stored, its result is loaded and
        nothing is fitted.

    Raises:
        UserError: Under the same conditions as the command, and if several noise levels are given.

    Example:
        >>> import linearized
        >>> result = linearized.krr("NTK", "DIGITS", num_train=400)
        >>> bool(result.table["test_accuracy"].max() > 0.9)
        True
    """
    from linearized.experiments.krr import run
    from linearized.experiments.krr_settings import KernelFitSettings

    given = {"kernel": kernel, **data_flags(data), **flags}
    config = from_keywords(KernelFitSettings, "linearized.krr", given, own="kernel, data and ")
    config.level()
    return KernelResult(config, run(config)[0], given_preparation(data))


def theory(
    kernel: str | Callable[..., Any] = "NTK", data: Data = "DIGITS", pool: int = 0, **flags: Any
) -> TheoryResult:
    """Predict the error of kernel ridge regression from the kernel's spectrum and measure it, like `linearized theory`.

    Args:
        kernel: Name of the kernel, as for the flag --kernel. Or your own kernel: a function k(x1, x2) of rows (n1, d)
            and (n2, d) that returns (n1, n2), or the text "module:function" that names it. The function must be defined
            at the top level of a module in a .py file.
        data: Arrays (X, y) or (X, y, X_test, y_test), a `Dataset`, the name of a data set that `linearized data` lists,
            a path, or a value of the flag --data.
        pool: Number of train rows from which the spectrum is computed; 0: all.
        flags: Flags of the command by name, such as draws=0 or sizes=[100, 200].

    Returns:
        The spectrum, the predictions and the measurements. If a run with the same kernel, data, pool and flags is
        stored, its result is loaded and nothing is computed.

    Raises:
        UserError: Under the same conditions as the command, and if several noise levels are given.

    Example:
        >>> import linearized
        >>> result = linearized.theory("NTK", "DIGITS", pool=200, draws=0, sizes=[20, 40])
        >>> list(result.best["n"])
        [20, 40]
        >>> bool(result.best["predicted"].is_monotonic_decreasing)
        True
    """
    from linearized.experiments.theory import TheorySettings, run

    given = {"kernel": kernel, "num_train": pool, **data_flags(data), **flags}
    config = from_keywords(TheorySettings, "linearized.theory", given, own="kernel, data, pool and ")
    config.level()
    return TheoryResult(config, run(config)[0])


def compare(
    X: Any, y: Any = None, models: list[str] | str | None = None, seeds: int = 1, **flags: Any
) -> pd.DataFrame:  # fmt: skip
    """Fit several models to the same rows, like the command `linearized compare`, and return a table of the results.

    Runs that are already stored with the same data and flags are loaded, and only the others are made.

    Args:
        X: Inputs, an array or data frame; or, without `y`, a `Dataset`, the name of a data set that `linearized data`
            lists, a path, such as a folder of images, or a value of the flag --data.
        y: Labels or targets, an array or data frame.
        models: Entries of the flag --models, as a list or a comma-separated text; None: the default of the command.
        seeds: Number of runs of each model; the runs differ in their random-number seeds.
        flags: Flags of the command by name.

    Returns:
        One row per model and seed, with metrics at the chosen ridge, the ridge, seconds, memory, parameters, whether
        the model was trained to its end, and the folder of the run. The column `edge` is "smallest" or "largest" if the
        chosen ridge is at that end of the grid, otherwise "". `attrs["title"]` names the data.

    Raises:
        UserError: Under the same conditions as the command.
    """
    from linearized.experiments.compare import CompareSettings, run

    given = {} if models is None else {"models": models}
    given |= {"seeds": seeds, **data_flags(X if y is None else (X, y)), **flags}
    record = run(from_keywords(CompareSettings, "linearized.compare", given, own="X, y, models, seeds and ")).record
    table = pd.DataFrame(record["rows"], columns=[*record["columns"], "edge", "folder"]).rename(
        columns={"label": "model"}
    )
    table.attrs["title"] = record["title"]
    return table


@suggests_keywords
def plot(table: pd.DataFrame) -> Any:
    """Draw the table that `compare` returned: the test metric of each model, and the costs of the models.

    One panel shows the test metric as dots. Seconds, memory, parameters and speed have one panel each, with one bar per
    model. Quantities that were not measured have no panel.

    Args:
        table: Table that `compare` returned, or some of its rows.

    Returns:
        The Matplotlib figure.

    Raises:
        UserError: If `table` is not such a table.
    """
    from linearized.experiments.compare import COLUMNS
    from linearized.report.comparison_plots import comparison_bars

    if not isinstance(table, pd.DataFrame) or "model" not in table or not set(COLUMNS) & set(table) - {"seed"}:
        raise UserError(f"plot takes the table that linearized.compare returned. Received: {shown(table)}.")
    rows = table.rename(columns={"model": "label"}).astype(object).where(table.notna().to_numpy(), None)
    title = table.attrs.get("title", "")
    return comparison_bars({"title": title, "columns": COLUMNS, "rows": rows.to_dict("records")})


def data_flags(data: Data) -> dict[str, str]:
    """Return the command-line flags, by name, that select the given data in a run.

    Arrays and `Dataset` objects are written to a folder from which child processes can read them.

    Args:
        data: Arrays (X, y) or (X, y, X_test, y_test), a `Dataset`, the name of a data set that `linearized data` lists,
            a path, or a value of the flag --data.

    Raises:
        UserError: If `data` is none of these.
    """
    if isinstance(data, Dataset):
        keep(text := register_dataset(data))
        return {"data": text, "task": data.task}
    if isinstance(data, str | os.PathLike):
        text = os.fspath(data)
        published = text if Path(text).exists() else {name.lower(): name for name in DATASETS}.get(text.lower(), text)
        return {"dataset": published} if published in DATASETS else {"data": text}
    if not isinstance(data, tuple) or len(data) not in (2, 4):
        raise UserError("Data are (X, y), (X, y, X_test, y_test), a Dataset, the name of a data set, a path, or a text "
                        f"of --data. Received: {shown(data)}.")  # fmt: skip
    text = register(*data)
    keep(text)
    return {"data": text}


def given_preparation(data: Data) -> Preparation | None:
    """Return the preprocessing that was applied to a `Dataset` before the call; None for other data.

    Predictions need it, because they apply the same preprocessing to new rows.

    Args:
        data: Data in any form that the functions of this module accept.
    """
    return data.preparation if isinstance(data, Dataset) else None
