# SPDX-License-Identifier: BSD-3-Clause
"""batched_nms on each path: torchvision's kept boxes, its results' form, and how it can be called.

The correctness suite has the definition, its identities, padding and non-finite numbers.
"""

import pytest
import torch
from nms_cases import kept_by_torchvision, random_boxes

from dcnv2.ops import batched_nms

pytestmark = pytest.mark.usefixtures("path")


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 1 / 3, 0.5, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("whole", [False, True])
def test_kept_boxes_are_torchvisions(iou_threshold, dtype, whole):
    boxes, scores, groups = random_boxes(3, 60, dtype=dtype, whole=whole)
    indices, counts = batched_nms(boxes, scores, groups, iou_threshold, 60)
    for image, (row, count) in enumerate(zip(indices, counts, strict=True)):
        wanted = kept_by_torchvision(boxes[image], scores[image], groups[image], iou_threshold)
        assert row[:count].tolist() == wanted.tolist()
        assert (row[count:] == -1).all()


def test_operands_of_any_strides_give_the_same():
    boxes, scores, groups = random_boxes(2, 60)
    wanted = batched_nms(boxes, scores, groups, 0.5, 9)
    strided = batched_nms(
        boxes.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        scores.mT.contiguous().mT,
        groups.mT.contiguous().mT,
        0.5,
        9,
    )
    torch.testing.assert_close(strided, wanted)
    shared = batched_nms(boxes, scores, groups[:1].expand(2, -1), 0.5, 9)
    copied = batched_nms(boxes, scores, groups[:1].repeat(2, 1), 0.5, 9)
    torch.testing.assert_close(shared, copied)


def test_results_take_no_part_in_autograd():
    boxes, scores, groups = random_boxes(2, 60)
    results = batched_nms(boxes.requires_grad_(), scores.requires_grad_(), groups, 0.5, 9)
    assert not any(result.requires_grad for result in results)


def test_options_may_be_numbers_of_other_libraries():
    numpy = pytest.importorskip("numpy")
    operands = random_boxes(2, 60)
    results = batched_nms(*operands, numpy.float32(0.5), numpy.int64(9))
    torch.testing.assert_close(results, batched_nms(*operands, 0.5, 9))


def test_an_exported_program_takes_any_number_of_boxes():
    class Model(torch.nn.Module):
        def forward(self, boxes, scores, groups):
            return batched_nms(boxes, scores, groups, 0.5, 9)

    operands, count = random_boxes(2, 60), torch.export.Dim("count", min=2)
    shapes = ({1: count}, {1: count}, {1: count})
    program = torch.export.export(Model(), operands, dynamic_shapes=shapes).module()
    torch.testing.assert_close(program(*operands), batched_nms(*operands, 0.5, 9))
    fewer = tuple(operand[:, :13] for operand in operands)
    torch.testing.assert_close(program(*fewer), batched_nms(*fewer, 0.5, 9))
