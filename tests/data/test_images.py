# SPDX-License-Identifier: BSD-3-Clause
"""Image files of every mode and orientation become the same RGB."""

import numpy as np
import pytest
from PIL import Image

from dcnv2.data.images import BadImageError, probe, read_rgb, write_png

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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(tmp_path, rgb, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(rgb).save(path, exif=exif)
    upright = [
        *(rgb, rgb[:, ::-1], rgb[::-1, ::-1], rgb[::-1]),
        *(np.rot90(rgb[:, ::-1]), np.rot90(rgb, -1), np.rot90(rgb[::-1]), np.rot90(rgb)),
    ][orientation - 1]
    assert np.array_equal(read_rgb(path), upright)
    assert np.array_equal(read_rgb(path, upright.shape[1::-1]), upright)
    probe(path, upright.shape[1::-1])


def test_orientation_is_not_followed_where_the_annotation_was_made_without(tmp_path, rgb):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "turned.png", (WIDTH, HEIGHT)), rgb)


@pytest.mark.parametrize("check", [read_rgb, probe])
def test_faults_name_the_file(tmp_path, rgb, check):
    with pytest.raises(BadImageError, match=r"none\.png: no such image"):
        check(tmp_path / "none.png")
    with pytest.raises(BadImageError, match="no such image"):
        check(tmp_path)
    write_png(tmp_path / "a.png", rgb)
    with pytest.raises(BadImageError, match=r"a\.png: image is 6 x 4, annotated as 4 x 5"):
        check(tmp_path / "a.png", (4, 5))


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
