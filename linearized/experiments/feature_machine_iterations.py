"""The iterations of a recursive feature machine (RFM), stored so that a killed run can be resumed.

A recursive feature machine learns a metric M of the kernel k(√M x, √M z). Each iteration fits kernel ridge regression
with the kernel in the present metric, and learns the next metric from the gradients of the fitted function. After each
iteration, the scores at every ridge and the next metric are stored in the folder of unfinished work. The solution of
the best iteration is kept in memory, and recomputed if the process that computed it was killed.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from kernel_gen.kernels.stretched import StretchedKernel
from linearized.base.errors import Interrupted, UserError
from linearized.cluster.tiles import Here, OnWorkers
from linearized.data.dataset import Dataset
from linearized.experiments import select
from linearized.experiments.feature_machine_solve import MetricSolver, Solved
from linearized.experiments.feature_machine_steps import about_metric, in_words, rank_of, short_entry
from linearized.experiments.grids import listed_ridges
from linearized.experiments.kernel_record import entries_of
from linearized.kernel_ridge.learned_metric import (
    Variant,
    at_metric,
    base_kernel,
    followed_ridge,
    metric_size,
    next_metric,
    warn_collapsed,
)  # fmt: skip
from linearized.models.row_shapes import first_weights
from linearized.settings.feature_machine_settings import further_bases, shared_start
from linearized.settings.memory import refuse_beyond_machine
from linearized.solvers.checkpoint import Checkpoint

CARRIED = 2  # number of best variants that --rfm_search tries with each further base kernel
MATRICES = 3  # number of d x d float64 matrices in memory at once: the metric, its root and the outer products


class Machine:
    """Recursive feature machine of one run, which is fitted with one or several variants of its options.

    A variant is a combination of options: base kernel, diagonal or full metric, centred or uncentred gradients, matrix
    power and bandwidth factor, see `linearized.kernel_ridge.learned_metric.Variant`. Each variant has iterations of its
    own. Iteration 0 is the fit of the fixed kernel, whose metric is the identity; iteration i uses the metric that is
    learned from iteration i - 1.

    Args:
        config: `KernelFitSettings` of one noise level.
        dataset: Rows and labels.
        work: Folder of unfinished work.
        variants: Variants to start with, whose indices count from 0; `carried` appends others.
        place: Object that computes blocks of rows, from `linearized.cluster.tiles.places`.
    """

    def __init__(
        self, config: Any, dataset: Dataset, work: Path, variants: list[Variant], place: Here | OnWorkers
    ):  # fmt: skip
        self.config, self.dataset = config, dataset
        self.variants = list(variants)
        self.train = np.asarray(dataset.train.x)
        self.bases = self._bases(config)
        self.exact = self._bases(dataclasses.replace(config, dtype="float64")) if config.centres else None
        size = metric_size(self.bases[""], self.train)
        self.weights = _weights(config.ansatz_model, size) if config.ansatz_model else None
        if config.rfm_sample > len(self.train):
            raise UserError(f"There are {len(self.train)} train rows. Received: --rfm_sample={config.rfm_sample}.")
        dim = max(metric_size(base, self.train) for base in self.bases.values())
        if not all(variant.diagonal for variant in self.variants):
            refuse_beyond_machine(
                MATRICES * 8 * dim**2, f"RFM with a full metric of {dim:,} columns", "Take --rfm_diagonal."
            )
        self.solver = MetricSolver(config, dataset, work, place)
        self.files = Checkpoint(work, key=config.key(), fingerprint=dataset.fingerprint)
        given = listed_ridges(config.ridges) if config.ridges else None
        self.ridges = dict.fromkeys(self.bases, given)  # for each base kernel; None until it is known
        self.best: tuple[tuple[float, ...], int, int] | None = None  # rank, variant and iteration of the best solution
        self.held: tuple[int, int, Solved] | None = None  # the best solution, if this process computed it

    def _bases(self, config: Any) -> dict[str, Any]:
        """Return the base kernels by name; "" is the base kernel of the settings, further ones are those of a search.

        Args:
            config: Settings of the run, in which the data type of the kernel may have been replaced.
        """
        return {base: base_kernel(config, self.dataset.image_shape, base).settled(self.train)
                for base in ("", *further_bases(config))}  # fmt: skip

    def carried(self, steps: list[dict[str, Any]]) -> range:
        """Append copies of the two best variants with each further base kernel, and return the indices of the copies.

        Only a search (--rfm_search) has further base kernels; otherwise nothing is added.

        Args:
            steps: Records of all iterations so far, whose variants use the base kernel of the settings.
        """
        ranks: dict[int, tuple[float, ...]] = {}
        for step in steps:
            if step["iteration"]:
                number, rank = step["variant"], rank_of(step, self.config.choose_by)
                ranks[number] = min(rank, ranks.get(number, rank))
        best, own = sorted(ranks, key=ranks.__getitem__)[:CARRIED], len(self.variants)
        self.variants += [dataclasses.replace(self.variants[number], base=base)
                          for base in self.bases if base for number in best]  # fmt: skip
        return range(own, len(self.variants))

    def iterations(self, number: int) -> list[dict[str, Any]]:
        """Return the records of the iterations of a variant, each computed or loaded from the unfinished work.

        Iteration 0, the fixed kernel, is left out if it equals iteration 0 of an earlier variant. The list ends early
        if no further metric can be learned, or if a later iteration cannot be fitted. Both are logged.

        Args:
            number: Index of the variant, from 0.

        Raises:
            UserError: If iteration 0 cannot be fitted.
        """
        variant, steps = self.variants[number], []
        first = self._start(number)
        for index in range(self.config.iterations + 1):
            if index == 0 and first != number:
                if self.files.load(f"metric_{number:03d}_0001") is None and self._after(number, 0) is None:
                    break
                continue
            kept = self.files.load(f"step_{number:03d}_{index:04d}")
            if kept is None:
                try:
                    step = self._step(number, index)
                except Interrupted:  # nothing is wrong with this iteration
                    raise
                except UserError as error:
                    if index == 0:
                        raise
                    logging.warning(
                        "%s: iteration %d cannot be fitted, earlier ones are kept: %s", variant, index, error
                    )
                    break
            else:
                step = json.loads(str(kept["step"]))
                self.ridges[variant.base] = np.array([entry["ridge"] for entry in step["ridges"]])
                self._keep_best(step, None)
            last = step.pop("last")
            steps.append(step)
            if last:
                break
        return steps

    def solution(self, number: int, index: int) -> Solved:
        """Return the solution of one iteration of a variant.

        The best solution is in memory if this process computed it. All others are recomputed.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration; 0 is the fixed kernel.
        """
        if self.held is not None and self.held[:2] == (number, index):
            return self.held[2]
        with self._solved(number, index, self._metric(number, index)) as found:
            return found

    def _step(self, number: int, index: int) -> dict[str, Any]:
        """Carry out one iteration: solve it, learn the next metric, store record and metric, and return the record.

        Stored metrics that are no longer needed are removed.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration, 0 for the fixed kernel.
        """
        start, variant = time.monotonic(), self.variants[number]
        with self._solved(number, index, self._metric(number, index)) as found:
            step = self._stored(number, index, found, start)
        kept = {(number, index + 1), self.best[1:]}
        self.files.forget(f"metric_{number:03d}_*", keep=lambda name: tuple(map(int, name.split("_")[1:])) in kept)
        logging.info("%s %s: iteration %d of %d, %s", self.config.label(), variant, index, self.config.iterations,
                     in_words(step))  # fmt: skip
        return step

    def _stored(self, number: int, index: int, found: Solved, start: float) -> dict[str, Any]:
        """Return the record of a solved iteration; store it on disk, and learn and store the next metric.

        No metric is learned after the last iteration.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration, 0 for the fixed kernel.
            found: Solution of the iteration.
            start: Time of `time.monotonic` at which the iteration began.
        """
        entries = entries_of(self.dataset, found.path, found.outputs)
        step = {
            "variant": number, "iteration": index, **about_metric(found, self.dataset.directions, self.weights),
            "position": select.choose(entries, metric=self.config.choose_by).position,
            "ridges": [short_entry(entry) for entry in entries],
        }  # fmt: skip
        following = None
        if index < self.config.iterations:
            following = self._learned(number, index, found, entries)
        step |= {"last": following is None, "seconds": round(time.monotonic() - start, 3)}
        self._keep_best(step, found)
        function = {}
        if index == 0:  # other variants learn their first metric from it
            function = {"alpha": found.path.alpha[self._ridge(found, entries)]}
            function |= {} if found.centres is None else {"centres": found.centres.rows}
        self.files.save(f"step_{number:03d}_{index:04d}", {"step": np.array(json.dumps(step)), **function})
        return step

    def _learned(
        self, number: int, index: int, found: Solved, entries: list[dict[str, Any]]
    ) -> np.ndarray | None:  # fmt: skip
        """Learn the next metric from the solution of an iteration, store it and return it.

        Return None if all gradients are 0 or some are not finite.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration, 0 for the fixed kernel.
            found: Solution of the iteration. Its coefficients at one ridge are used, see `_ridge`.
            entries: Scores of the solution, one dictionary per ridge.
        """
        centres = None if found.centres is None else found.centres.rows
        return self._followed(number, index, found.kernel, found.path.alpha[self._ridge(found, entries)], centres)

    def _ridge(self, found: Solved, entries: list[dict[str, Any]]) -> int:
        """Return the index of the ridge whose fitted function determines the next metric.

        It is the ridge with the lowest loss, unless this loss is above 0.98 times the loss of a constant function
        (`linearized.kernel_ridge.learned_metric.followed_ridge`).

        Args:
            found: Solution of an iteration.
            entries: Scores of the solution, one dictionary per ridge.
        """
        best, criterion = select.lowest_loss(entries), select.criterion_of(entries)
        targets = self.dataset.targets(self.dataset.train, centred=True)
        relative = entries[best].get(f"{criterion}_normalised_loss")
        if relative is None:  # leave-one-out and generalised cross-validation
            relative = select.loss_of(entries[best], criterion) * len(targets) / np.square(targets).sum()
        return followed_ridge(found.path, targets, best, relative)

    def _followed(
        self, number: int, index: int, kernel: StretchedKernel, alpha: np.ndarray, centres: np.ndarray | None
    ) -> np.ndarray | None:
        """Learn the next metric from the gradients of a fitted function, and store it.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration that fitted the function, 0 for the fixed kernel.
            kernel: Kernel k(√M x, √M z) with the metric M of this iteration.
            alpha: Coefficients (n, k) of the function for n rows and k outputs, at one ridge.
            centres: Indices of these n rows among the train rows, the centres; None: all train rows.

        Returns:
            The metric; None if all gradients are 0 or some are not finite, which is logged.
        """
        variant = self.variants[number]
        metric = next_metric(
            kernel, self.train, alpha, variant, sample=self.config.rfm_sample, centres=centres,
            memory=self.solver.memory,
        )  # fmt: skip
        if metric is None:
            logging.warning("%s: iteration %d has no gradients left: no further metric is learned", variant, index)
            return None
        warn_collapsed(index, metric)
        self.files.save(f"metric_{number:03d}_{index + 1:04d}", {"metric": metric})
        return metric

    def _metric(self, number: int, index: int) -> np.ndarray:
        """Return the metric M of an iteration of a variant, which is fitted with the kernel k(√M x, √M z).

        M is the identity for iteration 0. For later iterations it is loaded from the unfinished work if it is stored
        there, and otherwise learned again from the previous iteration.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration, 0 for the fixed kernel.

        Raises:
            UserError: If all gradients of the previous iteration are 0 or some are not finite.
        """
        if index == 0:
            variant = self.variants[number]
            return variant.start(metric_size(self.bases[variant.base], self.train))
        kept = self.files.load(f"metric_{number:03d}_{index:04d}")
        if kept is not None:
            return kept["metric"]
        metric = self._after(number, index - 1)
        if metric is None:
            raise UserError(f"Iteration {index - 1} has no gradients left.")
        return metric

    def _after(self, number: int, index: int) -> np.ndarray | None:
        """Solve an iteration again, learn the next metric from it, store the metric and return it.

        Iteration 0 is not solved again if its coefficients are stored. The result is None if all gradients are 0 or
        some are not finite.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration, 0 for the fixed kernel.
        """
        if index == 0:
            kept = self.files.load(f"step_{self._start(number):03d}_0000")
            if kept is not None:
                kernel = self._kernel(number, self._metric(number, 0), self.bases)
                return self._followed(number, 0, kernel, kept["alpha"], kept.get("centres"))
        with self._solved(number, index, self._metric(number, index)) as found:
            return self._learned(number, index, found, entries_of(self.dataset, found.path, found.outputs))

    @contextlib.contextmanager
    def _solved(self, number: int, index: int, metric: np.ndarray) -> Iterator[Solved]:
        """Fit kernel ridge regression for one iteration of a variant, and yield the solution for a `with` block.

        The folder with the iteration's Gram matrix and checkpoints is removed after the block, unless the block raises
        an exception.

        Args:
            number: Index of the variant, from 0.
            index: Number of the iteration, 0 for the fixed kernel.
            metric: M (d, d) of the kernel k(√M x, √M z), or its diagonal (d,).
        """
        variant = self.variants[number]
        exact = None if self.exact is None else self._kernel(number, metric, self.exact)
        with self.solver.solved(
            self._kernel(number, metric, self.bases), exact, metric, self.ridges[variant.base],
            name=f"{number:03d}_{index:04d}", title=f"({variant}) iteration {index}",
        ) as found:  # fmt: skip
            self.ridges[variant.base] = found.path.ridges
            yield found

    def _kernel(self, number: int, metric: np.ndarray, bases: dict[str, Any]) -> StretchedKernel:
        variant = self.variants[number]
        return at_metric(bases[variant.base], metric, self.train, variant.factor)

    def _start(self, number: int) -> int:
        return shared_start([dataclasses.asdict(variant) for variant in self.variants], number)

    def _keep_best(self, step: dict[str, Any], found: Solved | None) -> None:
        """Store an iteration and its solution as the best so far in this object, if it is better than all before it.

        Iterations are compared at their best ridges by the rule of `linearized.experiments.select`.

        Args:
            step: Record of the iteration.
            found: Solution of the iteration; None if an earlier process computed it.
        """
        rank = rank_of(step, self.config.choose_by)
        if self.best is None or rank < self.best[0]:
            place = step["variant"], step["iteration"]
            self.best, self.held = (rank, *place), None if found is None else (*place, found)


def _weights(path: str, dim: int) -> np.ndarray:
    """Return the first-layer weights W (dim, units) of a saved Keras model.

    Args:
        path: Path of the model.
        dim: Required number of inputs of these weights: the length of a row, or of a patch for a kernel on patches.

    Raises:
        UserError: If the first-layer weights of the model have another number of inputs.
    """
    from linearized.models.backend import load_backend

    load_backend()
    from linearized.models.common import load

    return first_weights(load(path), dim, path)
