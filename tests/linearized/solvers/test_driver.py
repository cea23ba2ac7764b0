"""The one driver of the linear solvers: arguments, checkpoints and progress."""

import inspect

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.problems import GramProblem
from linearized.solvers import GRAM_SOLVERS, LEAST_SQUARES, SOLVERS
from linearized.solvers.linear.driver import LinearRun, linear_solver

MODULES = list(dict.fromkeys([*map(GRAM_SOLVERS.load, GRAM_SOLVERS), *map(SOLVERS.load, LEAST_SQUARES)]))


@pytest.mark.parametrize(
    "module", sorted(MODULES, key=lambda module: module.__name__), ids=lambda module: module.__name__
)
def test_every_linear_solver_takes_the_arguments_of_the_driver(module):
    signature = inspect.signature(module.solve)
    named = [name for name, one in signature.parameters.items() if one.kind is one.KEYWORD_ONLY]
    also = ["accuracy", "values"] if module in map(SOLVERS.load, LEAST_SQUARES) else []
    assert named == ["rtol", "atol", "max_iterations", "progress", "checkpoint", "key", "interval", *also]
    source = inspect.getsource(module)
    assert (
        "import time" not in source and "max_iterations: int = " not in source
    )  # the driver owns the clock and the defaults
    assert module.solve.__doc__ and module.solve.__module__ == module.__name__


def test_settings_reach_the_algorithm_checked(tmp_path):
    seen = []

    @linear_solver(interval=5.0)
    def solve(problem, ridges, run):
        """Record what arrives."""
        seen.append((ridges, run))
        run.report(1, 2, ridges, 3)
        run.checkpoint(part=1).save("state", {"x": ridges})
        return []

    problem, news = GramProblem(np.eye(3), np.ones((3, 1))), []
    solve(problem, [2.0], rtol=0.5, progress=lambda *values: news.append(values), checkpoint=tmp_path, key="k")
    ridges, run = seen[0]
    assert ridges.tolist() == [2.0] and (run.rtol, run.interval, run.key) == (0.5, 5.0, "k")
    assert news == [(1, 2, ridges, 3)]
    assert run.checkpoint(part=1).load("state")["x"] == 2
    assert run.checkpoint(part=2).load("state") is None
    assert LinearRun(folder=tmp_path).checkpoint().load("state") is None
    with pytest.raises(UserError, match="-1"):
        solve(problem, [-1.0])
    assert len(seen) == 1


def test_a_checkpoint_is_due_after_the_interval(monkeypatch, tmp_path):
    now = [100.0]
    monkeypatch.setattr("linearized.solvers.linear.driver.time.monotonic", lambda: now[0])
    saved = LinearRun(folder=tmp_path, interval=10.0).checkpoint()
    assert not saved.due
    now[0] = 110.0
    assert saved.due
    saved.save("state", {})
    assert not saved.due
