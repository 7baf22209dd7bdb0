# SPDX-License-Identifier: BSD-3-Clause
"""deform_roi_pool and deform_psroi_pool on each path: values, memory, and boxes that are none.

The correctness suite has every other property: dtypes, layouts, identities, non-finite offsets.
"""

import pytest
import torch
from op_cases import gradients, pool_operands

import reference
from dcnv2.ops import deform_psroi_pool, deform_roi_pool
from dcnv2.ops.portable import pool

pytestmark = pytest.mark.usefixtures("path")

NAN, INF = float("nan"), float("inf")


def _roi(operands, op=deform_roi_pool):
    return op(*operands, (3, 4), 0.5, 0, 0.2)


def _psroi(operands, op=deform_psroi_pool):
    return op(*operands, 3, 0.5, 2, 2, 2, 0.2)


CASES = {
    "deform_roi_pool": (_roi, lambda: pool_operands(8, (2, 3, 4), (1, 3, 4))),
    "deform_psroi_pool": (_psroi, lambda: pool_operands(8, (4, 2, 2), (1, 3, 3))),
}
both = pytest.mark.parametrize(("op", "make"), CASES.values(), ids=list(CASES))


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_the_references(name):
    op, make = CASES[name]
    operands = make()
    needed = [operands[i] for i in (0, 2, 3)]
    out, wanted = op(operands), op(operands, getattr(reference, name))
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(gradients(out, needed), gradients(wanted, needed))


# A box whose only sample falls on x = position of a column [1, 2, 4, 8], for each operator:
# position: value, derivative to the right.
ROI_LINE = {
    -1.25: (0, 0), -1.0: (1, 0), -0.5: (1, 0), 0.0: (1, 1), 0.5: (1.5, 1), 1.0: (2, 2),
    2.0: (4, 4), 2.75: (7, 4), 3.0: (8, 0), 3.5: (8, 0), 4.0: (8, 0), 4.25: (0, 0),
}  # fmt: skip
PSROI_LINE = ROI_LINE | {-1.0: (0, 0), 4.0: (0, 0)}


@pytest.mark.parametrize("axis", [0, 1], ids=["x", "y"])
@pytest.mark.parametrize(
    ("op", "line"), [(deform_roi_pool, ROI_LINE), (deform_psroi_pool, PSROI_LINE)]
)
def test_derivatives_are_right_sided_and_zero_where_clamped(op, line, axis):
    input = torch.tensor([1.0, 2, 4, 8], dtype=torch.float64).expand(1, 1, 4, 4)
    input = input if axis == 0 else input.mT
    offset = torch.zeros(len(line), 2, 1, 1, dtype=torch.float64)
    if op is deform_roi_pool:  # a box of 1 x 1 round (1, 1): its one sample is its centre
        rois = torch.tensor([[0, 1.0, 1, 2, 2]], dtype=torch.float64).expand(len(line), 5)
        options, origin = {"sampling_ratio": 1, "gamma": 1.0}, 1.0
    else:  # the same box; its one sample is the corner
        rois = torch.tensor([[0, 1.0, 1, 1, 1]], dtype=torch.float64).expand(len(line), 5)
        options, origin = {"sample_per_part": 1, "trans_std": 1.0}, 0.5
    offset[:, axis, 0, 0] = torch.tensor(list(line), dtype=torch.float64) - origin
    offset.requires_grad_()
    values = op(input, rois, offset, output_size=1, **options).flatten()
    (slopes,) = torch.autograd.grad(values.sum(), offset)
    wanted = torch.tensor(list(line.values()), dtype=torch.float64)
    torch.testing.assert_close(torch.stack([values, slopes[:, axis, 0, 0]], 1), wanted)


@both
def test_layouts_and_memory_formats(op, make):
    input, rois, offset, mask = make()
    wanted = op((input, rois, offset, mask))
    last = input.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    strided = [torch.stack([t, t], -1)[..., 0].detach() for t in (rois, offset, mask)]
    out = op((last, *strided))
    torch.testing.assert_close(out, wanted)
    assert wanted.is_contiguous()
    assert out.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(out.sum(), last)
    assert grad.stride() == last.stride()
    torch.testing.assert_close(grad, torch.autograd.grad(wanted.sum(), input)[0])


@both
def test_rois_in_pieces_give_the_same(op, make, monkeypatch):
    operands = make()
    needed = [operands[i] for i in (0, 2, 3)]
    whole = op(operands)
    grads = gradients(whole, needed)
    monkeypatch.setattr(pool, "_CHUNK", 3 * whole[0].numel())
    pieces = op(operands)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(gradients(pieces, needed), grads)


@both
@pytest.mark.parametrize("box", [[0, NAN, 1, 5, 5], [0, 1, 1, INF, 5], [0, 1, -INF, INF, 5]])
def test_a_box_that_is_not_finite_gives_nan_and_no_gradient(op, make, box):
    input, rois, _, _ = make()
    rois = torch.cat([rois[:1], torch.tensor([box], dtype=rois.dtype)])
    out = op((input, rois, None, None))
    assert out[1].isnan().all()
    assert out[0].isfinite().all()
    (grad,) = torch.autograd.grad(out.sum(), input, retain_graph=True)
    (clean,) = torch.autograd.grad(out[0].sum(), input)
    torch.testing.assert_close(grad, clean)


@both
@pytest.mark.parametrize("image", [-1.0, 2.0, 1e9, NAN])
def test_a_box_of_no_image_gives_nan_where_nothing_checked_it(op, make, image, monkeypatch):
    monkeypatch.setattr("dcnv2.ops.checks.check_batch_index", lambda input, rois: None)
    input, rois, _, _ = make()
    rois = torch.cat([rois[:1], torch.tensor([[image, 1, 1, 5, 5]], dtype=rois.dtype)])
    out = op((input, rois, None, None))
    assert out[1].isnan().all()
    assert out[0].isfinite().all()
