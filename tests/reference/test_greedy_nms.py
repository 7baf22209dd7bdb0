# SPDX-License-Identifier: BSD-3-Clause
"""The reference of batched non-maximum suppression, by hand."""

import math

import pytest
import torch

import reference
from reference.nms import overlap

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (2, 0, 6, 4), 1 / 3),
        ((0, 0, 4, 4), (1, 1, 3, 3), 0.25),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0.0),  # touch
        ((0, 0, 4, 4), (5, 5, 8, 8), 0.0),  # apart along both axes
        ((0, 0, 4, 0), (0, 0, 4, 0), 0.0),  # without area
        ((4, 4, 0, 0), (4, 4, 0, 0), 0.0),  # inverted
        ((0, 0, 4, 4), (0, 0, 4, NAN), NAN),
        ((0, 0, INF, 4), (0, 0, 4, 4), 0.0),
        ((0, 0, INF, 4), (0, 0, INF, 4), NAN),
    ],
)
def test_overlap(one, other, wanted):
    found = (overlap(one, other), overlap(other, one))
    assert found == pytest.approx((wanted, wanted), nan_ok=True)


def test_kept_boxes():
    boxes = torch.tensor([[[0, 0, 4, 4], [0, 0, 4, 3], [0, 0, 2, 3], [0, 0, 4, 4], [9, 9, 10, 10]]])
    scores = torch.tensor([[0.5, 0.9, 0.9, NAN, -INF]])
    groups = torch.tensor([[0, 0, 0, 1, 0]])

    def kept(threshold, max_out=6):
        indices, counts = reference.batched_nms(boxes, scores, groups, threshold, max_out)
        assert (indices[0, counts[0] :] == -1).all()
        return indices[0, : counts[0]].tolist()

    # 1 overlaps 0 by 12/16 and 2 by 6/12; 0 and 2 overlap by 6/16.
    assert kept(0.75) == [3, 1, 2, 0]
    assert kept(0.5) == [3, 1, 2]
    assert kept(0.4) == [3, 1]
    assert kept(0.75, max_out=3) == [3, 1, 2]
