"""Array types for annotations that state data type and shape, such as `Float64[np.ndarray, "n d"]`.

If jaxtyping was imported before this module, these are the types of jaxtyping. The tests import it first, to check
types and shapes in every call. Otherwise an annotation is the array type alone, because importing jaxtyping takes a
third of the time of `--help`.
"""

import sys
from typing import TYPE_CHECKING, Any

__all__ = ["Float", "Float32", "Float64", "Int", "Int64", "Real", "Shaped", "UInt8"]

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Float, Float32, Float64, Int, Int64, Real, Shaped, UInt8
else:

    class ArrayOfAnyShape:
        """Replacement for the types of jaxtyping."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            """Return the array type of a pair (array type, shape)."""
            return item[0]

    Float = Float32 = Float64 = Int = Int64 = Real = Shaped = UInt8 = ArrayOfAnyShape
