# SPDX-License-Identifier: BSD-3-Clause
"""The embedded set: the same everywhere, exact, and as various as it claims."""

import hashlib
import inspect
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from dcnv2.data import render
from dcnv2.data.coco import CocoDataset
from dcnv2.data.raster import coverage
from dcnv2.data.shape_contours import CONTOURS, deform, place, sine
from dcnv2.data.shapes import CLASSES, MIN_VISIBLE, draw_picture, write_shapes

PICTURES = 60
WARP = inspect.signature(write_shapes).parameters["warp"].default


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=PICTURES, val=4, size=96, seed=3)


@pytest.fixture(scope="module")
def train(folder):
    return json.loads((folder / "annotations" / "instances_train.json").read_text())


def _digest(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def test_these_bytes_come_from_this_seed_on_every_machine(tmp_path):
    write_shapes(tmp_path, train=6, val=2, size=80, seed=11)
    assert (
        _digest(tmp_path) == "db30edb68198c7e9a1ec2f5a447a374b79437b80979ca7cc673b51c6be007858"
    ), "the drawing changed: raise shapes.VERSION and renew this digest"


def test_a_picture_does_not_depend_on_how_many_are_drawn(folder, tmp_path):
    write_shapes(tmp_path, train=3, val=0, size=96, seed=3)
    for path in (tmp_path / "images" / "train").iterdir():
        assert path.read_bytes() == (folder / "images" / "train" / path.name).read_bytes()


def test_seed_and_split_change_the_pictures():
    draws = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    pictures = [draw_picture(stream, 64, range(8), WARP)[0].tobytes() for stream in draws]
    assert len(set(pictures)) == len(draws)


def test_boxes_and_areas_are_those_of_the_visible_pixels(folder):
    truth = COCO(folder / "annotations" / "instances_train.json")
    assert len(truth.anns) > PICTURES
    for annotation in truth.anns.values():
        mask = truth.annToMask(annotation)
        code = coco_mask.encode(np.asfortranarray(mask))
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == coco_mask.toBbox(code).tolist()


def test_masks_are_the_drawn_ones_and_do_not_overlap():
    for index in range(20):
        _, instances = draw_picture((5, 0, index), 96, range(8), WARP)
        covered = np.sum([instance.mask for instance in instances], axis=0)
        assert np.max(covered, initial=0) <= 1
        for instance in instances:
            assert instance.mask.sum() >= MIN_VISIBLE * instance.pixels > 0


def test_written_masks_are_the_drawn_ones(folder):
    dataset = CocoDataset(folder, "train", crowd=True)
    for index in range(len(dataset)):
        pixels, instances = draw_picture((3, 0, index), 96, range(8), WARP)
        image, target = dataset[index]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
        assert target["labels"].tolist() == [instance.label + 1 for instance in instances]
        assert np.array_equal(
            target["masks"].dense().numpy(),
            np.array([instance.mask for instance in instances]).reshape(-1, 96, 96),
        )


def test_every_form_of_segmentation_and_kind_of_picture_occurs(train):
    forms = Counter()
    for annotation in train["annotations"]:
        segmentation = annotation["segmentation"]
        form = "polygons" if isinstance(segmentation, list) else type(segmentation["counts"])
        forms[form, annotation["iscrowd"]] += 1
    assert set(forms) == {("polygons", 0), (str, 0), (list, 1)}
    with_objects = {annotation["image_id"] for annotation in train["annotations"]}
    assert 0 < len(train["images"]) - len(with_objects) < PICTURES / 4
    assert {annotation["category_id"] for annotation in train["annotations"]} == set(range(1, 9))


def test_objects_have_the_promised_sizes():
    sides = []
    for index in range(40):
        _, instances = draw_picture((0, 0, index), 128, range(8), WARP)
        assert len([instance for instance in instances if not instance.crowd]) <= 4
        for instance in instances:
            if instance.pixels == instance.mask.sum() and not instance.crowd:
                rows, columns = np.nonzero(instance.mask)
                sides.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert max(sides) <= 81
    assert np.quantile(sides, 0.05) >= 20


def test_info_names_seed_and_version(train):
    assert train["info"]["seed"] == 3
    assert train["info"]["version"]


def test_classes_can_be_chosen_and_ordered(tmp_path):
    write_shapes(tmp_path, train=12, val=0, size=64, classes=["worm", "ring"])
    dataset = CocoDataset(tmp_path, "train")
    assert dataset.names == ["worm", "ring"]
    assert set(dataset.table.labels.tolist()) == {1, 2}
    label = CLASSES.index("worm")
    _, instances = draw_picture((0, 0, 0), 64, [label, CLASSES.index("ring")], WARP)
    drawn = [1 if instance.label == label else 2 for instance in instances]
    assert dataset.table.labels[dataset.table.rows(0)].tolist() == drawn


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"classes": ["ring", "square"]}, "square"),
        ({"classes": ["ring", "ring"]}, "ring"),
        ({"classes": []}, "classes"),
        ({"size": 40}, "size"),
        ({"warp": 1.5}, "warp"),
        ({"warp": float("nan")}, "warp"),
        ({"train": -1}, "train"),
    ],
)
def test_options_out_of_range_are_named(tmp_path, options, named):
    with pytest.raises(ValueError, match=named):
        write_shapes(tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_pngs_are_read_as_they_were_written(folder):
    path = folder / "images" / "val" / "000001.png"
    pixels, _ = draw_picture((3, 1, 0), 96, range(8), WARP)
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_sine_is_exact_to_eleven_digits():
    turns = np.linspace(-3, 3, 4001)
    np.testing.assert_allclose(sine(turns), np.sin(2 * np.pi * turns), atol=1e-11)


@pytest.mark.parametrize("name", CLASSES)
def test_outlines_are_placed_where_they_should_be_and_do_not_cross_themselves(name):
    rng = np.random.default_rng(1)
    for _ in range(10):
        draws = rng.random(16)
        shape = deform(CONTOURS[name](draws[:4]), draws[4:13], 1.0)
        placed, inverse = place(shape, 50, (40, 30), draws[13:])
        low, high = placed[0].min(0), placed[0].max(0)
        assert (high - low).max() == pytest.approx(50)
        np.testing.assert_allclose((low + high) / 2, [40, 30])
        back = placed[0] @ inverse[:, :2].T + inverse[:, 2]
        np.testing.assert_allclose(back, shape[0], atol=1e-9)
        # Coverage takes the union of what an contour covers; its area is signed. They agree only
        # where the contour is simple.
        area = sum(_signed_area(points) for points in placed)
        assert coverage(placed, 70, 80).sum() == pytest.approx(abs(area), rel=0.01)


def _signed_area(points):
    x, y = points.T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def test_pictures_are_float32_on_the_way():
    rng = np.random.default_rng(0)
    picture = render.background(rng, 64)
    colours = render.vivid_colours(rng, picture[0, :2])
    assert picture.dtype == colours.dtype == np.float32
    render.render_shape(picture, np.ones((9, 8), np.float32), np.eye(2, 3), (5, 6), colours, rng)
    assert picture.dtype == np.float32
