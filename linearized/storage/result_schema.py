"""The schema of `result.json`: the entries that the record of a run must have.

Further entries of a record are kept and not checked. There are three formats. Format 2 added a digest of the file.
Format 3 defined `converged` for training by gradients (see `convergence`) and added two entries: `made_by` contains the
version, commit, machine and seeds; `chosen_converged` states the best ridge with a converged solution if the solution
at the chosen ridge did not converge.
"""

from collections.abc import Callable, Mapping
from typing import Any

_METRICS = ("train_", "validation_", "test_", "leave_one_out_")  # prefixes of the names of measured values
ALONE = "the only one"  # criterion that is recorded for a single ridge
SETTLED = 0.02  # largest relative change of a train loss for which training counts as converged
FEWEST_EPOCHS = 10  # smallest number of epochs that can show that a train loss settled
_SETTINGS = {"model": str, "dataset": str, "kernel": str, "loss": str, "exp_name": str, "noise_ind": int}


class BadRecord(ValueError):
    """An error for an entry of a record that is missing or has an invalid value."""


def check_record(record: Any) -> None:
    """Check the entries of a run's record, the content of `result.json`.

    Raises `BadRecord`, which names the entry, for the first entry that is missing or invalid.
    """
    _object(record, "the record")
    for name in ("title", "finished"):
        _is(record, name, str)
    for name in ("ridge_unit", "ridge_symbol", "command"):
        _is(record, name, str, required=False)
    for name in ("seconds", "peak_memory_gib"):
        _is(record, name, float)
    _each(record, "settings", _setting)
    _each(record, "versions", lambda value: isinstance(value, str))
    if "made_by" in record:
        _made_by(_object(record["made_by"], "made_by"))
    data = _object(record.get("data"), "data")
    for name, kind, required in (("name", str, True), ("fingerprint", str, True), ("noise", str, False),
                                 ("dim", int, True), ("n_train", int, True), ("n_test", int, False),
                                 ("n_validation", int, False)):  # fmt: skip
        _is(data, name, kind, "data.", required=required)
    for name, kind in _SETTINGS.items():
        _is(record["settings"], name, kind, "settings.", required=False)
    model = _object(record.get("model"), "model")
    for name, kind in (("name", str), ("hidden_layers", int)):
        _is(model, name, kind, "model.", required=False, null=True)
    solver = _object(record.get("solver"), "solver")
    for name, required in (("name", True), ("step", True), ("history", True), ("reason", False)):
        _is(solver, name, str, "solver.", required=required)
    entries = record.get("ridges")
    if not isinstance(entries, list) or not entries:
        raise BadRecord("ridges is no list of at least one ridge")
    for place, entry in enumerate(entries):
        _ridge(entry, f"ridges[{place}]")
    _check_choice(record, "chosen", len(entries))
    for name in ("chosen_converged", "chosen_published", "chosen_published_converged"):
        if name in record:
            _check_choice(record, name, len(entries))
    if "linear" in record:
        for name, value in _object(record["linear"], "linear").items():
            if name.startswith(_METRICS) and not (value is None or _kind(value, float)):
                raise BadRecord(f"linear.{name} is {value!r:.40}, not a number")
    if "tangents" in record:
        _tangents(_object(record["tangents"], "tangents"))
    if "centres" in record:
        centres = _object(record["centres"], "centres")
        for name, kind in (("asked", int), ("count", int), ("pool", int), ("choice", str), ("lost", float)):
            _is(centres, name, kind, "centres.")
    if "feature_machine" in record:
        _feature_machine(_object(record["feature_machine"], "feature_machine"))


def _tangents(measured: Mapping[str, Any]) -> None:
    """Check the measurements of the tangent kernel (`--tangent_at`): those of each epoch, and those at infinite width.

    Raises `BadRecord` for the first entry that is missing or invalid.
    """
    for name in ("train", "test"):
        _is(_object(measured.get("rows"), "tangents.rows"), name, int, "tangents.rows.")
    if not isinstance(measured.get("epochs"), list):
        raise BadRecord("tangents.epochs is no list")
    for place, entry in enumerate(measured["epochs"]):
        where = f"tangents.epochs[{place}]"
        _is(_object(entry, where), "epoch", int, f"{where}.")
        for name in ("distance_from_start", "distance_from_previous", "alignment_with_start", "alignment_with_previous",
                     "features_alignment_with_start", "label_alignment", "effective_rank"):  # fmt: skip
            _is(entry, name, float, f"{where}.")
        for who in ("network", "linearization", "linearization_offset", "last_layer"):
            for what in ("accuracy", "loss"):
                _is(entry, f"{who}_{what}", float, f"{where}.", null=True)
        _each(entry, "weight_change", lambda value: value is None or _kind(value, float), f"{where}.")
    if (infinite := measured.get("infinite_width")) is not None:
        _is(_object(infinite, "tangents.infinite_width"), "kernel", str, "tangents.infinite_width.")
        for what in ("accuracy", "loss"):
            _is(infinite, what, float, "tangents.infinite_width.", null=True)


