# SPDX-License-Identifier: BSD-3-Clause
"""Run-length codes are read as pycocotools reads them; far polygons are cut, not walked along."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from dcnv2.data.polygons import polygon_fault
from dcnv2.data.run_lengths import parse_codes
from dcnv2.data.segmentation import box_code, encode

SIZE = (40, 30)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_codes_are_parsed_as_pycocotools_decodes_them(share):
    rng = np.random.default_rng(3)
    masks = rng.random((SIZE[1], SIZE[0], 5)) < share
    masks[..., 2] = False
    codes = coco_mask.encode(np.asfortranarray(masks, np.uint8))
    runs, owner = parse_codes([code["counts"] for code in codes])
    for number in range(5):
        own = runs[owner == number]
        bits = np.repeat(np.arange(len(own)) % 2, own)
        np.testing.assert_array_equal(bits.reshape(SIZE).T, masks[..., number])


def test_no_codes_have_no_runs():
    runs, owner = parse_codes([])
    assert len(runs) == len(owner) == 0


def _mask(polygon):
    code, faults = encode([polygon], SIZE)
    assert not faults
    return coco_mask.decode({"size": [SIZE[1], SIZE[0]], "counts": code}).astype(bool)


@pytest.mark.parametrize("far", [1e3, 1e8, 3e9, 1e15])
def test_polygons_that_reach_far_are_those_with_exact_edges(far):
    """A wedge from (0, 15) whose edges meet the right border at rows 5 and 25."""
    mask = _mask([0.0, 15.0, far, 15 - far / 4, far, 15 + far / 4])
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    depth = x / 4 - abs(y - 15)
    assert mask[depth > 1].all()
    assert not mask[depth < -1].any()


@pytest.mark.parametrize("far", [1e8, 3e9])
@pytest.mark.parametrize("turn", range(4))
def test_a_polygon_around_the_picture_covers_it(far, turn):
    corners = np.array([[-far, -far], [far, -far], [far, far], [-far, far]])
    assert _mask(np.roll(corners, turn, axis=0).ravel().tolist()).all()


def test_polygons_that_stick_out_a_little_are_not_cut():
    polygon = [-30.0, 3.0, 75.0, 8.0, 20.0, 55.0]
    wanted = coco_mask.decode(coco_mask.frPyObjects([polygon], SIZE[1], SIZE[0]))[..., 0]
    np.testing.assert_array_equal(_mask(polygon), wanted)


@pytest.mark.parametrize("box", [[5, 4, 20, 16], [-1e9, 4, 2e9, 16], [30, 20, 3e9, 3e9]])
def test_boxes_become_regions_inside_the_picture(box):
    code = {"size": [SIZE[1], SIZE[0]], "counts": box_code(box, SIZE)}
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[0] + box[2], SIZE[0]), min(box[1] + box[3], SIZE[1])
    assert coco_mask.toBbox(code).tolist() == [left, top, right - left, bottom - top]


@pytest.mark.parametrize(
    ("polygon", "what"),
    [
        ([0, 0, 9, 0, 9, 9, 5], "7 coordinates are an odd count"),
        ([0, 0, 9, 9], "2 points"),
        ([0, 0, 9, 0, 9, float("nan")], "not a finite number"),
        ([0, 0, 9, 0, 9, True], "not a finite number"),
        ("0 0 9 0 9 9", "wanted a list"),
    ],
)
def test_polygons_that_are_none_say_why(polygon, what):
    assert what in polygon_fault(polygon)
