"""Suggestions for misspelled names: unknown flags, values of choices and columns of a table."""

import difflib
from collections.abc import Iterable

CUTOFF = 0.6  # similarity of two spellings, from 0 to 1, below which nothing is suggested

# Names of settings in other libraries, and the names that each may have here.
SYNONYMS = {
    "adam_beta2": ("beta_2",), "batch": ("max_batch_size", "batch_size"), "batch_size": ("max_batch_size",),
    "channels": ("num_units",), "dropout": ("drop_rate",), "epochs": ("max_cg_iters", "epochs"),
    "folder": ("directory",), "iterations": ("max_cg_iters", "max_iterations"), "iters": ("max_cg_iters",),
    "lam": ("reg_index", "ridges"), "lambda": ("reg_index", "ridges"), "level": ("noise_ind",),
    "max_batch_size": ("batch_size",), "max_iter": ("max_cg_iters", "max_iterations"),
    "max_iters": ("max_cg_iters", "max_iterations"), "momentum": ("solver",), "n": ("num_train",),
    "name": ("exp_name",), "network": ("model",), "noise": ("noise_ind",), "num_epochs": ("max_cg_iters", "epochs"),
    "num_features": ("num_units", "embedding_dim"), "optimiser": ("solver",), "optimizer": ("solver",),
    "output": ("out",), "penalty": ("reg_index", "ridges"), "reg": ("reg_index", "ridges"),
    "ridge": ("ridges", "reg_index"), "steps": ("max_cg_iters", "max_iterations"), "tol": ("cg_rtol", "rtol"),
    "width": ("num_units",),
}  # fmt: skip


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that `word` most probably stands for, or None if none is similar.

    The criteria, in this order: the same letters in another case, a synonym, the initials of a choice ("nu" for
    "num_units"), a similar spelling, one whole part of a choice ("units" for "num_units").

    Args:
        word: Name that was received.
        choices: Names that exist, the more common ones first.
    """
    choices = list(choices)
    lower = {choice.lower(): choice for choice in reversed(choices)}
    word = word.lower()
    if word in lower:
        return lower[word]
    for synonym in SYNONYMS.get(word, ()):
        if synonym in lower:
            return lower[synonym]
    for name, choice in lower.items():
        if "_" in name and word == "".join(part[:1] for part in name.split("_")):
            return choice
    if near := difflib.get_close_matches(word, lower, n=1, cutoff=CUTOFF):
        return lower[near[0]]
    return next((choice for choice in choices if word and word in choice.lower().split("_")), None)


def hint(word: str, choices: Iterable[str], form: str = "{}") -> str:
    """Return " Did you mean X?" for the nearest choice, or "" if none is similar.

    Args:
        word: Name that was received.
        choices: Names that exist, the more common ones first.
        form: Format of the choice in the text, such as "--{}".
    """
    found = nearest(word, choices)
    return "" if found is None else f" Did you mean {form.format(found)}?"
