# SPDX-License-Identifier: BSD-3-Clause
"""Values and gradients of deform_conv2d, on each path."""

import pytest
import torch
import torchvision
from op_cases import CONV_OPTIONS, OUT_SIZE, conv_operands, gradients
from torch.nn import functional as F

from dcnv2.ops import deform_conv2d
from dcnv2.ops.portable import conv

pytestmark = pytest.mark.usefixtures("path")


def _ours(operands):
    input, offset, weight, bias, mask = operands
    return deform_conv2d(input, offset, weight, bias, **CONV_OPTIONS, mask=mask)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("deform_groups", [1, 3, 4])
@pytest.mark.parametrize("modulated", [True, False])
def test_values_and_gradients_are_torchvisions(groups, deform_groups, modulated):
    operands = conv_operands(groups, deform_groups)
    operands = operands if modulated else (*operands[:4], None)
    wanted = torchvision.ops.deform_conv2d(*operands[:4], **CONV_OPTIONS, mask=operands[4])
    out = _ours(operands)
    assert out.shape == (2, 6, *OUT_SIZE)
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-11)
    needed = [t for t in operands if t is not None]
    torch.testing.assert_close(
        gradients(out, needed), gradients(wanted, needed), rtol=1e-12, atol=1e-11
    )


def test_zero_offset_is_conv2d():
    input, offset, weight, bias, _ = conv_operands(groups=3)
    out = deform_conv2d(input, torch.zeros_like(offset), weight, bias, **CONV_OPTIONS)
    wanted = F.conv2d(input, weight, bias, **CONV_OPTIONS, groups=3)
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_is_close_to_float64_and_keeps_its_dtype(dtype):
    operands = conv_operands(dtype=dtype)
    wide = tuple(t.detach().double().requires_grad_() for t in operands)
    out, wanted = _ours(operands), _ours(wide)
    results = (out, *gradients(out, operands))
    for result, exact in zip(results, (wanted, *gradients(wanted, wide)), strict=True):
        assert result.dtype == dtype
        # One rounding of the result; sums and coordinates are float32 or better. The gradient that
        # comes in is rounded too.
        error = (result.double() - exact).abs().max() / exact.abs().max()
        assert error < 2 * torch.finfo(dtype).eps + 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_sample_at_float32_coordinates(dtype):
    width = 1200  # float16 steps by 1 there, bfloat16 by 8
    input = torch.arange(width, dtype=torch.float32).remainder(7).expand(1, 1, 2, width)
    offset = torch.full((1, 2, 2, width), 0.25)
    offset[:, 0] = 0
    one = torch.ones(1, 1, 1, 1)
    out = deform_conv2d(input.to(dtype), offset, one.to(dtype))
    wanted = deform_conv2d(input, offset, one)
    torch.testing.assert_close(out.float(), wanted, rtol=0, atol=7 * torch.finfo(dtype).eps)


def test_float32_offset_and_mask_beside_half_input_get_float32_gradients():
    operands = conv_operands(dtype=torch.bfloat16)
    input, offset, weight, bias, mask = operands
    offset, mask = (t.detach().float().requires_grad_() for t in (offset, mask))
    mixed = (input, offset, weight, bias, mask)
    grads = gradients(_ours(mixed), mixed)
    assert [grad.dtype for grad in grads] == [t.dtype for t in mixed]
    same = gradients(_ours(operands), operands)
    for grad, other in zip(grads, same, strict=True):
        torch.testing.assert_close(grad.to(other.dtype), other)


