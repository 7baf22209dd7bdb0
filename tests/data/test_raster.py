# SPDX-License-Identifier: BSD-3-Clause
"""Coverage of contours, and polygons that say a mask exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from dcnv2.data.raster import coverage, trace_polygons
from dcnv2.data.run_lengths import run_lengths


def test_coverage_of_a_rectangle_is_the_share_of_each_pixel():
    corners = np.array([[1.25, 1.0], [3.5, 1.0], [3.5, 2.5], [1.25, 2.5]])
    row = np.array([0, 0.75, 1, 0.5, 0])
    expected = np.stack([0 * row, row, row / 2, 0 * row])
    np.testing.assert_array_equal(coverage([corners], 4, 5), expected)
    np.testing.assert_array_equal(coverage([corners[::-1]], 4, 5), expected)


def test_a_contour_wound_the_other_way_cuts_a_hole():
    square = np.array([[1.0, 1], [6, 1], [6, 6], [1, 6]])
    hole = np.array([[2.0, 2], [2, 4], [5, 4], [5, 2]])
    assert coverage([square, hole], 8, 8).sum() == 25 - 6


def test_contours_outside_the_window_are_cut_at_its_border():
    corners = np.array([[-7.0, -5], [3, -5], [3, 90], [-7, 90]])
    expected = np.zeros((4, 6))
    expected[:, :3] = 1
    np.testing.assert_array_equal(coverage([corners], 4, 6), expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_traced_polygons_decode_to_the_mask_itself(seed, height, width):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    mask[seed % height, seed % width] = True
    polygons = trace_polygons(mask)
    if polygons is not None:
        codes = coco_mask.frPyObjects(polygons, height, width)
        np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(codes)), mask)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["##", "##"], 1),
        (["#.#", "#.#"], 2),
        (["###", "#.#", "###"], None),
        (["#.", ".#"], None),
        (["#####", "#...#", "#.#.#", "#...#", "#####"], None),
    ],
)
def test_only_masks_without_holes_and_touching_corners_have_polygons(rows, parts):
    mask = np.array([[cell == "#" for cell in row] for row in rows])
    polygons = trace_polygons(mask)
    assert (None if polygons is None else len(polygons)) == parts


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_run_lengths_are_coco_s(seed, share):
    mask = np.random.default_rng(seed).random((5, 7)) < share
    counts = run_lengths(mask)
    code = coco_mask.frPyObjects({"size": [5, 7], "counts": counts}, 5, 7)
    np.testing.assert_array_equal(coco_mask.decode(code), mask)
    assert all(count > 0 for count in counts[1:])
