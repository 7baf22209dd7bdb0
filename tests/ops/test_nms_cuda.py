# SPDX-License-Identifier: BSD-3-Clause
"""batched_nms on a GPU: torchvision's kept boxes to the last rounding, and no wait for the device.

The correctness suite has the definition, and that streams and graphs work.
"""

import pytest
import torch
from nms_cases import kept_by_torchvision, random_boxes

from dcnv2.ops import batched_nms, library

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (torch.cuda.is_available() and library.LIBRARIES["cuda"].loaded),
        reason="needs a GPU and the CUDA library",
    ),
]


# float32 rounds 0.3 and 0.6 up, 0.7 down; thirds and tenths are overlaps of whole boxes.
@pytest.mark.parametrize("iou_threshold", [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.6, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("whole", [False, True])
def test_kept_boxes_are_torchvisions(iou_threshold, dtype, whole):
    for seed in range(5):
        operands = random_boxes(2, 1000, groups=2, dtype=dtype, seed=seed, whole=whole)
        operands = [operand.cuda() for operand in operands]
        indices, counts = batched_nms(*operands, iou_threshold, 1000)
        for image, (row, count) in enumerate(zip(indices, counts, strict=True)):
            of_image = [operand[image] for operand in operands]
            wanted = kept_by_torchvision(*of_image, iou_threshold)
            assert row[:count].tolist() == wanted.tolist()
            assert (row[count:] == -1).all()


@pytest.mark.parametrize(("count", "max_out"), [(4741, 1000), (20_000, 100), (20_000, 6000)])
def test_many_boxes_are_processed_in_chunks(count, max_out):
    boxes, scores, groups = (t.cuda() for t in random_boxes(3, count, groups=5, extent=800))
    indices, counts = batched_nms(boxes, scores, groups, 0.7, max_out)
    for image in range(3):
        wanted = kept_by_torchvision(boxes[image], scores[image], groups[image], 0.7)[:max_out]
        assert indices[image, : counts[image]].tolist() == wanted.tolist()


def test_the_host_does_not_wait():
    operands = [operand.cuda() for operand in random_boxes(2, 5000)]
    batched_nms(*operands, 0.5, 1000)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batched_nms(*operands, 0.5, 1000)
    finally:
        torch.cuda.set_sync_debug_mode("default")