LAYOUTS = {
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "slice": lambda t: torch.stack([t, t], dim=-1)[..., 1],
    "inner offset": lambda t: F.pad(t, (1, 1, 2, 0))[:, :, 2:, 1:-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", range(5), ids=["input", "offset", "weight", "mask", "grad"])
def test_any_layout_of_any_operand_gives_the_same(layout, which):
    input, offset, weight, bias, mask = conv_operands()
    operands = [input, offset, weight, mask]
    wanted = _ours((input, offset, weight, bias, mask))
    grad = torch.randn_like(wanted)
    wanted_grads = torch.autograd.grad(wanted, operands, grad)
    if which == 4:
        grad = LAYOUTS[layout](grad)
    else:
        operands[which] = LAYOUTS[layout](operands[which].detach()).requires_grad_()
    out = _ours((*operands[:3], bias, operands[3]))
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(torch.autograd.grad(out, operands, grad), wanted_grads)


def test_expanded_operands_and_gradient_give_the_same():
    input, offset, weight, bias, mask = (t.detach() for t in conv_operands())
    small = (input[:1], offset[:1], weight, bias, mask[:1])
    repeated = tuple(t.expand(3, -1, -1, -1) for t in (input[:1], offset[:1], mask[:1]))
    repeated = tuple(t.requires_grad_() for t in repeated)
    out = _ours((*repeated[:2], weight, bias, repeated[2]))
    torch.testing.assert_close(out, _ours(small).expand_as(out))
    grads = torch.autograd.grad(out.sum(), repeated)  # its gradient is an expanded 1
    for grad in grads:
        torch.testing.assert_close(grad, grad[:1].expand_as(grad))


@pytest.mark.parametrize("batch", [1, 3])
def test_results_take_the_memory_format_of_their_operand(batch):
    input, offset, weight, bias, mask = conv_operands(batch=batch)
    last = input.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    for given in (input, last):
        out = _ours((given, offset, weight, bias, mask))
        grads = torch.autograd.grad(out.sum(), (given, offset, weight, mask))
        wanted = torch.empty_like(out, memory_format=torch.contiguous_format)
        if given is last:
            wanted = wanted.contiguous(memory_format=torch.channels_last)
        assert out.stride() == wanted.stride()
        for grad, operand in zip(grads, (given, offset, weight, mask), strict=True):
            assert grad.stride() == operand.stride()


def test_a_batch_in_pieces_gives_the_same(monkeypatch):
    operands = conv_operands(batch=5)
    whole = _ours(operands)
    whole_grads = gradients(whole, operands)
    monkeypatch.setattr(conv, "_CHUNK", 2 * 12 * OUT_SIZE[0] * OUT_SIZE[1])
    pieces = _ours(operands)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(gradients(pieces, operands), whole_grads)


def test_only_the_gradients_that_are_needed_are_computed():
    input, offset, weight, _, mask = (t.detach() for t in conv_operands())
    options = tuple(CONV_OPTIONS.values())
    grad = torch.ones(2, 6, *OUT_SIZE, dtype=torch.float64)
    shapes = [input.shape, offset.shape, weight.shape, (6,), mask.shape]
    for wanted in range(5):
        needs = [i == wanted for i in range(5)]
        grads = torch.ops.dcnv2.deform_conv2d_backward(
            grad, input, offset, weight, mask, *options, False, needs
        )
        sizes = [shape if need else (0,) for shape, need in zip(shapes, needs, strict=True)]
        assert [tuple(g.shape) for g in grads] == [tuple(size) for size in sizes]


@pytest.mark.parametrize("frozen", range(5))
def test_a_frozen_operand_stops_no_other_gradient(frozen):
    operands = conv_operands()
    wanted = gradients(_ours(operands), operands)
    partly = [t.detach().requires_grad_(i != frozen) for i, t in enumerate(operands)]
    rest = [i for i in range(5) if i != frozen]
    grads = gradients(_ours(partly), [partly[i] for i in rest])
    torch.testing.assert_close(grads, tuple(wanted[i] for i in rest))


def test_an_empty_batch_gives_empty_results_and_zero_gradients():
    operands = conv_operands(batch=0)
    out = _ours(operands)
    assert out.shape == (0, 6, *OUT_SIZE)
    for grad, operand in zip(gradients(out, operands), operands, strict=True):
        assert grad.shape == operand.shape
        assert (grad == 0).all()


def test_an_image_without_pixels_is_all_padding():
    input = torch.zeros(2, 3, 0, 4, requires_grad=True)
    weight, bias = torch.randn(5, 3, 2, 1), torch.randn(5)
    out = deform_conv2d(input, torch.rand(2, 4, 3, 4), weight, bias, padding=(2, 0))
    torch.testing.assert_close(out, bias.view(1, 5, 1, 1).expand(2, 5, 3, 4))
    out.sum().backward()
    assert input.grad.shape == input.shape


# ---- the border, kinks, and numbers that are none


COLUMN = [1.0, 2.0, 4.0]
# position: value, derivative to the right
BORDER = {
    -1.5: (0, 0), -1.0: (0, 1), -0.5: (0.5, 1), 0.0: (1, 1), 0.5: (1.5, 1), 1.0: (2, 2),
    1.75: (3.5, 2), 2.0: (4, -4), 2.5: (2, -4), 3.0: (0, 0), 3.5: (0, 0),
}  # fmt: skip


def _sample(image, places):
    """Sample an image [H, W] at places [P, (y, x)]: [P]. Each has an image of its own."""
    input = image.expand(len(places), 1, *image.shape)
    return deform_conv2d(
        input, places[..., None, None], image.new_ones(1, 1, 1, 1), stride=tuple(image.shape)
    ).flatten()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("axis", [0, 1])
def test_values_and_right_sided_derivatives_at_the_border(dtype, axis):
    image = torch.tensor(COLUMN, dtype=dtype)
    image = image.view(3, 1) if axis == 0 else image.view(1, 3)
    places = torch.zeros(len(BORDER), 2, dtype=dtype)
    places[:, axis] = torch.tensor(list(BORDER), dtype=dtype)
    places.requires_grad_()
    values = _sample(image, places)
    (slopes,) = torch.autograd.grad(values.sum(), places)
    wanted = torch.tensor(list(BORDER.values()), dtype=dtype)
    torch.testing.assert_close(torch.stack([values, slopes[:, axis]], 1), wanted, rtol=0, atol=0)


FAR = [float("inf"), float("-inf"), 1e30, -1e30, 2.0**31, -(2.0**63), 3e9]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("axis", [0, 1])
def test_infinite_and_out_of_range_offsets_read_zero_and_get_no_gradient(dtype, axis):
    image = torch.ones(3, 2, dtype=dtype, requires_grad=True)
    places = torch.ones(len(FAR), 2, dtype=dtype)
    places[:, axis] = torch.tensor(FAR).to(dtype)
    places.requires_grad_()
    values = _sample(image, places)
    grads = torch.autograd.grad(values.sum(), (image, places))
    for result in (values, *grads):
        assert (result == 0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_nan_offset_spoils_its_own_outputs_alone(axis):
    input, offset, weight, bias, mask = conv_operands()
    spoilt = offset.detach().clone()
    spoilt[1, 6 + axis, 2, 3] = float("nan")
    spoilt.requires_grad_()
    out = _ours((input, spoilt, weight, bias, mask))
    clean = _ours((input, offset, weight, bias, mask))
    hit = torch.zeros(out.shape, dtype=torch.bool)
    hit[1, :3, 2, 3] = True  # deform group 0 of 3 serves the first of two groups alone
    assert out[hit].isnan().all()
    torch.testing.assert_close(out[~hit], clean[~hit])
    grad = torch.randn(out.shape, dtype=torch.float64)
    grad_input, grad_offset, grad_mask = torch.autograd.grad(out, (input, spoilt, mask), grad)
    assert grad_input.isfinite().all()
    others = torch.ones(offset.shape, dtype=torch.bool)
    others[1, 6:8, 2, 3] = False
    assert grad_offset[others].isfinite().all()
    others = torch.ones(mask.shape, dtype=torch.bool)
    others[1, 3, 2, 3] = False
    assert grad_mask[others].isfinite().all()


def test_a_nan_pixel_spoils_only_the_samples_that_touch_it():
    image = torch.ones(4, 5, dtype=torch.float64)
    image[0, 0] = image[3, 4] = float("nan")
    places = torch.tensor([[-1.5, 0], [9, 9], [2, 1], [1.5, 3.5], [-0.5, 2.0], [0.5, 0.5]])
    values = _sample(image, places.double())
    assert values.isnan().tolist() == [False] * 5 + [True]
