"""The choice of the ridge: which entry of a result is best, by which criterion, and whether its solution converged.

Every command uses the same rule. The criterion is the first of these for which there are numbers: the scores on
validation rows, leave-one-out scores, generalised cross-validation (GCV), the scores on test rows (as by Ghorbani et
al., arXiv 2006.13409). The best ridge has the highest accuracy and, among equal accuracies, the lowest loss. Regression
and GCV only have a loss. With `--choose_by=loss` the best ridge has the lowest loss. Results of kernels also record the
ridge that Ghorbani et al. would choose, always by accuracy where there is one.

A ridge whose training diverged or whose solution did not converge (`linearized.storage.result_schema.fell_short`) may
be the best, but this is always reported: the choice names the flaw, the best converged ridge is recorded in addition,
and `warn` logs one line.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from linearized.base.errors import UserError
from linearized.storage.result_schema import ALONE, flaw

CRITERIA = {
    "validation": "validation", "leave_one_out": "leave-one-out", "gcv": "generalised cross-validation", "test": "test",
}  # fmt: skip

Entry = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Choice:
    """Choice of the best of several ridges.

    Attributes:
        criterion: Criterion of the choice: "validation", "leave_one_out", "gcv" or "test" (the keys of `CRITERIA`).
        position: Index of the best entry in the list of entries.
        converged: Index of the best entry whose solution converged, which may equal `position`; None if none converged.
        flaw: "" if the best entry converged, otherwise "diverged" or "not converged".
        by: Criterion and metric as text.
        metric: Metric by which the entries were compared, "accuracy" or "loss".
    """

    criterion: str
    position: int
    converged: int | None
    flaw: str
    by: str
    metric: str


def criterion_of(entries: Sequence[Entry]) -> str:
    """Return the criterion by which entries are compared: "validation", "leave_one_out", "gcv" or "test".

    It is the first of these for which an entry has a number. Entries that contain `validation_loss` are compared by it,
    even if its values are None.

    Args:
        entries: Scores and diagnostics of a run, one dictionary per ridge.
    """
    if any("validation_loss" in entry for entry in entries):
        return "validation"
    measured = (name for name in ("leave_one_out", "gcv") if any(loss_of(entry, name) is not None for entry in entries))
    return next(measured, "test")


def choose(entries: Sequence[Entry], criterion: str | None = None, metric: str = "accuracy") -> Choice:
    """Choose the best of several ridges by their scores.

    Args:
        entries: Scores and diagnostics of a run, one dictionary per ridge, with `{criterion}_loss` and
            `{criterion}_accuracy` (None for regression), or `gcv`. Entries without the loss are ignored. Entries
            without `converged` count as exact.
        criterion: "validation", "leave_one_out", "gcv" or "test"; None: the first of these for which there are numbers.
        metric: "accuracy" (for entries without it, the loss) or "loss".

    Raises:
        UserError: If no entry has the loss.
    """
    criterion = criterion or criterion_of(entries)
    measured = [place for place, entry in enumerate(entries) if loss_of(entry, criterion) is not None]
    if not measured:
        raise UserError(f"No ridge could be solved well enough to be chosen by {CRITERIA[criterion]}.")
    ranked = sorted(measured, key=lambda place: _order(entries[place], criterion, metric))
    best = ranked[0]
    converged = next((place for place in ranked if not flaw_of(entries[place])), None)
    by = _words(entries, entries[best], criterion, metric)
    return Choice(criterion, best, converged, flaw_of(entries[best]), by, _metric(entries[best], criterion, metric))


def lowest_loss(entries: Sequence[Entry]) -> int:
    """Return the index of the converged entry with the lowest loss; accuracies are ignored.

    `criterion_of` selects the loss, such as the validation loss. If no solution converged, all entries are compared.
    Use this function to select a fitted function for further computations, and `choose` to select the ridge that a
    result names.

    Args:
        entries: Scores and diagnostics of a run, one dictionary per ridge.

    Raises:
        UserError: If no entry has a loss by the criterion.
    """
    criterion = criterion_of(entries)
    measured = [place for place, entry in enumerate(entries) if loss_of(entry, criterion) is not None]
    if not measured:
        raise UserError(f"No ridge could be solved well enough to be chosen by {CRITERIA[criterion]}.")
    return min(measured, key=lambda place: (bool(flaw_of(entries[place])), loss_of(entries[place], criterion)))


def rank(entry: Entry, criterion: str, metric: str = "accuracy") -> tuple[float, float]:
    """Return a sort key of an entry, so that entries of several runs can be sorted from the best to the worst.

    `choose` uses the same order.

    Args:
        entry: Entry of a ridge, with the loss of the criterion.
        criterion: "validation", "leave_one_out", "gcv" or "test".
        metric: "accuracy" or "loss", as for `choose`.
    """
    return _order(entry, criterion, metric)


def flaw_of(entry: Entry) -> str:
    """Return "diverged" or "not converged" for an entry whose training or solver failed to converge, else "".

    Entries without the key "converged" are exact solutions.
    """
    return flaw(entry) if "converged" in entry else ""


def recorded(choice: Choice, entries: Sequence[Entry], name: str = "chosen", *, size: int = 0) -> dict[str, Any]:
    """Return the entries of a `result.json` that store the choice of a ridge.

    The entry `name` describes the best ridge. If that ridge diverged or did not converge but another ridge converged,
    the entry `{name}_converged` describes the best converged ridge.

    Args:
        choice: Choice among the entries.
        entries: Scores and diagnostics of the run, one dictionary per ridge.
        name: Key of the choice in the record.
        size: Number of ridges of the whole grid. If the best ridge is the smallest or the largest of the grid, this is
            recorded as "edge"; 0: the grid is not known, and nothing is recorded.
    """
    record = {name: {**_place(entries, choice.position), "by": choice.by}}
    if side := edge(choice, entries, size):
        record[name]["edge"] = side
    if choice.flaw:
        record[name]["flaw"] = choice.flaw
        if choice.converged is not None:
            record[f"{name}_converged"] = {**_place(entries, choice.converged), "by": f"{choice.by}, of the converged"}
    return record


_called: contextvars.ContextVar[str] = contextvars.ContextVar("called", default="")


@contextlib.contextmanager
def called(name: str) -> Iterator[None]:
    """Replace the model's name in the warnings that `warn` and `warn_edge` log within a `with` block.

    Args:
        name: Name with which the warnings begin, such as the name of the model with its seed.
    """
    token = _called.set(name)
    try:
        yield
    finally:
        _called.reset(token)


def warn(name: str, choice: Choice, entries: Sequence[Entry], advice: str, *, symbol: str = "λ") -> None:
    """Log a warning if the best ridge diverged or did not converge.

    Args:
        name: Name of the model, with which the warning begins.
        choice: Choice among the entries.
        entries: Scores and diagnostics of the run, one dictionary per ridge.
        advice: Sentence that states what a user can do.
        symbol: Symbol of the ridge, "λ" or "ρ".
    """
    if text := warning(choice, entries, advice, symbol=symbol):
        logging.warning("%s: %s", _called.get() or name, text)


def warning(choice: Choice, entries: Sequence[Entry], advice: str, *, symbol: str = "λ") -> str:
    """Return the text of a warning if the best ridge diverged or did not converge, otherwise "".

    The text also names the best of the ridges that converged.

    Args:
        choice: Choice among the entries.
        entries: Scores and diagnostics of the run, one dictionary per ridge.
        advice: Sentence that states what a user can do.
        symbol: Symbol of the ridge, "λ" or "ρ".
    """
    if not choice.flaw:
        return ""
    best = entries[choice.position]
    diverged = choice.flaw == "diverged"
    said = "diverged" if diverged else "did not converge"
    if not diverged and best.get("residual") is not None:
        said += f" (residual {best['residual']:.1e} after {best['iterations']} steps)"
    elif not diverged and best.get("loss_change") is not None:
        said += f" (its train loss last changed by {100 * best['loss_change']:+.2g} %)"
    if len(entries) == 1:
        return f"The only ridge, {symbol} = {best['ridge']:.3g}, {said}. {advice}"
    value = _shown(best, choice)
    line = f"The best ridge, {symbol} = {best['ridge']:.3g} (index {best['index']}, {value}), {said}."
    if choice.converged is None:
        return f"{line} No ridge converged. {advice}"
    other = entries[choice.converged]
    return (f"{line} The best that converged is {symbol} = {other['ridge']:.3g} (index {other['index']}, "
            f"{_shown(other, choice)}). {advice}")  # fmt: skip


def edge(choice: Choice, entries: Sequence[Entry], size: int) -> str:
    """Return "smallest" or "largest" if the best ridge is at that end of its grid, otherwise "".

    At an end, a better ridge may lie outside the grid. A single ridge is not a grid.

    Args:
        choice: Choice among the entries.
        entries: Scores and diagnostics of the run, one dictionary per ridge.
        size: Number of ridges of the whole grid; `entries` may contain only some of them.
    """
    if len(entries) < 2 or size < 2:
        return ""
    ridges, best = [entry["ridge"] for entry in entries], entries[choice.position]
    if best["index"] not in (0, size - 1):
        return ""
    return "smallest" if best["ridge"] == min(ridges) else "largest" if best["ridge"] == max(ridges) else ""


def warn_edge(
    name: str, choice: Choice, entries: Sequence[Entry], size: int, advice: str, *, symbol: str = "λ"
) -> None:
    """Log a warning if the best ridge is the smallest or the largest of its grid.

    A better ridge may then lie outside the grid.

    Args:
        name: Name of the model, with which the warning begins.
        choice: Choice among the entries.
        entries: Scores and diagnostics of the run, one dictionary per ridge.
        size: Number of ridges of the whole grid.
        advice: Sentence that states what a user can do.
        symbol: Symbol of the ridge, "λ" or "ρ".
    """
    if side := edge(choice, entries, size):
        best = entries[choice.position]["ridge"]
        logging.warning("%s: The best ridge, %s = %.3g, is the %s of its grid; a better one may lie beyond. %s",
                        _called.get() or name, symbol, best, side, advice)  # fmt: skip


def loss_of(entry: Entry, criterion: str) -> float | None:
    """Return the loss of an entry by a criterion; None if it was not measured or is not finite.

    Args:
        entry: Entry of a ridge.
        criterion: "validation", "leave_one_out", "gcv" or "test".
    """
    return entry.get("gcv" if criterion == "gcv" else f"{criterion}_loss")


def _order(entry: Entry, criterion: str, metric: str) -> tuple[float, float]:
    accuracy = entry.get(f"{criterion}_accuracy") if metric == "accuracy" else None
    return -(accuracy or 0.0), loss_of(entry, criterion)


def _words(entries: Sequence[Entry], best: Entry, criterion: str, metric: str) -> str:
    if len(entries) == 1:
        return ALONE
    published = " (published protocol)" if criterion == "test" and metric == "accuracy" else ""
    return f"{_named(criterion, _metric(best, criterion, metric))}{published}"


def _metric(entry: Entry, criterion: str, metric: str) -> str:
    """Return the metric by which an entry is compared: `metric`, or "loss" if the entry has no accuracy.

    Args:
        entry: Scores at one ridge.
        criterion: "validation", "leave_one_out", "gcv" or "test".
        metric: "accuracy" or "loss".
    """
    return "loss" if entry.get(f"{criterion}_accuracy") is None else metric


def _named(criterion: str, metric: str) -> str:
    return CRITERIA[criterion] if criterion == "gcv" else f"{CRITERIA[criterion]} {metric}"


def _shown(entry: Entry, choice: Choice) -> str:
    accuracy = entry.get(f"{choice.criterion}_accuracy") if choice.metric == "accuracy" else None
    value = loss_of(entry, choice.criterion) if accuracy is None else accuracy
    return f"{_named(choice.criterion, choice.metric)} {value:.4g}"


def _place(entries: Sequence[Entry], position: int) -> dict[str, int]:
    return {"position": position, "index": entries[position]["index"]}
