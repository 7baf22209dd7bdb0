# SPDX-License-Identifier: BSD-3-Clause
"""Image files of every mode and orientation become the same RGB."""

import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, TiffTags
from spoiled_pictures import MAY_BE_READ, PICTURES, SIZE, encoded
from torch._utils import ExceptionWrapper

from dcnv2.data.images import BadImageError, probe, probe_all, read_rgb, to_rgb, write_png

WIDTH, HEIGHT = 6, 4
ORIENTATION_TAG = 0x0112


@pytest.fixture
def grey():
    return np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 10


@pytest.fixture
def rgb(grey):
    return np.stack([grey, 255 - grey, grey // 2], -1)


def test_grey_and_bilevel(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_rgb(tmp_path / "grey.png"), np.stack([grey] * 3, -1))
    Image.fromarray(grey > 100).save(tmp_path / "two.png")
    assert np.array_equal(read_rgb(tmp_path / "two.png")[..., 1], (grey > 100) * 255)


def test_palette_with_and_without_transparency(tmp_path, rgb):
    image = Image.fromarray(rgb).quantize(64)
    image.save(tmp_path / "palette.gif")
    image.save(tmp_path / "see_through.png", transparency=3)
    for name in ("palette.gif", "see_through.png"):
        assert np.abs(read_rgb(tmp_path / name).astype(int) - rgb).max() < 12


def test_alpha_is_dropped(tmp_path, rgb):
    Image.fromarray(np.dstack([rgb, np.full((HEIGHT, WIDTH), 9, np.uint8)])).save(
        tmp_path / "a.png"
    )
    assert np.array_equal(read_rgb(tmp_path / "a.png"), rgb)


def test_cmyk(tmp_path):
    Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red, green, blue = read_rgb(tmp_path / "red.jpg")[1, 1]
    assert red > 250
    assert max(green, blue) < 6


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path, grey, suffix):
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(grey.astype(np.uint16) * 256 + 77).save(path)
    assert np.array_equal(read_rgb(path), np.stack([grey] * 3, -1))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_deep_grey_keeps_the_highest_bits_in_use(tmp_path, grey, bits, suffix):
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(grey.astype(np.uint16) << (bits - 8)).save(path)
    assert np.array_equal(read_rgb(path)[..., 1], grey)


def test_deep_grey_has_an_even_number_of_bits():
    """A dark picture of 12 bits, whose brightest pixel needs 11."""
    deep = Image.fromarray(np.array([[1500, 0]], np.uint16))
    assert to_rgb(deep)[0, :, 0].tolist() == [1500 >> 4, 0]


def test_32_bit_grey(grey):
    signed = Image.fromarray((grey.astype(np.int32) << 22) - 1)
    expected = np.clip(grey.astype(int) - 1, 0, None)
    assert np.array_equal(to_rgb(signed)[..., 1], expected)


@pytest.mark.parametrize("scale", [1 / 255, 1, 257])
def test_float_grey(tmp_path, grey, scale):
    path = tmp_path / "float.tiff"
    Image.fromarray(grey.astype(np.float32) * np.float32(scale)).save(path)
    assert np.abs(read_rgb(path)[..., 1].astype(int) - grey).max() <= 1


def test_float_grey_that_is_not_finite_or_out_of_scale():
    values = np.array([[np.nan, -1, 0, 0.5, 1, 1.5, np.inf, -np.inf]], np.float32)
    assert to_rgb(Image.fromarray(values))[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255, 255, 0]
    nothing = np.full((2, 2), np.nan, np.float32)
    assert not to_rgb(Image.fromarray(nothing)).any()


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "RGBX", "YCbCr", "1"])
def test_other_modes_become_rgb(rgb, mode):
    converted = to_rgb(Image.fromarray(rgb).convert(mode))
    assert (converted.shape, converted.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert converted.any()


def test_the_first_frame_of_an_animation_is_read(tmp_path, rgb):
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    for name in ("a.png", "a.gif", "a.tiff", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        difference = read_rgb(tmp_path / name).astype(int) - rgb
        assert np.abs(difference).mean() < 30


def _upright(stored, orientation):
    return [
        *(stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1]),
        *(np.rot90(stored[:, ::-1]), np.rot90(stored, -1)),
        *(np.rot90(stored[::-1]), np.rot90(stored)),
    ][orientation - 1]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed_unless_annotations_were_made_without(
    tmp_path, rgb, orientation, suffix, mode
):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    path = tmp_path / f"turned.{suffix}"
    image = Image.fromarray(rgb).convert(mode)
    image.save(path, exif=exif)
    rgb = np.asarray(image.convert("RGB"))
    upright = _upright(rgb, orientation)
    assert np.array_equal(read_rgb(path), upright)
    assert np.array_equal(read_rgb(path, upright.shape[1::-1]), upright)
    probe(path, upright.shape[1::-1])
    if orientation >= 5:
        assert np.array_equal(read_rgb(path, (WIDTH, HEIGHT)), rgb)
        probe(path, (WIDTH, HEIGHT))
    for size in {(WIDTH, HEIGHT + 1), (HEIGHT, WIDTH + 1)}:
        with pytest.raises(BadImageError, match=r"image is .* annotated as"):
            probe(path, size)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "directory", [b"", b"MM\0*\0\0\0\x08\xff\xff\x01", b"II*\0\xff\xff\xff\xff"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_says_nothing(tmp_path, suffix, directory):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=b"Exif\0\0" + directory)
    assert read_rgb(path, (WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("value", ["six", (6, 6), 6.0, 77])
def test_orientations_of_a_wrong_type_or_value(tmp_path, value):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[ORIENTATION_TAG] = value
    kind = {str: TiffTags.ASCII, float: TiffTags.FLOAT}.get(type(value), TiffTags.SHORT)
    directory.tagtype[ORIENTATION_TAG] = kind
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.tiff", tiffinfo=directory)
    shape = read_rgb(tmp_path / "a.tiff").shape
    assert shape in ((HEIGHT, WIDTH, 3), (WIDTH, HEIGHT, 3))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_picture_is_named_whatever_pillow_raises(tmp_path, name):
    path = tmp_path / "damaged.png"
    path.write_bytes(PICTURES[name])
    errors = []
    for check in (read_rgb, lambda file: probe(file, decode=True)):
        try:
            check(path)
        except BadImageError as error:
            errors.append(str(error))
    assert len(errors) == 2 or (name in MAY_BE_READ and not errors)
    assert all(str(path) in text for text in errors)
    ((fault),) = probe_all([(path, SIZE)])
    assert fault is None or fault.kind == "broken image"


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    pipe, door, loop = (tmp_path / name for name in ("pipe.png", "socket.png", "loop.png"))
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(door))
        for path in (pipe, door, "/dev/zero"):
            with pytest.raises(BadImageError, match="not a regular file"):
                read_rgb(path)
    for path in (loop, tmp_path / ("n" * 300), "zero\0byte.png", "\ud800.png"):
        with pytest.raises(BadImageError, match="broken image"):
            read_rgb(path)
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    with pytest.raises(BadImageError, match="no such image"):
        read_rgb(tmp_path / "a.png" / "b.png")


def test_an_error_of_a_loader_process_is_its_message_alone(tmp_path):
    try:
        read_rgb(tmp_path / "none.png")
    except BadImageError:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(BadImageError) as caught:
        wrapper.reraise()
    assert str(caught.value) == f"{tmp_path / 'none.png'}: no such image file"


def test_an_image_without_pixels():
    with pytest.raises(BadImageError, match="no pixels"):
        to_rgb(Image.new("RGB", (0, 3)))


@pytest.mark.parametrize("check", [read_rgb, probe])
def test_faults_name_the_file(tmp_path, rgb, check):
    with pytest.raises(BadImageError, match=r"none\.png: no such image"):
        check(tmp_path / "none.png")
    with pytest.raises(BadImageError, match="no such image"):
        check(tmp_path)
    write_png(tmp_path / "a.png", rgb)
    with pytest.raises(BadImageError, match=r"a\.png: image is 6 x 4, annotated as 4 x 5"):
        check(tmp_path / "a.png", (4, 5))


def test_a_name_with_the_separators_of_windows_is_explained(tmp_path):
    with pytest.raises(BadImageError, match=r"no such image file; folders in a name end with /"):
        probe(f"{tmp_path}/train\\a.png")
    with pytest.raises(BadImageError, match=r"no such image file$"):
        probe(f"{tmp_path}/a.png")


def test_whole_files_are_not_decoded_to_be_checked(tmp_path, rgb, monkeypatch):
    write_png(tmp_path / "a.png", rgb)
    Image.fromarray(rgb).save(tmp_path / "a.jpg")
    Image.fromarray(rgb).save(tmp_path / "a.bmp")
    decoded = []
    monkeypatch.setattr(Image.Image, "load", lambda image: decoded.append(image.format))
    for name in ("a.png", "a.jpg", "a.bmp"):
        probe(tmp_path / name, (WIDTH, HEIGHT))
    assert set(decoded) == {"BMP"}


@pytest.mark.parametrize("width", [5, 200])
def test_png_of_one_and_of_many_blocks(tmp_path, width):
    pixels = np.random.default_rng(0).integers(0, 256, (150, width, 3), np.uint8)
    write_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()
    assert np.array_equal(read_rgb(tmp_path / "a.png"), pixels)


def _deep_png(path, pixels, exif=b""):
    """Writes uint16 [H, W, C] as a PNG, which Pillow cannot."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    kind = {2: 4, 3: 2, 4: 6}[channels]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        *([(b"eXIf", exif)] if exif else []),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_colour_keeps_the_highest_bits_in_use(tmp_path, rgb, bits, channels):
    """Of 12 bits, the high byte alone would be almost black."""
    whole = np.concatenate([rgb, rgb[..., :1]], axis=2)[..., :channels]
    deep = whole.astype(np.uint16) << (bits - 8)
    deep[..., -1] = 0xFFFF if channels != 3 else deep[..., -1]  # opaque
    path = tmp_path / "deep.png"
    _deep_png(path, deep)
    expected = rgb if channels > 2 else np.stack([rgb[..., 0]] * 3, axis=-1)
    assert np.array_equal(read_rgb(path), expected)
    with Image.open(path) as image:
        assert np.array_equal(to_rgb(image), expected)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BadImageError, match=r"deep\.png: broken image"):
        read_rgb(path)


def test_deep_colour_follows_its_orientation(tmp_path, rgb):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    path = tmp_path / "deep.png"
    _deep_png(path, rgb.astype(np.uint16) << 4, exif.tobytes()[6:])
    assert np.array_equal(read_rgb(path), _upright(rgb, 6))
    assert np.array_equal(read_rgb(path, (WIDTH, HEIGHT)), rgb), "annotated as stored"
