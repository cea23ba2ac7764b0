"""Conversion of flat rows of pixels to images: of arrays (n, d), or of tables with one column per pixel.

`--image_shape` declares that the rows are images, and their height, width and channels.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from linearized.base.array_checks import real_array
from linearized.base.errors import UserError, shown
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.tables import categorical

LARGEST_SIDE = 4096
BYTE = 255


@dataclasses.dataclass(frozen=True)
class FlatPixels:
    """Conversion of flat rows to images `(n, *shape)`.

    Attributes:
        shape: Value of `--image_shape`: (height, width), (height, width, channels) or (channels, height, width).
        names: Names of the columns of a table in their order; None for arrays.
        in_bytes: Whether the train rows are a table of whole numbers from 0 to 255. Such tables are converted to bytes,
            because a text file does not store types.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    in_bytes: bool = False

    def __call__(self, x: Any) -> np.ndarray:
        """Convert flat rows `x`, an array (n, d) or a table, to images (n, *shape); return images unchanged.

        Raises `UserError` for rows of another length, other columns, or values that are not pixels.
        """
        if hasattr(x, "iloc"):
            x = self._of_table(x)
        if x.ndim != 2:
            return x
        x = np.asanyarray(x)  # keeps a memory map a memory map
        if x.shape[1] != np.prod(self.shape):
            raise UserError(f"Images of {_text(self.shape)} have {np.prod(self.shape)} numbers. Received: rows of "
                            f"length {x.shape[1]}.")  # fmt: skip
        return x.reshape(len(x), *self.shape)

    def _of_table(self, frame: Any) -> np.ndarray:
        names = [str(name) for name in frame.columns]
        if self.names is not None and names != list(self.names):
            if sorted(names) != sorted(self.names):
                raise UserError(f"The train rows had the columns {', '.join(self.names)[:200]}. Received: "
                                f"{', '.join(names)[:200]}.")  # fmt: skip
            frame = frame.set_axis(names, axis=1)[list(self.names)]
        values = real_array(frame, "Pixels")
        if not self.in_bytes:
            return values
        if not ((values >= 0) & (values <= BYTE) & (values == np.floor(values))).all():
            raise UserError(
                "Pixels of the train rows are whole numbers from 0 to 255. Give such numbers in other rows too."
            )
        return values.astype(np.uint8)


def image_shape_of(text: str) -> tuple[int, ...]:
    """Parse a value of --image_shape: return (32, 32, 3) for "32,32,3" or "32x32x3".

    Raises `UserError` for anything except two or three sizes.
    """
    words = re.split("[,x]", text.strip().lower())
    sides = [int(word) if re.fullmatch(r"\s*\d{1,5}\s*", word) else 0 for word in words]
    if len(sides) not in (2, 3) or not 1 <= min(sides) <= max(sides) <= LARGEST_SIDE:
        raise UserError("--image_shape takes height,width or height,width,channels such as 32,32,3, or channels first "
                        f"such as 3,32,32. Received: {shown(text)}.")  # fmt: skip
    return tuple(sides)


def with_pixels(arrays: OwnArrays, text: str, where: str) -> tuple[OwnArrays, FlatPixels | None]:
    """Convert flat rows to images if `--image_shape` is given.

    Args:
        arrays: Inputs and labels.
        text: Value of --image_shape; "" leaves the arrays unchanged.
        where: Name of the data in error messages.

    Returns: The arrays with images as inputs, and the conversion for further rows (None if `text` is "").

    Raises `UserError` for rows that do not fit, for columns of text, and for data that are already images.
    """
    if not text:
        return arrays, None
    shape, x = image_shape_of(text), arrays.x
    if arrays.images or len(getattr(x, "shape", ())) > 2:
        what = "x".join(map(str, x.shape[1:]))
        raise UserError(f"{where} has rows of shape {what} already: leave out --image_shape. Received: "
                        f"--image_shape={text}.")  # fmt: skip
    if len(getattr(x, "shape", ())) == 2 and x.shape[1] != np.prod(shape):
        raise UserError(f"{where} has rows of {x.shape[1]} numbers, and images of {_text(shape)} have "
                        f"{np.prod(shape)}. Received: --image_shape={text}.")  # fmt: skip
    pixels = FlatPixels(shape)
    if hasattr(x, "iloc"):
        if odd := categorical(x):
            raise UserError(f"{where}: column {odd[0]} is no number, and so no pixel. Leave it out with "
                            f"--drop_columns={odd[0]}.")  # fmt: skip
        values = x.to_numpy()
        in_bytes = values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= BYTE
        pixels = FlatPixels(shape, tuple(map(str, x.columns)), bool(in_bytes))
    inputs = {name: pixels(part) for name in ("x", "x_test", "x_validation")
              if (part := getattr(arrays, name)) is not None}  # fmt: skip
    return dataclasses.replace(arrays, **inputs, images=True), pixels


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