def _feature_machine(machine: Mapping[str, Any]) -> None:
    """Check the record of a recursive feature machine: its kernel variants, its steps and the index of the best step.

    Raises `BadRecord` for the first entry that is missing or invalid.
    """
    for name in ("variants", "steps", "spectrum"):
        if not isinstance(machine.get(name), list) or not machine[name]:
            raise BadRecord(f"feature_machine.{name} is no list of at least one")
    for place, variant in enumerate(machine["variants"]):
        where = f"feature_machine.variants[{place}]"
        _is(_object(variant, where), "name", str, f"{where}.")
        _is(variant, "factor", float, f"{where}.")
    for place, step in enumerate(machine["steps"]):
        where = f"feature_machine.steps[{place}]"
        for name, kind in (("variant", int), ("iteration", int), ("position", int), ("effective_rank", float)):
            _is(_object(step, where), name, kind, f"{where}.")
        _is(step, "overlap", float, f"{where}.", null=True)
        _is(step, "ansatz", float, f"{where}.", required=False, null=True)
        ridges = step.get("ridges")
        if not isinstance(ridges, list) or not 0 <= step["position"] < len(ridges):
            raise BadRecord(f"{where}.ridges has no ridge {step['position']}")
        for entry in ridges:
            _is(_object(entry, f"{where}.ridges"), "ridge", float, f"{where}.ridges.")
        if not 0 <= step["variant"] < len(machine["variants"]):
            raise BadRecord(f"{where}.variant is {step['variant']}")
    _is(machine, "best", int, "feature_machine.")
    if not 0 <= machine["best"] < len(machine["steps"]):
        raise BadRecord(f"feature_machine.best is {machine['best']}, and there are {len(machine['steps'])} steps")


def _made_by(made: Mapping[str, Any]) -> None:
    _is(made, "version", str, "made_by.")
    _is(made, "commit", str, "made_by.", required=False)
    for name in ("machine", "seeds"):
        _each(made, name, _setting, "made_by.")


def _ridge(entry: Any, where: str) -> None:
    _object(entry, where)
    for name, kind in (("index", int), ("ridge", float), ("iterations", int)):
        _is(entry, name, kind, f"{where}.")
    _is(entry, "converged", bool, f"{where}.", null=True)
    _is(entry, "diverged", bool, f"{where}.")
    _is(entry, "message", str, f"{where}.", required=False)
    for name in (
        "residual",
        "gcv",
        "degrees_of_freedom",
        "left_out_loss",
        "left_out_error",
        "predicted_loss",
        "predicted_by_gcv",
        "predicted_error",
        "predicted_normalised_loss",
        "fit_seconds",
        "examples_per_second",
        "loss_change",
        "prediction_error",
    ):
        _is(entry, name, float, f"{where}.", required=False, null=True)
    if "test_loss" not in entry:
        raise BadRecord(f"{where}.test_loss is missing")
    for name, value in entry.items():
        if name.startswith(_METRICS) and not (value is None or _kind(value, float)):
            raise BadRecord(f"{where}.{name} is {value!r:.40}, not a number")
        if isinstance(value, list | dict):
            raise BadRecord(f"{where}.{name} is a {type(value).__name__}, not one value")


def choice(record: Mapping[str, Any], name: str = "chosen") -> str:
    """Return a phrase for reports that states the criterion by which the ridge of a run was chosen.

    If the solution at the chosen ridge did not converge, the phrase also states this and the best ridge with a
    converged solution.

    Args:
        record: Record of a run, the content of `result.json`.
        name: Choice to describe, "chosen" or "chosen_published" (the rule of the published experiments).
    """
    made, other = record[name], record.get(f"{name}_converged")
    if not made.get("flaw"):
        return made["by"]
    best = "no ridge converged"
    if other is not None:
        ridge = record["ridges"][other["position"]]["ridge"]
        best = f"the best that converged is {ridge:.3g}, index {other['index']}"
    return f"{made['by']}, {made['flaw'].upper()} ({best})"


