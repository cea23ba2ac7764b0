"""The choice of a ridge by its metrics; the metrics themselves are those of `linearized.data.scores`."""

from collections.abc import Mapping, Sequence
from typing import Any

from linearized.base.errors import UserError
from linearized.data.scores import LOSSES, evaluate
from linearized.storage.result_schema import fell_short

__all__ = ["LOSSES", "best", "evaluate"]


def _missed(entry: Mapping[str, Any]) -> bool:
    return "converged" in entry and fell_short(entry)


def best(entries: Sequence[Mapping[str, Any]], rule: str) -> int:
    """The position of the best ridge: by the highest accuracy on `rule`, ties and regression by the lowest loss.

    Args:
        entries: A ridge each, with `{rule}_loss` and `{rule}_accuracy` (None for regression), or `gcv`.
        rule: validation, leave_one_out, test, or gcv, which is a loss alone. Entries that lack it, or that are said not
            to have converged while others have, are passed over.
    """
    loss = "gcv" if rule == "gcv" else f"{rule}_loss"
    told = [place for place, entry in enumerate(entries) if entry.get(loss) is not None]
    if not told:
        raise UserError(f"No ridge could be solved well enough to be chosen by {rule.replace('_', ' ')}.")
    solved = [place for place in told if not _missed(entries[place])] or told
    return min(solved, key=lambda place: (-(entries[place].get(f"{rule}_accuracy") or 0.0), entries[place][loss]))
