# SPDX-License-Identifier: BSD-3-Clause
"""Values and gradients of deform_roi_pool and deform_psroi_pool, on each path."""

import pytest
import torch
from op_cases import gradients, pool_operands

from dcnv2.ops import deform_psroi_pool, deform_roi_pool
from dcnv2.ops.portable import pool

pytestmark = pytest.mark.usefixtures("path")

NAN, INF = float("nan"), float("inf")


def _roi(operands, sampling_ratio=0):
    return deform_roi_pool(*operands, (3, 4), 0.5, sampling_ratio, 0.2)


def _psroi(operands, part_size=2):
    return deform_psroi_pool(*operands, 3, 0.5, 2, part_size, 2, 0.2)


def _roi_operands(**options):
    return pool_operands(8, (2, 3, 4), (1, 3, 4), **options)


def _psroi_operands(classes=1, part_size=2, **options):
    return pool_operands(8, (2 * classes, part_size, part_size), (1, 3, 3), **options)


CASES = {"roi": (_roi, _roi_operands), "psroi": (_psroi, _psroi_operands)}
both = pytest.mark.parametrize(("op", "make"), CASES.values(), ids=list(CASES))


# ---- values that an independent evaluation of the formulas gave

IMAGES = {
    "2x2": [[1.0, 2], [3, 4]],
    "4x4": [[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]],
}


def _pool_image(op, name, **options):
    image = torch.tensor(IMAGES[name])[None, None]
    end = image.shape[-1] - 1.0
    rois = torch.tensor([[0, 0, 0, end, end]])
    return op(image, rois, output_size=2, **options)[0, 0].tolist()


def test_roi_pool_of_small_images():
    assert _pool_image(deform_roi_pool, "2x2", sampling_ratio=2) == [[1, 1.25], [1.5, 1.75]]
    wanted = [[1.9375, 4.75], [7.5625, 10.375]]
    assert _pool_image(deform_roi_pool, "4x4", sampling_ratio=2) == wanted


def test_psroi_pool_of_small_images():
    assert _pool_image(deform_psroi_pool, "2x2", sample_per_part=2) == [[1, 1.75], [2.5, 3.25]]
    wanted = [[1.75, 5], [8.25, 11.5]]
    assert _pool_image(deform_psroi_pool, "4x4", sample_per_part=2) == wanted


@pytest.mark.parametrize("axis", ["x", "y"])
def test_pools_of_a_ramp_with_and_without_an_offset(axis):
    ramp = torch.arange(14.0).expand(1, 1, 14, 14)
    offset = torch.zeros(1, 2, 7, 7)
    offset[:, 0 if axis == "x" else 1] = 1
    if axis == "y":
        ramp = ramp.mT
    wanted = {
        (deform_roi_pool, False): [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5],
        (deform_roi_pool, True): [1.9, 3.9, 5.9, 7.9, 9.9, 11.9, 6.5],
        (deform_psroi_pool, False): [0.25, 2, 4, 6, 8, 10, 12],
        (deform_psroi_pool, True): [1.4, 3.4, 5.4, 7.4, 9.4, 11.4, 12.9],
    }
    for (op, moved), row in wanted.items():
        samples = {"sampling_ratio": 2} if op is deform_roi_pool else {"sample_per_part": 2}
        end = 224.0 if op is deform_roi_pool else 223.0
        rois = torch.tensor([[0, 0, 0, end, end]])
        out = op(ramp, rois, offset if moved else None, spatial_scale=1 / 16, **samples)[0, 0]
        middle = out[3] if axis == "x" else out[:, 3]
        torch.testing.assert_close(middle, torch.tensor(row), rtol=0, atol=1e-5)


# ---- options


def test_adaptive_sampling_counts_box_by_box():
    input, rois, _, _ = _roi_operands()
    out = deform_roi_pool(input, rois, None, None, (3, 4), 0.5)
    sizes = (rois[:, 3:] - rois[:, 1:3]) * 0.5 / torch.tensor([4, 3])  # of the bins, x and y
    counts = sizes.ceil().long().tolist()
    assert len({tuple(count) for count in counts}) == len(rois)
    for number, (gw, gh) in enumerate(counts):
        # One sample in each of finer bins lies where the samples of the coarse ones do.
        fine = deform_roi_pool(
            input, rois[number : number + 1], None, None, (3 * gh, 4 * gw), 0.5, 1
        )
        pooled = torch.nn.functional.avg_pool2d(fine, (gh, gw))
        torch.testing.assert_close(out[number], pooled[0])


def test_boxes_without_extent_pool_nothing_and_inverted_ones_too():
    input = torch.ones(1, 1, 6, 6)
    rois = torch.tensor([[0, 2, 2, 2, 5.0], [0, 4, 4, 2, 2]])
    assert (deform_roi_pool(input, rois, output_size=2) == 0).all()
    assert (deform_roi_pool(input, rois, output_size=2, sampling_ratio=2) == 1).all()


def test_mask_multiplies_the_bins():
    for op, make in CASES.values():
        input, rois, offset, mask = make()
        torch.testing.assert_close(
            op((input, rois, offset, mask)), op((input, rois, offset, None)) * mask
        )


def test_rois_may_be_a_list_of_boxes_per_image():
    input, rois, _, _ = _roi_operands()
    boxes = [rois[rois[:, 0] == image, 1:] for image in (0, 1)]
    order = rois[:, 0].argsort(stable=True)
    listed = deform_roi_pool(input, boxes, output_size=2)
    torch.testing.assert_close(listed, deform_roi_pool(input, rois[order], output_size=2))