def _check_choice(record: Mapping[str, Any], name: str, ridges: int) -> None:
    choice = _object(record.get(name), name)
    _is(choice, "by", str, f"{name}.")
    _is(choice, "flaw", str, f"{name}.", required=False)
    _is(choice, "edge", str, f"{name}.", required=False)
    for entry in ("position", "index"):
        _is(choice, entry, int, f"{name}.")
    if not 0 <= choice["position"] < ridges:
        raise BadRecord(f"{name}.position is {choice['position']}, and there are {ridges} ridges")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadRecord(f"{where} is missing" if value is None else f"{where} is a {type(value).__name__}, no object")
    return value


def _is(
    values: Mapping[str, Any], name: str, kind: type, where: str = "", *, required: bool = True, null: bool = False
) -> None:
    """Raise `BadRecord` unless one entry has the given type.

    Args:
        values: Mapping that contains the entry.
        name: Key of the entry.
        kind: Type of the entry: float accepts any finite number, and int does not accept a bool.
        where: Text before the name in the error message, such as the keys that lead to `values`.
        required: Whether the entry must exist.
        null: Whether the entry may be None.
    """
    if name not in values:
        if required:
            raise BadRecord(f"{where}{name} is missing")
        return
    value = values[name]
    if not (_kind(value, kind) or (null and value is None)):
        words = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}
        raise BadRecord(f"{where}{name} is {value!r:.40}, not {words[kind]}")


def _kind(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and -1e308 <= value <= 1e308  # False for NaN
    return isinstance(value, kind)


def _each(record: Mapping[str, Any], name: str, good: Callable[[Any], bool], where: str = "") -> None:
    for key, value in _object(record.get(name), f"{where}{name}").items():
        if not good(value):
            raise BadRecord(f"{where}{name}.{key} is {value!r:.40}, which it cannot be")


def _setting(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def convergence(entry: Mapping[str, Any]) -> bool | None:
    """Return whether the solution at one ridge converged, or None if that is unknown.

    The solution of a solver with a tolerance converged if its residual met the tolerance. Training by gradients has no
    residual. It converged if it did not diverge and its train loss (with the penalty) settled: the loss hardly changed
    at the end, see `settled`.

    For training by gradients, version 0.1 stored `converged` in the meaning "did not diverge". For such an entry the
    result is None instead of True.

    Args:
        entry: Entry of one ridge in a run's record, `record["ridges"][i]`.
    """
    met = None if _absent(entry["converged"]) else bool(entry["converged"])
    if "diverged" not in entry or not _absent(entry.get("residual")):
        return met
    if entry["diverged"]:
        return False
    if not _absent(entry.get("loss_change")):
        return met is not False and settled(entry["loss_change"])
    return None if met else met  # False for a ridge that a solver could not solve, or for training of one epoch


def settled(loss_change: float | None, epochs: int | None = None, warm_up: int = 0) -> bool:
    """Return whether a train loss settled: its relative change at the end of training was at most 2 % (`SETTLED`).

    Args:
        loss_change: Relative change of the mean loss from the second last tenth of the epochs to the last tenth. None
            if there was only one epoch or the first mean is 0; the loss then counts as not settled.
        epochs: Number of epochs. A loss counts as not settled if there were fewer than 10 epochs (`FEWEST_EPOCHS`), or
            if the last two tenths overlap the warm-up of the learning rate. None skips this check, for stored runs,
            which were checked when they were trained.
        warm_up: Number of epochs of the warm-up.
    """
    if loss_change is None or abs(loss_change) > SETTLED:
        return False
    return epochs is None or epochs >= max(FEWEST_EPOCHS, warm_up + 2 * max(1, epochs // 10))


def _absent(value: Any) -> bool:
    return value is None or value != value  # data frames store NaN in place of None


def fell_short(entry: Mapping[str, Any]) -> bool:
    """Return whether the solution at one ridge is known to have diverged or not to have converged.

    Args:
        entry: Entry of one ridge in a run's record, `record["ridges"][i]`.
    """
    return convergence(entry) is False or bool(entry.get("diverged"))


def flaw(entry: Mapping[str, Any]) -> str:
    """Return "diverged" or "not converged" if this is known of the solution at one ridge, otherwise "".

    Args:
        entry: Entry of one ridge in a run's record, `record["ridges"][i]`.
    """
    if not fell_short(entry):
        return ""
    return "diverged" if entry.get("diverged") else "not converged"
