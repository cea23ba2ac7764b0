"""Reader of picture files (JPEG, PNG, TIFF, ...) in all colour modes, as float32 arrays on the scale 0..255.

Pillow is imported when the first picture is opened, because every command imports this module for its constants.

| in the file | becomes |
|---|---|
| EXIF orientation | applied: the picture is oriented as in a viewer |
| 16 bits per sample (grey) | divided by 257, so that 65,535 is 255 |
| floating-point samples | multiplied by 255; samples outside [0, 1] are refused, because their scale is not known |
| palette, 1 bit, CMYK, YCbCr | converted by Pillow to RGB; CMYK: R = (255 - C) · (255 - K) / 255, likewise G and B |
| transparency | composited over white; kept if four channels are requested |
| colour, if grey is requested | .299 R + .587 G + .114 B (ITU-R BT.601) |
| several frames | the first one |
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from linearized.base.reading import opened
from linearized.base.shapes import Float32

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM")  # no decoder starts a program
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff",
            ".pbm", ".pgm", ".ppm", ".pnm")  # fmt: skip
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
FILE_LIMIT = 2**30  # bytes
PIXEL_LIMIT = 2**27  # 134 million, about 11,600 x 11,600: half a GiB in RGBA
_DEEP = ("I", "F")  # 32 bits per sample; modes that begin with "I;" have 16
_GREY = ("1", "L", "LA", "La")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and those of its values that exchange height and width
_pillow_limit = threading.Lock()


class Head(NamedTuple):
    """Properties of a picture that the header of its file contains.

    Attributes:
        height, width: Size in pixels as a viewer shows the picture, after the rotation in the EXIF data of the file.
        grey: Whether the picture has no colour. Palettes count as colour.
        deep: Whether the picture has more than 8 bits per sample.
    """

    height: int
    width: int
    grey: bool
    deep: bool


def read_head(path: Path | str, advice: str = "") -> Head:
    """Return properties of the picture in a file from the header, without decoding the pixels.

    Args:
        path: File of the picture.
        advice: Sentence at the end of error messages that says what to do.

    Raises `Absent` for a missing file and `Unreadable` for a file that is not a picture or has more than `PIXEL_LIMIT`
    pixels.
    """
    with _checked(path, advice) as image:
        return head_of(image)


def head_of(image: Any) -> Head:
    """Return properties of a picture that Pillow has opened (a `PIL.Image.Image`), without decoding the pixels."""
    turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    return Head(height, width, image.mode in _GREY or _is_deep(image), _is_deep(image))


def read_image(path: Path | str, shape: tuple[int, int, int], advice: str = "") -> Float32[np.ndarray, "h w c"]:
    """Return the picture in a file as an array of the given shape, on the scale 0..255.

    The picture is resized by bilinear interpolation over the area that each pixel covers (Pillow's `BILINEAR`). The
    aspect ratio is not preserved.

    Args:
        path: File of the picture.
        shape: (height, width, channels) of the result; 1 channel is grey, 3 are RGB, 4 are RGB and opacity.
        advice: Sentence at the end of error messages that says what to do.

    Raises `Absent` for a missing file and `Unreadable` for a file that is not a picture, is truncated, or has more than
    `PIXEL_LIMIT` pixels.
    """
    with _checked(path, advice) as image:
        return pixels_of(image, shape)


def pixels_of(image: Any, shape: tuple[int, int, int]) -> Float32[np.ndarray, "h w c"]:
    """Convert a picture that Pillow has opened to an array of the given shape, on the scale 0..255.

    Args:
        image: The opened picture (a `PIL.Image.Image`).
        shape: (height, width, channels) of the result; 1 channel is grey, 3 are RGB, 4 are RGB and opacity.

    Raises `ValueError` for samples whose scale is not known, and Pillow's exceptions while decoding.
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    image = ImageOps.exif_transpose(image)
    if _is_deep(image):
        grey = _deep(image).resize((width, height), Image.Resampling.BILINEAR)
        planes = [np.asarray(grey, np.float32).clip(0, 255)] * min(channels, 3)
        planes += [np.full((height, width), 255, np.float32)] if channels == 4 else []
        return np.stack(planes, axis=-1)
    small = _in_mode(image, MODES[channels]).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).reshape(shape)


@contextlib.contextmanager
def _checked(path: Path | str, advice: str) -> Iterator[Any]:
    """Open a picture with Pillow for a `with` block; exceptions raised in the block become `Unreadable`.

    Args:
        path: File of the picture; one of more than `PIXEL_LIMIT` pixels is refused.
        advice: Sentence at the end of error messages that says what to do.
    """
    with (
        warnings.catch_warnings(action="ignore"),  # about damaged metadata, which is not read
        opened(path, "a picture", advice, limit=FILE_LIMIT) as file,
        _opened_by_pillow(file) as image,
    ):
        if image.width * image.height > PIXEL_LIMIT:
            raise ValueError(f"it has {image.width} x {image.height} pixels, more than {PIXEL_LIMIT:,}")
        yield image


def _is_deep(image: Any) -> bool:
    """Return whether a picture has more than 8 bits per sample."""
    return image.mode in _DEEP or image.mode.startswith("I;")


def _opened_by_pillow(file) -> Any:
    """Open the picture in an open file with Pillow's own limit on the number of pixels switched off.

    Pillow's error does not state the size of the picture. The caller compares the size with `PIXEL_LIMIT` instead.
    """
    from PIL import Image

    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            Image.init()  # the plugins of all formats, which Pillow may load lazily
            return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _deep(image: Any) -> Any:
    """Convert a grey picture of 16 or 32 bits per sample to floating-point samples on the scale 0..255.

    Transparent pixels of 16 bits become white.

    Raises ValueError for samples whose scale is not known.
    """
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"its floating-point samples reach from {low:g} to {high:g}; [0, 1] is read")
        return Image.fromarray(values * np.float32(255))
    if image.mode == "I" and not (values.min() >= 0 and values.max() <= 65_535):
        raise ValueError(f"its samples reach from {values.min():g} to {values.max():g}; 8 and 16 bits are read")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        values[values == clear] = 65_535  # white, like other transparent pixels
    return Image.fromarray(values / np.float32(257))


def _in_mode(image: Any, mode: str) -> Any:
    """Convert a picture of 8 bits per sample to another colour mode of Pillow.

    Args:
        image: The picture.
        mode: "L" (grey), "RGB" or "RGBA" (with opacity). Except in RGBA, transparent pixels become white.
    """
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert(mode)
    clear = image.convert("RGBA")
    if mode == "RGBA":
        return clear
    white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, clear).convert("RGB").convert(mode)
