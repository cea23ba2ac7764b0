"""The class `TangentKernel`, which computes the empirical NTK of a Keras model between blocks of rows.

`TangentKernel.prepare` computes the derivatives of the model's outputs once for each row, and `TangentKernel.block`
multiplies the results for two blocks of rows. `linearized.empirical_ntk` calls both. For a large Gram matrix, `block`
is called for one part of the matrix after another.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.tangents.contributions import Contribution, Factors, Gradients
from linearized.tangents.model_checks import checked_outputs, chosen_variables
from linearized.tangents.paths import Parts, planned
from linearized.tangents.rules import found
from linearized.tangents.signals import Signals, gradients

OUTPUTS = ("trace", "full", "sum")
BYTES = 2**28  # largest size of the signals of a block of rows
MOST_ROWS = 256  # largest number of rows of a block


class TangentKernel:
    """Empirical NTK Θ_kl(x, x') = Σ_w ⟨∂f_k(x)/∂w, ∂f_l(x')/∂w⟩ of a Keras model f at its present weights.

    Args:
        model: Keras model with one input and one output; outputs with several axes are flattened to k.
        probe: Rows (n, ...) in float32 or int32. The first one is used to check the model, and to choose the method by
            which the term of each variable is computed.
        outputs: "trace": the sum Σ_k Θ_kk; "full": every pair of outputs; "sum": the NTK of Σ_k f_k; or the index of an
            output.
        variables: The trainable variables w that are included: a function of a variable, "last_layer", or names such
            as "block5,head/kernel"; None: all.

    Attributes:
        paths: Method by which the term of each variable is computed, see `linearized.tangents.paths`.
        outputs: k, the number of outputs of the model per row.

    Raises:
        UserError: For a model or rows that have no tangent kernel, as in `empirical_ntk`, and for invalid `outputs` or
            `variables`.
    """

    def __init__(
        self, model: keras.Model, probe: np.ndarray, *, outputs: str | int = "trace",
        variables: Callable[[Any], bool] | str | None = None,
    ):  # fmt: skip
        self.model, self.full = model, outputs == "full"
        self.outputs = checked_outputs(model, probe)
        self._cotangents = _cotangents(outputs, self.outputs)
        wanted = chosen_variables(model, variables)
        if any(layer.compute_dtype != "float32" for layer in model._flatten_layers(include_self=True)):
            logging.info("%s: its policy is not float32; tangents are computed in float32.", model.name)
        self._signals = Signals(model, self._cotangents)
        parts, size = self._parts(probe[:1])
        truth = gradients(model, probe[:1], wanted, self._cotangents)
        self.paths = planned(wanted, parts, truth, full=self.full)
        self._named = {id(one.variable): one.name for one in self.paths}
        self._block = int(np.clip(BYTES // max(4 * size, 1), 1, MOST_ROWS))

    def prepare(self, x: np.ndarray) -> list[Contribution]:
        """Compute, for rows (n, ...), the derivatives that `block` needs.

        Returns:
            One object for each term of the kernel: `Gradients`, the derivatives of the outputs with respect to a
            variable; or `Factors`, the inputs of a layer and the derivatives with respect to its results.
        """
        parts = []
        size = -(-len(x) // max(-(-len(x) // self._block), 1))  # equal blocks need few padding rows
        for start in range(0, len(x), size or 1):
            rows = x[start : start + size]
            if (short := size - len(rows)) and start:  # pad to the common size, so that the graph is compiled once
                filled = np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)])
                parts.append([one[: len(rows)] for one in self._contributions(filled)])
            else:
                parts.append(self._contributions(rows))
        return [type(blocks[0]).joined(blocks) for blocks in zip(*parts, strict=True)]

    def block(self, one: list[Contribution], two: list[Contribution]) -> np.ndarray:
        """Return Θ between n and m rows: (n, m), or (n, m, k, k) for outputs="full".

        Args:
            one: Result of `prepare` for the n rows.
            two: Result of `prepare` for the m rows.
        """
        pairs = zip(one, two, strict=True)
        return sum(left.full(right) if self.full else left.trace(right) for left, right in pairs)

    def _parts(self, x: np.ndarray) -> tuple[Parts, int]:
        """Run the model forwards and backwards on rows x (n, ...), and apply the rules of all layers to the results.

        Returns:
            The results of the rules, grouped by variable, and the size in bytes of the inputs and signals of all
            layers.
        """
        linear, others, size = [], [], 0
        for call, inputs, signals in self._signals(x):
            size += inputs.nbytes + signals.nbytes
            try:
                parts = found(call.layer, call.kind, inputs, signals)
            except ValueError as error:
                logging.log_first_n(logging.INFO, "%s has no rule: %s", 10, call.layer.name, error)
                continue
            linear += parts[0]
            others += parts[1]
        return Parts(linear, others), size

    def _contributions(self, x: np.ndarray) -> list[Contribution]:
        parts, _ = self._parts(x)
        made: list[Contribution] = []
        for path in self.paths:
            key = id(path.variable)
            if path.name == "gradients":
                made.append(Gradients(np.ascontiguousarray(parts.flat_gradients(path.variable), np.float32)))
            elif path.name == "factors" and key in parts.kernels:
                calls = parts.kernels[key]
                bias = float(self._named.get(id(calls[0].bias)) == "factors")
                made.append(Factors.of_calls([part.factors for part in calls], bias))
        rest = [path.variable for path in self.paths if path.name == "jacobian"]
        if rest:
            rows = [gradients(self.model, row[None], rest, self._cotangents) for row in x]
            for place, variable in enumerate(rest):
                shape = len(self._cotangents), int(np.prod(variable.shape))
                values = [np.zeros(shape) if row[place] is None else row[place].reshape(shape) for row in rows]
                made.append(Gradients(np.stack(values).astype(np.float32)))
        return made


def _cotangents(outputs: str | int, width: int) -> np.ndarray:
    """Return the coefficients (m, k) of the m linear combinations of outputs whose derivatives are computed.

    Args:
        outputs: "trace" or "full", each output (m = k); "sum", the sum of the outputs (m = 1); or the index of an
            output (m = 1).
        width: k, the number of outputs.

    Raises:
        UserError: For other `outputs`.
    """
    if outputs in ("trace", "full"):
        return np.eye(width, dtype=np.float32)
    if outputs == "sum":
        return np.ones((1, width), np.float32)
    if isinstance(outputs, bool) or not isinstance(outputs, int | np.integer) or not 0 <= outputs < width:
        raise UserError(f"outputs is one of {', '.join(OUTPUTS)}, or 0..{width - 1}. Received: {outputs!r}.")
    return np.eye(width, dtype=np.float32)[[outputs]]
