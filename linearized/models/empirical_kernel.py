"""EMPIRICAL: the kernel of a saved Keras model at the weights of its file, `--model=path.keras`.

`--kind=ntk` is its empirical NTK (`linearized.empirical_ntk`), `--kind=nngp` the kernel of the outputs of a layer
(`linearized.conjugate_kernel`). Layers are in inference mode. Derivatives and features are in float32; with
`--dtype=float64` the sums of their products are in float64, so that rounding leaves no negative eigenvalues.
"""

import functools
import math
import threading
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kernel_gen.kernel import Kernel
from linearized.base.errors import UserError
from linearized.base.machine_memory import working_bytes
from linearized.data.own.formats import file_digest
from linearized.models.row_shapes import row_shape, stated_shape
from linearized.models.saved_model import input_shape
from linearized.settings.gram_settings import KernelSettings, RowSettings
from linearized.settings.model_files import ADVICE
from linearized.settings.reads import reads, when
from linearized.tangents.kept_rows import ChunkStore, KeptRows, Prepared
from linearized.tangents.variable_names import listed_names

if TYPE_CHECKING:
    import keras

READS = (
    reads("model", "kind")
    | reads("ntk_outputs", "variables", when=when(kind="ntk"))
    | reads("layer", when=when(kind="nngp"))
)
TRACE_GRID = True  # nothing is published of its ridges
PRECISION = "float32"  # of derivatives and features, whatever the type of the entries is
OUTPUTS = ("trace", "sum")
CHUNK_BYTES = 2**28  # of the contributions of rows that are made together
TILE = 512  # rows of a band where the contributions of all train rows fit in memory
TILES = (64, 4096)  # fewest and most rows of a band where they do not


def check(settings: KernelSettings) -> None:
    """Raise `UserError`, without a framework, for a file that is no model and for texts that cannot be read."""
    if not settings.model:
        raise UserError("EMPIRICAL needs a saved Keras model, such as --model=model.keras.")
    _stated_shape(settings.model)
    if settings.kind == "ntk":
        _outputs(settings.ntk_outputs)
    if settings.variables:
        listed_names(settings.variables)


def check_rows(settings: RowSettings, image_shape: tuple[int, int, int] | None) -> None:
    """Raise `UserError`, without a framework, for a model that states inputs of another shape than the rows."""
    row_shape(settings.model, _stated_shape(settings.model), settings.dim(), image_shape, settings.data_name())


def _stated_shape(path: str) -> tuple[int | None, ...] | None:
    """Return the shape of the model's input as its file states it. Raises as `input_shape`."""
    return _shape_of_content(path, file_digest(path, "a saved model", ADVICE))


@functools.lru_cache
def _shape_of_content(path: str, _digest: str) -> tuple[int | None, ...] | None:
    """Read the file once for each content, because settings are checked many times."""
    return input_shape(path)


def _outputs(text: str) -> str | int:
    """Return the `outputs` of `linearized.empirical_ntk`. Raise `UserError` for what gives no number per pair."""
    if text in OUTPUTS:
        return text
    if text.isascii() and text.isdigit() and len(text) < 10 and str(int(text)) == text:
        return int(text)
    why = ": the kernel at every pair of outputs is no matrix of n x n (see linearized.empirical_ntk)"
    raise UserError(f"--ntk_outputs is {', '.join(OUTPUTS)}, or the index of an output, from 0"
                    f"{why if text == 'full' else ''}. Received: {text[:60]}.")  # fmt: skip


