# SPDX-License-Identifier: BSD-3-Clause
"""batched_nms on each path: torchvision's kept boxes, its results' form, and how it can be called.

The correctness suite has the definition, its identities, padding and non-finite numbers.
"""

import pytest
import torch
import torchvision
from op_cases import generator

from dcnv2.ops import batched_nms

pytestmark = pytest.mark.usefixtures("path")


def _operands(batch=2, count=60, groups=3, dtype=torch.float32, seed=0):
    """Return boxes, scores, groups of random boxes, many of which overlap."""
    random = generator(seed)
    corners = torch.rand(batch, count, 2, generator=random, dtype=torch.float64) * 20
    sizes = torch.rand(batch, count, 2, generator=random, dtype=torch.float64) * 15
    scores = torch.rand(batch, count, generator=random, dtype=torch.float64)
    boxes = torch.cat([corners, corners + sizes], 2)
    group = torch.randint(groups, (batch, count), generator=random)
    return boxes.to(dtype), scores.to(dtype), group


def _torchvisions(boxes, scores, groups, iou_threshold):
    """Return the kept indices of one image, by torchvision's nms of one group after the other."""
    kept = torch.zeros(len(scores), dtype=torch.bool)
    for group in groups.unique():
        index = (groups == group).nonzero().squeeze(1)
        kept[index[torchvision.ops.nms(boxes[index], scores[index], iou_threshold)]] = True
    order = scores.sort(descending=True, stable=True).indices
    return order[kept[order]]


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_kept_boxes_are_torchvisions(iou_threshold, dtype, seed):
    boxes, scores, groups = _operands(dtype=dtype, seed=seed)
    if seed == 2:  # exact ties of overlaps and of scores
        boxes, scores = boxes.round(), (8 * scores).round()
    indices, counts = batched_nms(boxes, scores, groups, iou_threshold, 60)
    for image, (row, count) in enumerate(zip(indices, counts, strict=True)):
        wanted = _torchvisions(boxes[image], scores[image], groups[image], iou_threshold)
        assert row[:count].tolist() == wanted.tolist()
        assert (row[count:] == -1).all()


def test_operands_of_any_strides_give_the_same():
    boxes, scores, groups = _operands()
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
    boxes, scores, groups = _operands()
    results = batched_nms(boxes.requires_grad_(), scores.requires_grad_(), groups, 0.5, 9)
    assert not any(result.requires_grad for result in results)


def test_options_may_be_numbers_of_other_libraries():
    numpy = pytest.importorskip("numpy")
    operands = _operands()
    results = batched_nms(*operands, numpy.float32(0.5), numpy.int64(9))
    torch.testing.assert_close(results, batched_nms(*operands, 0.5, 9))


def test_an_exported_program_takes_any_number_of_boxes():
    class Model(torch.nn.Module):
        def forward(self, boxes, scores, groups):
            return batched_nms(boxes, scores, groups, 0.5, 9)

    operands, count = _operands(), torch.export.Dim("count", min=2)
    shapes = ({1: count}, {1: count}, {1: count})
    program = torch.export.export(Model(), operands, dynamic_shapes=shapes).module()
    torch.testing.assert_close(program(*operands), batched_nms(*operands, 0.5, 9))
    fewer = tuple(operand[:, :13] for operand in operands)
    torch.testing.assert_close(program(*fewer), batched_nms(*fewer, 0.5, 9))
