"""The choice of the ridge: which entry of a result is best, by which criterion, and whether its solution converged.

Every command chooses by the same rule. The criterion is the first of these that the entries have: the validation rows,
the leave-one-out errors, generalised cross-validation (GCV), the test rows (the published protocol). The best ridge has
the highest accuracy and, among equals, the lowest loss; regression and GCV have only a loss. With
`--choose_by=loss` the best ridge has the lowest loss; the published choice is by accuracy all the same.

A ridge whose training diverged or whose solution did not converge (`linearized.storage.result_schema.fell_short`) may
be the best, but this is always reported: the choice names the flaw, the best converged ridge is recorded with it, and
`warn` logs one line.
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
    """The best of several ridges.

    Attributes:
        criterion: A key of `CRITERIA`.
        position: Position of the best entry.
        converged: Position of the best entry whose solution converged, which may be `position`; None if no entry's did.
        flaw: "diverged" or "not converged", for the best entry; "" if it converged.
        by: The criterion and the metric as text.
        metric: "accuracy" or "loss": what the entries were compared by.
    """

    criterion: str
    position: int
    converged: int | None
    flaw: str
    by: str
    metric: str


def criterion_of(entries: Sequence[Entry]) -> str:
    """Return the criterion by which the entries are compared: the first key of `CRITERIA` that they have.

    If there are validation rows, entries have validation losses, which may be None.
    """
    if any("validation_loss" in entry for entry in entries):
        return "validation"
    measured = (name for name in ("leave_one_out", "gcv") if any(_loss(entry, name) is not None for entry in entries))
    return next(measured, "test")


def choose(entries: Sequence[Entry], criterion: str | None = None, metric: str = "accuracy") -> Choice:
    """Return the best of the entries.

    Args:
        entries: One per ridge, with `{criterion}_loss` and `{criterion}_accuracy` (None for regression), or `gcv`. An
            entry without the loss takes no part. Entries without `converged` count as exact.
        criterion: A key of `CRITERIA`; None takes that of `criterion_of`.
        metric: "accuracy" (where entries have it, otherwise the loss) or "loss".

    Raises `UserError` if no entry has the loss.
    """
    criterion = criterion or criterion_of(entries)
    measured = [place for place, entry in enumerate(entries) if _loss(entry, criterion) is not None]
    if not measured:
        raise UserError(f"No ridge could be solved well enough to be chosen by {CRITERIA[criterion]}.")
    ranked = sorted(measured, key=lambda place: _order(entries[place], criterion, metric))
    best = ranked[0]
    converged = next((place for place in ranked if not flaw_of(entries[place])), None)
    by = _words(entries, entries[best], criterion, metric)
    return Choice(criterion, best, converged, flaw_of(entries[best]), by, _metric(entries[best], criterion, metric))


def lowest_loss(entries: Sequence[Entry]) -> int:
    """Return the position of the entry with the lowest loss by the criterion of `choose`, whatever its accuracy.

    Use it for the ridge whose fitted function is processed further, not for the one that a result names. Converged
    solutions come first. Raises `UserError` if no entry has the loss.
    """
    criterion = criterion_of(entries)
    measured = [place for place, entry in enumerate(entries) if _loss(entry, criterion) is not None]
    if not measured:
        raise UserError(f"No ridge could be solved well enough to be chosen by {CRITERIA[criterion]}.")
    return min(measured, key=lambda place: (bool(flaw_of(entries[place])), _loss(entries[place], criterion)))


def rank(entry: Entry, criterion: str, metric: str = "accuracy") -> tuple[float, float]:
    """Return a sort key that orders entries of several runs as `choose` ranks them, the best one first."""
    return _order(entry, criterion, metric)


def flaw_of(entry: Entry) -> str:
    """Return "diverged" or "not converged" for a solution that fell short, else ""; exact ones have no `converged`."""
    return flaw(entry) if "converged" in entry else ""


def recorded(choice: Choice, entries: Sequence[Entry], name: str = "chosen", *, size: int = 0) -> dict[str, Any]:
    """Return a record's entries about a choice: `name`, and `{name}_converged` if the best one fell short.

    The latter is left out if no ridge converged.

    Args:
        choice: The choice.
        entries: One per ridge.
        name: Key of the choice in the record.
        size: Number of ridges of the whole grid, see `edge`; 0: the edge is not recorded.
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
    """Name the run in warnings within the block, such as by its label and seed in a comparison."""
    token = _called.set(name)
    try:
        yield
    finally:
        _called.reset(token)


def warn(name: str, choice: Choice, entries: Sequence[Entry], advice: str, *, symbol: str = "λ") -> None:
    """Log one warning, with the model's name, if the best ridge fell short; see `warning`."""
    if text := warning(choice, entries, advice, symbol=symbol):
        logging.warning("%s: %s", _called.get() or name, text)


def warning(choice: Choice, entries: Sequence[Entry], advice: str, *, symbol: str = "λ") -> str:
    """Return one line stating that the best ridge fell short, and the best converged one; "" if it converged.

    Args:
        choice: The choice.
        entries: One per ridge.
        advice: One sentence that says what a user can do.
        symbol: Symbol of the ridge.
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
    """Return "smallest" or "largest" if the best ridge is at an end of its grid, else "".

    A better ridge may then lie outside of it. A single ridge is no grid.

    Args:
        choice: The choice.
        entries: One per ridge.
        size: Number of ridges of the whole grid, of which `entries` may be a part.
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
    """Log one warning, with the model's name, if the best ridge is at an end of its grid, see `edge`."""
    if side := edge(choice, entries, size):
        best = entries[choice.position]["ridge"]
        logging.warning("%s: The best ridge, %s = %.3g, is the %s of its grid; a better one may lie beyond. %s",
                        _called.get() or name, symbol, best, side, advice)  # fmt: skip


def _loss(entry: Entry, criterion: str) -> float | None:
    return entry.get("gcv" if criterion == "gcv" else f"{criterion}_loss")


def _order(entry: Entry, criterion: str, metric: str) -> tuple[float, float]:
    accuracy = entry.get(f"{criterion}_accuracy") if metric == "accuracy" else None
    return -(accuracy or 0.0), _loss(entry, criterion)


def _words(entries: Sequence[Entry], best: Entry, criterion: str, metric: str) -> str:
    if len(entries) == 1:
        return ALONE
    published = " (published protocol)" if criterion == "test" and metric == "accuracy" else ""
    return f"{_named(criterion, _metric(best, criterion, metric))}{published}"


def _metric(entry: Entry, criterion: str, metric: str) -> str:
    """Return what an entry is compared by: `metric`, or "loss" if it has no accuracy."""
    return "loss" if entry.get(f"{criterion}_accuracy") is None else metric


def _named(criterion: str, metric: str) -> str:
    return CRITERIA[criterion] if criterion == "gcv" else f"{CRITERIA[criterion]} {metric}"


def _shown(entry: Entry, choice: Choice) -> str:
    accuracy = entry.get(f"{choice.criterion}_accuracy") if choice.metric == "accuracy" else None
    value = _loss(entry, choice.criterion) if accuracy is None else accuracy
    return f"{_named(choice.criterion, choice.metric)} {value:.4g}"


def _place(entries: Sequence[Entry], position: int) -> dict[str, int]:
    return {"position": position, "index": entries[position]["index"]}
