"""What a fit at one ridge hands back, whichever solver made it."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass
class RidgeFit:
    """A model fitted at one ridge.

    Attributes:
        index, ridge: Place in the published grid, and λ.
        predictions: (rows, k) outputs by split: train, validation (if any), test.
        parameters: What `set_parameters` of the model's module takes (linear models), or the model's weights in order.
        evidence: `converged`, `iterations`, and what else the solver says of itself; plain values, ready for JSON.
        history: The solver's own measure at each iteration or epoch.
        seconds: Wall time, of the whole grid's share for solvers that solve all ridges at once.
    """

    index: int
    ridge: float
    predictions: dict[str, np.ndarray]
    parameters: Any
    evidence: dict[str, Any]
    history: np.ndarray
    seconds: float
