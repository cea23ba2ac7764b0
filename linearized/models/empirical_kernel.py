"""EMPIRICAL: a kernel that a saved Keras model defines at its stored weights, `--model=path.keras`.

`--kind=ntk` selects the empirical NTK (`linearized.empirical_ntk`), `--kind=nngp` the kernel of a layer's outputs
(`linearized.conjugate_kernel`). Layers are in inference mode. Derivatives and features are in float32; with
`--dtype=float64` the sums of their products are in float64, so that rounding causes no negative eigenvalues.
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
from linearized.settings.model_files import advice
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
TRACE_GRID = True  # no grid of ridges is published
PRECISION = "float32"  # data type of derivatives and features, whatever that of the entries is
OUTPUTS = ("trace", "sum")
CHUNK_BYTES = 2**28  # largest size of the contributions of a chunk of rows
TILE = 512  # rows of a band if the contributions of all train rows fit in memory
TILES = (64, 4096)  # smallest and largest number of rows of a band if they do not


def check(settings: KernelSettings) -> None:
    """Raise `UserError` if the model file cannot be read, or for invalid texts of --ntk_outputs and --variables.

    No framework is imported for this.

    Args:
        settings: Settings of the kernel.
    """
    if not settings.model:
        raise UserError("EMPIRICAL needs a saved Keras model, such as --model=model.keras.")
    _stated_shape(settings.model)
    if settings.kind == "ntk":
        _outputs(settings.ntk_outputs)
    if settings.variables:
        listed_names(settings.variables)


def check_rows(settings: RowSettings, image_shape: tuple[int, int, int] | None) -> None:
    """Raise `UserError` if the model file states an input shape that the rows do not have.

    No framework is imported for this.

    Args:
        settings: Settings of the kernel and of the rows.
        image_shape: (height, width, channels) if the rows are images.
    """
    row_shape(settings.model, _stated_shape(settings.model), settings.dim(), image_shape, settings.data_name())


def _stated_shape(path: str) -> tuple[int | None, ...] | None:
    """Return the shape of the model's input, in which the number of rows is None; None if the file states none.

    Args:
        path: Path of the model file.

    Raises:
        Absent: If the file does not exist.
        Unreadable: If the file is damaged or not a saved model.
    """
    return _shape_of_content(path, file_digest(path, "a saved model", advice(path)))


@functools.lru_cache
def _shape_of_content(path: str, _digest: str) -> tuple[int | None, ...] | None:
    """Return the shape of the model's input as its file states it.

    The result is cached by path and digest of the content, because settings are checked many times.

    Args:
        path: Path of the model file.
        _digest: Digest of the file's content, which makes the cache read a changed file again.
    """
    return input_shape(path)


def _outputs(text: str) -> str | int:
    """Convert the flag --ntk_outputs to an argument of `linearized.empirical_ntk`: "trace", "sum" or an output's index.

    Args:
        text: Text of the flag.

    Raises:
        UserError: For other texts. "full" is not allowed either, because it gives several numbers per pair of rows.
    """
    if text in OUTPUTS:
        return text
    if text.isascii() and text.isdigit() and len(text) < 10 and str(int(text)) == text:
        return int(text)
    why = ": the kernel at every pair of outputs is no matrix of n x n (see linearized.empirical_ntk)"
    raise UserError(f"--ntk_outputs is {', '.join(OUTPUTS)}, or the index of an output, from 0"
                    f"{why if text == 'full' else ''}. Received: {text[:60]}.")  # fmt: skip


class EmpiricalKernel(Kernel):
    """Kernel of a Keras model at its present weights: the empirical NTK, or φ(x)·φ(z) for the outputs φ of a layer.

    The kernel is computed from one vector per row: the derivatives with respect to the weights, or the outputs φ. The
    vectors are cached as far as memory allows, and recomputed otherwise. Calls of `block` from several threads run one
    after the other, because the computation of derivatives temporarily changes the model. TensorFlow, JAX and BLAS use
    several threads within each call.

    Args:
        path: Path of the model, used in error messages.
        model: Keras model with one input and one output.
        image_shape: (height, width, channels) if the rows are images.
        kind: "ntk" for the empirical NTK, "nngp" for the kernel of a layer's outputs.
        outputs: For "ntk": "trace", "sum" or the index of an output, see `linearized.empirical_ntk`.
        variables: For "ntk": text that chooses variables, see `linearized.tangents.variable_sets`; "": all trainable
            variables.
        layer: For "nngp": name of the layer with the outputs φ; "": φ is the input of the last layer that has weights.
        dtype: Data type of the sums of products and of the entries.
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
        """Check the model, choose `tile`, the block size for the Gram matrix of train rows, and return this kernel.

        The Gram matrix is computed in square blocks of `tile` rows and columns. If the derivatives or features of all
        train rows do not fit in memory, they are recomputed for every `tile` rows of the matrix. `tile` is then chosen
        so that the derivatives or features of `tile` rows take half of the memory, between 64 and 4,096 rows.

        Args:
            train: Train rows (n, d).

        Raises:
            UserError: For the same reasons as in `prepare`.
        """
        if len(train):
            budget = self._begun(self._rows(train[:1])).most_bytes
            if len(train) * self._row_bytes > budget:
                self.tile = int(np.clip(budget // (2 * self._row_bytes), *TILES))
        return self

    def prepare(self, x: np.ndarray) -> KeptRows:
        """Return rows in the form that `block` requires.

        Derivatives or features are computed later, when a block needs them. The first call also checks the model.

        Args:
            x: Rows (n, d).

        Raises:
            UserError: For rows that do not fit the model or are not finite, and for models that
                `linearized.empirical_ntk` refuses.
        """
        rows = self._rows(x)
        return self._begun(rows[:1]).run(rows)

    def block(self, one: KeptRows, two: KeptRows, *, same: bool = False) -> np.ndarray:
        """Return the kernel (n, m) between two sets of rows.

        Args:
            one: The n rows, as `prepare` returns them.
            two: The m other rows, as `prepare` returns them.
            same: Whether the two sets of rows are the same; `two` is then not read.
        """
        two = one if same else two
        entries = np.empty((len(one), len(two)), self.dtype)
        with self._turn:
            self._store.hold(one)
            for rows, left in one.parts():
                for columns, right in two.parts():
                    entries[rows, columns] = self._source.block(left, right)
        return entries

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """Return flat rows x (n, d) in the shape of the model's input, such as images."""
        from linearized.tangents.model_checks import checked_inputs

        rows = checked_inputs(x)
        shape = row_shape(self._path, stated_shape(self.model), rows.shape[1], self._image_shape, "the data")
        return rows.reshape(len(rows), *shape)

    def _begun(self, probe: np.ndarray) -> ChunkStore:
        """Return the cache of derivatives or features; the first call checks the model and chooses the chunk size.

        Args:
            probe: One row in the shape of the model's input, with which the model is checked.
        """
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
    """Load the model file of the settings and return its kernel.

    Args:
        settings: Settings `model`, `kind`, `ntk_outputs`, `variables`, `layer` and `dtype`.
        image_shape: (height, width, channels) if the rows are images.

    Raises:
        UserError: If the model file cannot be loaded, or for an invalid `ntk_outputs`.
    """
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
