"""Fits of models that are linear in their parameters, by a least-squares solver that serves all ridges at once."""

import functools
import time
from pathlib import Path

import numpy as np
from absl import logging

from linearized.base.machine_memory import working_bytes
from linearized.data.dataset import Dataset
from linearized.experiments.fit_results import RidgeFit
from linearized.experiments.step_progress import progress_line
from linearized.models import module_of
from linearized.problems.costs import choose
from linearized.solvers import SOLVERS
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.linear.solution import ACCURACY, ATOL, RTOL


def fit(config, dataset: Dataset, ridges: dict[int, float], folder: Path) -> tuple[list[RidgeFit], dict]:
    """Solve the least-squares problem of a model at every ridge, and predict on every split.

    Args:
        config: `TrainSettings` of the run.
        dataset: Rows and labels.
        ridges: Index of the ridge in the grid -> λ.
        folder: Folder of the solver's checkpoints.

    Returns:
        The fits in the order of the ridges, with the diagnostics of `linearized.solvers.linear.solution.Solution`, and
        the entries of the record about the solver.
    """
    start = time.monotonic()
    problem = module_of(config).problem(config, dataset, working_bytes(config.memory))
    n, settings = len(dataset.train), _tolerance(config)
    grid, key = n * np.array(list(ridges.values())), f"{dataset.fingerprint}-{config.key()}"
    chosen = choose(
        problem, grid, config.solver, rtol=settings.get("rtol", RTOL), max_iterations=config.max_cg_iters,
        saved=Checkpoint(folder, key=key),
    )  # fmt: skip
    name, fresh = chosen.solver, {split: rows for split, rows in dataset.splits().items() if split != "train"}
    by_kernel = problem.predicts_by_kernel(sum(map(len, fresh.values())), len(grid) * problem.columns)
    logging.info("%d ridges by %s (%s); features %s", len(ridges), name, chosen.reason, chosen.mode)
    with progress_line(f"{config.model} by {name}", config.max_cg_iters) as report:

        def show(iteration: int, _total: int, residuals: np.ndarray, left: int) -> None:
            report(iteration, f"{left} ridges left, worst residual {np.max(residuals):.1e}")

        solutions = SOLVERS.load(name).solve(
            problem, grid, max_iterations=config.max_cg_iters, progress=show, checkpoint=folder, key=key,
            interval=config.checkpoint_seconds, values=not by_kernel, **settings,
        )  # fmt: skip
    solved = time.monotonic() - start
    if all(solution.value is None for solution in solutions):  # v is computed for the chosen ridge alone
        predict, stacked = problem.predict_dual, np.concatenate([solution.dual for solution in solutions], axis=1)
    else:
        predict, stacked = problem.predict, np.concatenate([solution.value for solution in solutions], axis=1)
    predicted = {split: np.split(predict(rows.x, stacked), len(solutions), axis=1) for split, rows in fresh.items()}
    fits = []
    for place, (index, solution) in enumerate(zip(ridges, solutions, strict=True)):
        outputs = {"train": problem.outputs_of(solution.predictions)}
        outputs |= {split: values[place].reshape(len(values[place]), -1) for split, values in predicted.items()}
        evidence = {
            "converged": bool(solution.converged), "iterations": int(solution.iterations),
            "residual": float(solution.residual), "diverged": False, "message": solution.message,
            "prediction_error": solution.prediction_error,
        }  # fmt: skip
        fitted = solution.value
        if fitted is None:
            fitted = functools.partial(problem.adjoint64, solution.dual)
        fits.append(
            RidgeFit(index, ridges[index], outputs, fitted, evidence, solution.history, solved / len(solutions))
        )
    about = {
        "name": name, "reason": chosen.reason, "features": problem.mode,
        "estimates": [estimate._asdict() for estimate in chosen.estimates], "step": "iteration",
        "history": "residual of the normal equations, relative", **settings,
    }  # fmt: skip
    return fits, about


def _tolerance(config) -> dict[str, float]:
    """Return the tolerance of the solver as keyword arguments.

    With `--solver=auto` and no given tolerance, this is `accuracy`, a bound of the error of the train predictions.
    Otherwise these are `rtol` and `atol` for the residual: the given values or the defaults of the solvers.

    Args:
        config: `TrainSettings` of the run.
    """
    if config.solver == "auto" and config.cg_rtol is None and config.cg_atol is None:
        return {"accuracy": ACCURACY}
    return {
        "rtol": RTOL if config.cg_rtol is None else config.cg_rtol,
        "atol": ATOL if config.cg_atol is None else config.cg_atol,
    }
