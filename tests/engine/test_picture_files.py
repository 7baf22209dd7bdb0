# SPDX-License-Identifier: BSD-3-Clause
"""Picture files as training, evaluation and prediction read them: turned, deep, damaged."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from toy_runs import toy_config

from dcnv2.data.coco import CocoDataset
from dcnv2.data.images import read_rgb
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.inference.predict import as_tensor, prediction_sheet
from dcnv2.engine.runtime.datasets import open_val

ORIENTATION_TAG, CLOCKWISE = 0x0112, 6


class OneBox(torch.nn.Module):
    """A detector that finds one object, as large as the image."""

    def forward(self, images):
        def found(height, width):
            box = torch.tensor([[0.0, 0.0, width, height]])
            mask = torch.ones(1, 1, height, width)
            return {"boxes": box, "labels": torch.ones(1, dtype=int), "scores": torch.ones(1)} | {
                "masks": mask
            }

        return [found(*image.shape[1:]) for image in images]


def _turned_set(root, size):
    """One image of 40 x 30 stored, to be turned by its EXIF orientation, annotated with `size`."""
    (root / "val").mkdir()
    (root / "annotations").mkdir()
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = CLOCKWISE
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(root / "val" / "a.png", exif=exif)
    width, height = size
    image = {"id": 1, "file_name": "a.png", "width": width, "height": height}
    polygon = [[2, 2, 20, 2, 20, 20]]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 18, 18], "iscrowd": 0}
    document = {
        "images": [image],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{**box, "area": 160, "segmentation": polygon}],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(document))
    return CocoDataset(root, "val"), pixels


@pytest.mark.parametrize("stored", [True, False])
def test_turned_images_are_drawn_as_they_are_annotated(tmp_path, stored):
    dataset, pixels = _turned_set(tmp_path, (40, 30) if stored else (30, 40))
    expected = pixels if stored else np.rot90(pixels, -1)
    item = dataset[0][0].permute(1, 2, 0).numpy()
    assert np.array_equal(item, expected)
    config = toy_config(tmp_path, tmp_path)
    predicted, truth = prediction_sheet(OneBox(), dataset, [0], config, torch.device("cpu"))
    times = 256 // 40
    for picture in (predicted[0], truth[0]):
        assert picture.shape[1:] == tuple(times * side for side in expected.shape[:2])


def test_validation_leaves_out_images_that_are_damaged_inside(tmp_path):
    root = write_shapes(tmp_path / "shapes", train=1, val=3, size=64)
    path = root / "images" / "val" / "000002.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    config = toy_config(root, tmp_path, data={"on_bad": "skip"})
    dataset = open_val(config.data, masks=False)
    assert dataset.skipped == {"broken image": 1}
    assert dataset.image_ids.tolist() == [1, 3]
    assert len([dataset[index] for index in range(len(dataset))]) == 2


def _write(mode):
    """Pictures whose pixels depend on how they are read, by mode."""
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (30, 40), np.uint8)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) << 4)  # 12 bits
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    return image.quantize(16) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "F"])
def test_a_file_and_its_pillow_image_are_the_same_tensor(tmp_path, mode):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = CLOCKWISE
    # Pillow itself scrambles uncompressed turned TIFF files that it opens by their path.
    path, options = tmp_path / "a.png", {}
    if mode in ("CMYK", "F"):
        path, options = tmp_path / "a.tiff", {"compression": "tiff_lzw"}
    _write(mode).save(path, exif=exif, **options)
    tensor = as_tensor(path)
    assert tensor.shape == (3, 40, 30)
    assert tensor.float().std() > 10, "not black"
    with Image.open(path) as image:
        assert torch.equal(as_tensor(image), tensor)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), read_rgb(path))


def test_images_without_pixels_are_rejected():
    for nothing in (Image.new("RGB", (0, 5)), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"no pixels|wanted pixels"):
            as_tensor(nothing)


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize(
    "change",
    [
        lambda rgb: rgb,
        lambda rgb: rgb.astype(np.float32) / 255,
        lambda rgb: rgb.astype(np.float64),
        lambda rgb: rgb.astype(np.uint16) << 4,
        lambda rgb: np.concatenate([rgb, rgb[..., :1]], axis=2),
    ],
)
def test_pixels_of_any_range_are_the_same_picture(kind, change):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    rgb[0, 0, 1] = 255
    pixels = change(rgb)
    image = torch.from_numpy(pixels).permute(2, 0, 1) if kind == "tensor" else pixels
    assert np.array_equal(as_tensor(image).permute(1, 2, 0).numpy(), rgb)


def test_grey_and_bilevel_pixels_become_rgb():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for pixels in (grey, grey[..., None], np.stack([grey, 255 - grey], axis=-1)):
        assert np.array_equal(as_tensor(pixels).numpy(), np.stack([grey] * 3))
    assert as_tensor(grey > 2)[0].tolist() == [[0, 0, 0], [255, 255, 255]]
    half = torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert as_tensor(half).unique().tolist() == [128]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.zeros((3, 20, 30), np.uint8),
            r"got uint8 \[3, 20, 30\]; the channels come last",
        ),
        (np.zeros((20, 30, 7), np.uint16), r"uint16 \[20, 30, 7\]; choose three of them"),
        (np.zeros((1, 3, 20, 30)), r"wanted pixels \[H, W\] or \[H, W, channels\]"),
        (np.zeros((2, 2, 3), complex), "wanted numbers, got complex128"),
        (np.full((2, 2), "x"), "wanted numbers, got <U1"),
        (torch.zeros(20, 30, 3), r"a tensor \[C, H, W\] with 1 to 4 channels, got \[20, 30, 3\]"),
        (torch.zeros(20, 30), r"a tensor \[C, H, W\]"),
    ],
)
def test_what_is_no_picture_is_named(pixels, message):
    with pytest.raises(ValueError, match=message):
        as_tensor(pixels)