def test_psroi_bins_read_the_channels_of_their_cell():
    rois = torch.tensor([[0, 0, 0, 7, 7.0]])
    input = torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 8, 8)
    out = deform_psroi_pool(input, rois, output_size=3, group_size=2)[0]
    cell = torch.tensor([[0.0, 0, 1], [0, 0, 1], [2, 2, 3]])
    torch.testing.assert_close(out, torch.stack([cell, cell + 4]))


def test_psroi_offsets_of_a_class_move_its_channels_by_parts():
    input, rois, offset, _ = _psroi_operands(classes=2)
    rois = torch.tensor([[0, 4, 4, 13, 13.0]], dtype=torch.float64)
    moved = deform_psroi_pool(input, rois, offset[:1], None, 3, 0.5, 2, 2, 2, 0.2)
    for channel in (0, 1):
        for i, j in ((0, 0), (1, 2), (2, 1)):
            part = offset[0, 2 * channel : 2 * channel + 2, i * 2 // 3, j * 2 // 3]
            everywhere = part.view(1, 2, 1, 1)
            one = deform_psroi_pool(input, rois, everywhere, None, 3, 0.5, 2, 1, 2, 0.2)
            torch.testing.assert_close(moved[0, channel, i, j], one[0, channel, i, j])


# ---- gradients


@both
def test_gradients_are_those_of_the_forward(op, make):
    input, rois, offset, mask = make()
    torch.autograd.gradcheck(
        lambda x, o, m: op((x, rois, o, m)), (input, offset, mask), fast_mode=True
    )


@pytest.mark.parametrize("ratio", [1, 3])
def test_roi_pool_gradients_with_a_fixed_ratio(ratio):
    input, rois, offset, mask = _roi_operands()
    torch.autograd.gradcheck(
        lambda x, o, m: _roi((x, rois, o, m), ratio), (input, offset, mask), fast_mode=True
    )


@pytest.mark.parametrize(("classes", "part_size"), [(2, 2), (1, 1), (2, 5)])
def test_psroi_pool_gradients_of_classes_and_parts(classes, part_size):
    input, rois, offset, mask = _psroi_operands(classes, part_size)
    torch.autograd.gradcheck(
        lambda x, o, m: _psroi((x, rois, o, m), part_size), (input, offset, mask), fast_mode=True
    )


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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_is_close_to_float64_and_keeps_its_dtype(op, make, dtype):
    operands = make(dtype=dtype)
    wide = tuple(t.detach().double().requires_grad_(t.requires_grad) for t in operands)
    needed = [0, 2, 3]
    out, wanted = op(operands), op(wide)
    results = (out, *gradients(out, [operands[i] for i in needed]))
    exact = (wanted, *gradients(wanted, [wide[i] for i in needed]))
    for result, value in zip(results, exact, strict=True):
        assert result.dtype == dtype
        error = (result.double() - value).abs().max() / value.abs().max()
        assert error < 2 * torch.finfo(dtype).eps + 1e-5


@both
def test_float32_places_beside_half_features(op, make):
    input, rois, offset, mask = make(dtype=torch.float32)
    out = op((input.half(), rois, offset, mask))
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), op((input.half().float(), rois, offset, mask)),
                               rtol=1e-3, atol=1e-3)  # fmt: skip
    grads = torch.autograd.grad(out.sum(), (input, offset, mask))
    assert [grad.dtype for grad in grads] == [torch.float32] * 3


@both
@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_a_frozen_operand_stops_no_other_gradient(op, make, frozen):
    operands = make()
    rest = [i for i in (0, 2, 3) if i != frozen]
    wanted = gradients(op(operands), [operands[i] for i in rest])
    partly = [t.detach().requires_grad_(i in rest) for i, t in enumerate(operands)]
    torch.testing.assert_close(gradients(op(partly), [partly[i] for i in rest]), wanted)


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
def test_no_rois_give_empty_results_and_zero_gradients(op, make):
    input, rois, offset, mask = make()
    operands = (input, rois[:0], *(t[:0].detach().requires_grad_() for t in (offset, mask)))
    out = op(operands)
    assert out.shape[0] == 0
    needed = [operands[i] for i in (0, 2, 3)]
    for grad, operand in zip(gradients(out, needed), needed, strict=True):
        assert grad.shape == operand.shape
        assert (grad == 0).all()


# ---- numbers that are none


@both
def test_a_nan_offset_spoils_its_own_bins_alone(op, make):
    input, rois, offset, mask = make()
    spoilt = offset.detach().clone()
    spoilt[2, 1, 0, 1] = NAN
    spoilt.requires_grad_()
    out, clean = op((input, rois, spoilt, mask)), op((input, rois, offset, mask))
    hit = out.isnan()
    assert hit[2].any()
    assert not hit[[0, 1, 3]].any()
    assert not hit[2].all()
    torch.testing.assert_close(out[~hit], clean[~hit])
    grad_input, grad_offset = torch.autograd.grad(out, (input, spoilt), torch.ones_like(out))
    assert grad_input.isfinite().all()
    assert grad_offset[:, :, 0, 0].isfinite().all()


@both
@pytest.mark.parametrize("value", [INF, -INF, 1e30, -1e30])
def test_infinite_and_out_of_range_offsets_pool_nothing(op, make, value):
    input, rois, offset, _ = make(dtype=torch.float32)
    far = torch.full_like(offset, value, requires_grad=True)
    out = op((input, rois, far, None))
    grads = torch.autograd.grad(out.sum(), (input, far))
    for result in (out, *grads):
        assert (result == 0).all()


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
