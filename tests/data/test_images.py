"""Pictures of every mode come out as a viewer shows them; whatever is no picture is one line with the file's name."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from linearized.base.reading import Unreadable
from linearized.data.images import read_image

RAMP = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
EIGHT = (RAMP / 257).round().astype(np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "ten_bits.pgm", "float.tif", "int.tif"])
def test_deep_grey_is_scaled_by_its_own_range(tmp_path, name, channels):
    path = tmp_path / name
    if name == "a.pgm":
        path.write_bytes(b"P5 32 32 65535\n" + RAMP.astype(">u2").tobytes())
    elif name == "ten_bits.pgm":
        path.write_bytes(b"P5 32 32 1023\n" + (RAMP // 64).astype(">u2").tobytes())
    elif name == "float.tif":
        Image.fromarray((RAMP / 65535).astype(np.float32)).save(path)
    else:
        Image.fromarray(RAMP.astype(np.int32) if name == "int.tif" else RAMP).save(path)
    read = read_image(path, (32, 32, channels))
    assert read.shape == (32, 32, channels) and read.dtype == np.float32
    np.testing.assert_allclose(read[..., 0], RAMP / 257, atol=0.3)
    np.testing.assert_allclose(read[..., -1], 255 if channels == 4 else read[..., 0], atol=1e-3)
    small = read_image(path, (4, 4, 1))  # also when its size is changed
    assert abs(small.mean() / 255 - 0.5) < 0.01


@pytest.mark.parametrize("values", [np.full((4, 4), 1.5), np.full((4, 4), np.nan), np.full((4, 4), -0.5)])
def test_floats_of_unknown_scale_are_refused_by_their_range(tmp_path, values):
    path = saved(tmp_path / "a.tif", Image.fromarray(values.astype(np.float32)))
    with pytest.raises(Unreadable, match=r"a\.tif .*samples reach from .* to .*\[0, 1\] is read"):
        read_image(path, (4, 4, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_orientation_is_applied_once(tmp_path, orientation, suffix):
    upright = np.zeros((8, 8), np.uint8)  # as a viewer shows it; turned back for each orientation by its definition
    upright[0, :6] = upright[:, 0] = 255
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
              6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1)}[orientation]  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    exif = image.getexif()
    exif[274] = orientation
    options = {"exif": exif if suffix == "tif" else exif.tobytes(), **({"lossless": True} if suffix == "webp" else {})}
    path = saved(tmp_path / f"a.{suffix}", image, **options)
    np.testing.assert_array_equal(read_image(path, (8, 8, 1))[..., 0], upright)


def test_a_jpeg_taken_upside_down_stands_upright(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[274] = 3
    read = read_image(saved(tmp_path / "a.jpg", image, exif=exif), (32, 32, 1))
    assert read[:14].max() < 5 and read[18:].min() > 250


def grey_ramp(mode):
    return Image.fromarray(EIGHT).convert(mode)


@pytest.mark.parametrize(
    "name, image",
    [
        ("L.png", grey_ramp("L")),
        ("RGB.png", grey_ramp("RGB")),
        ("P.png", grey_ramp("P")),
        ("P.gif", grey_ramp("P")),
        ("CMYK.tif", grey_ramp("CMYK")),
        ("LA.png", grey_ramp("LA")),
        ("RGBA.png", grey_ramp("RGBA")),
        ("I16.png", Image.fromarray(EIGHT.astype(np.uint16) * 257)),
        ("RGB.bmp", grey_ramp("RGB")),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_of_the_same_picture_reads_the_same(tmp_path, name, image, channels):
    read = read_image(saved(tmp_path / name, image), (32, 32, channels))
    np.testing.assert_allclose(read[..., 0], EIGHT, atol=3.0 if name.startswith("P") else 1.0)  # 256 colours in P
    if channels == 4:
        np.testing.assert_array_equal(read[..., 3], 255)


def test_one_bit_is_black_and_white(tmp_path):
    read = read_image(saved(tmp_path / "a.png", Image.fromarray(EIGHT > 100)), (32, 32, 1))
    np.testing.assert_array_equal(read[..., 0], 255.0 * (EIGHT > 100))


def test_transparent_parts_are_white_and_kept_in_four_channels(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (200, 0, 0, 255)
    pixels[:4, 4:] = (0, 100, 0, 128)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    read = read_image(path, (8, 8, 3))
    np.testing.assert_array_equal(read[0, 0], [200, 0, 0])
    np.testing.assert_array_equal(read[-1, -1], [255, 255, 255])
    expected = np.array([0, 100, 0]) * 128 / 255 + 255 * 127 / 255
    np.testing.assert_allclose(read[0, -1], expected, atol=1)
    np.testing.assert_array_equal(read_image(path, (8, 8, 4)), pixels)
    palette = Image.fromarray(np.repeat([[0, 1]], 8, 0).astype(np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    read = read_image(saved(tmp_path / "p.png", palette, transparency=1), (8, 2, 3))
    np.testing.assert_array_equal(read[0], [[10, 20, 30], [255, 255, 255]])
    deep = Image.fromarray(np.full((4, 4), 1000, np.uint16))
    png = bytearray(saved(tmp_path / "t.png", deep).read_bytes())
    chunk = b"tRNS" + (1000).to_bytes(2, "big")
    png[33:33] = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "t.png").write_bytes(png)
    np.testing.assert_array_equal(read_image(tmp_path / "t.png", (4, 4, 1)), 255)


@pytest.mark.parametrize("suffix", ["gif", "png", "tif"])
def test_the_first_of_several_frames_is_taken(tmp_path, suffix):
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (50, 200)]
    path = saved(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path, (8, 8, 1)), 50)


def png_header(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_picture_of_huge_size_is_refused_by_its_size(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(png_header(20_000, 20_000))
    with pytest.raises(Unreadable, match=r"a\.png .*20000 x 20000 pixels.*Remove it\."):
        read_image(tmp_path / "a.png", (8, 8, 3), "Remove it.")
    assert limit == Image.MAX_IMAGE_PIXELS  # the limit of others is as it was


def truncated(format, **options):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, format, **options)
    return file.getvalue()[:-100]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        b"P6 8 8\nxx",
        b"P5 8",
        b"P6 99999999999 8 255\n",
        b"P6 2 2 0\n123456789012",
        b"P2 2 2 255\n1 2 x 4",
        png_header(0, 5),
        png_header(5, 5),
        *(truncated(name) for name in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # another program would be started for it
    ],
)
def test_what_is_no_picture_is_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Unreadable, match=r"a\.png is damaged or not a picture \(") as caught:
        read_image(tmp_path / "a.png", (8, 8, 3))
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="is a pipe"):
        read_image(tmp_path / "a.png", (8, 8, 3))
