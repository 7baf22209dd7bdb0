# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2 data browse`: pictures as stored and as augmented, and a page that needs no other file."""

import re

import numpy as np
import pytest
from PIL import Image

from dcnv2 import cli
from dcnv2.data.shapes import write_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    return write_shapes(root, train=5, val=2, size=64, classes=["ring", "star"])


def test_pictures_and_page(shapes, tmp_path, capsys):
    config = tmp_path / "row.yaml"
    config.write_text("data: {flip: 1.0, mosaic: 0.5}\n")
    out = tmp_path / "out"
    words = ["--out", str(out), "--images=3", "--config", str(config)]
    assert cli.main(["data", "browse", str(shapes), *words]) == 0
    assert str(out / "index.html") in capsys.readouterr().out
    assert len(list((out / "train").glob("*_stored.png"))) == 3
    assert len(list((out / "val").glob("*_augmented.png"))) == 2
    page = (out / "index.html").read_text()
    assert len(re.findall('src="data:image/jpeg;base64,[A-Za-z0-9+/=]{200,}"', page)) == 10
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for text in ("ring", "star", "image width", "64 x 64, ", "boxes_sticking_out"):
        assert text in page


def test_augmented_pictures_are_those_of_the_configuration(shapes, tmp_path):
    """Flipped twice, the pixels away from labels are the stored ones."""
    config = tmp_path / "row.yaml"
    config.write_text("data: {flip: 1.0}\n")
    words = ["--out", str(tmp_path), "--images=1", "--config", str(config), "--no-masks"]
    assert cli.main(["data", "browse", str(shapes), "val", *words]) == 0
    pixels = []
    for kind in ("stored", "augmented"):
        with Image.open(next((tmp_path / "val").glob(f"*_{kind}.png"))) as picture:
            pixels.append(np.asarray(picture))
    equal = (pixels[0] == pixels[1][:, ::-1]).all(axis=2)
    assert 0.5 < equal.mean() < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images=0"], "wanted a number of at least 1, got 0"),
        (["--images=x"], "wanted a number of at least 1, got x"),
    ],
)
def test_bad_options(shapes, words, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "browse", str(shapes), *words])
    assert message in capsys.readouterr().err


def test_names_are_text_on_the_page_and_damaged_images_are_named(tmp_path, capsys):
    root = write_shapes(tmp_path / "set", train=1, val=2, size=64, classes=["ring"])
    file = root / "annotations/instances_val.json"
    file.write_text(file.read_text().replace('"ring"', '"<script>x</script>"'))
    first = sorted((root / "images/val").iterdir())[0]
    content = bytearray(first.read_bytes())
    content[200:300] = bytes(100)
    first.write_bytes(content)
    assert cli.main(["data", "browse", str(root), "val", "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out/index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert f"{first}: broken image" in page