class EmpiricalKernel(Kernel):
    """Θ(x, z) or φ(x)·φ(z) of a Keras model, from contributions of the rows that are kept as far as memory allows.

    Args:
        path: Of the model, for errors.
        model: Of one input and one output.
        image_shape: (height, width, channels) if the rows are images.
        kind: "ntk" or "nngp".
        outputs: Of "ntk": "trace", "sum" or an index.
        variables: Of "ntk": a text as `linearized.tangents.variable_sets` reads it; "": all that are trainable.
        layer: Of "nngp": the layer whose outputs are φ; "": what enters the last layer that has weights.
        dtype: Of the sums of products and of the entries.

    One block is computed at a time, because taps change the model while they are in place; TensorFlow, JAX and BLAS
    use threads of their own.
    """

    tile = TILE
    scale = "input"
    own_threads = True
    on_demand = True

    def __init__(
        self, path: str, model: "keras.Model", image_shape: tuple[int, ...] | None, *, kind: str = "ntk",
        outputs: str | int = "trace", variables: str = "", layer: str = "", dtype: str = "float32",
    ):  # fmt: skip
        self.model, self.dtype = model, np.dtype(dtype)
        self._path, self._image_shape, self._kind = path, image_shape, kind
        self._outputs, self._variables, self._layer = outputs, variables, layer
        self._source: Any = None
        self._store: ChunkStore | None = None
        self._row_bytes = 0
        self._turn = threading.Lock()

    def on(self, train: np.ndarray) -> Self:
        """See `Kernel`. Checks the model, as `prepare` does, and sets the tile.

        Where the contributions of the train rows exceed the memory, they are made again for each band. Bands are then
        as high as half of the memory allows.
        """
        if len(train):
            budget = self._begun(self._rows(train[:1])).most_bytes
            if len(train) * self._row_bytes > budget:
                self.tile = int(np.clip(budget // (2 * self._row_bytes), *TILES))
        return self

    def prepare(self, x: np.ndarray) -> KeptRows:
        """See `Kernel`. The first call checks the model; contributions are made by the blocks that need them.

        Raises `UserError` for rows that do not fit or are not finite, and for models as `linearized.empirical_ntk`.
        """
        rows = self._rows(x)
        return self._begun(rows[:1]).run(rows)

    def block(self, one: KeptRows, two: KeptRows, *, same: bool = False) -> np.ndarray:
        """See `Kernel`."""
        two = one if same else two
        entries = np.empty((len(one), len(two)), self.dtype)
        with self._turn:
            self._store.hold(one)
            for rows, left in one.parts():
                for columns, right in two.parts():
                    entries[rows, columns] = self._source.block(left, right)
        return entries

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """Return rows in the shape that the model takes."""
        from linearized.tangents.model_checks import checked_inputs

        rows = checked_inputs(x)
        shape = row_shape(self._path, stated_shape(self.model), rows.shape[1], self._image_shape, "the data")
        return rows.reshape(len(rows), *shape)

    def _begun(self, probe: np.ndarray) -> ChunkStore:
        """Return the store; at first check the model by a row, and choose how and how many rows are made at a time."""
        with self._turn:
            if self._store is None:
                try:
                    self._source = self._features() if self._kind == "nngp" else self._tangents(probe)
                    self._row_bytes = sum(one.nbytes for one in self._made(probe))
                except UserError as error:
                    raise UserError(f"{self._path}: {error}") from error
                parts = max(1, math.ceil(TILE * self._row_bytes / CHUNK_BYTES))
                self._store = ChunkStore(self._made, math.ceil(TILE / parts), working_bytes())
            return self._store

    def _made(self, rows: np.ndarray) -> Prepared:
        return [one.astype(self.dtype) for one in self._source.prepare(rows)]

    def _features(self) -> Any:
        from linearized.tangents.empirical import LayerKernel

        return LayerKernel(self.model, self._layer or None)

    def _tangents(self, probe: np.ndarray) -> Any:
        from linearized.tangents.model_checks import checked_outputs
        from linearized.tangents.tangent_kernel import TangentKernel

        width = checked_outputs(self.model, probe)
        if not isinstance(self._outputs, str) and self._outputs >= width:
            raise UserError(f"--ntk_outputs must be below {width}, the number of outputs. Received: {self._outputs}.")
        return TangentKernel(self.model, probe, outputs=self._outputs, variables=self._variables)


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> EmpiricalKernel:
    """Load the model and return its kernel; images go in as images where the model takes such. See `Kernel`."""
    from linearized.models.backend import load_backend

    load_backend()
    from linearized.models.common import load

    own = (
        {"outputs": _outputs(settings.ntk_outputs), "variables": settings.variables}
        if settings.kind == "ntk"
        else {"layer": settings.layer}
    )
    model = load(settings.model)
    return EmpiricalKernel(settings.model, model, image_shape, kind=settings.kind, dtype=settings.dtype, **own)
