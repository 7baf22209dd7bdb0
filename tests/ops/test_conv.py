# SPDX-License-Identifier: BSD-3-Clause
"""deform_conv2d on each path: torchvision's numbers, values by hand, and what results are made of.

The correctness suite has every other property: dtypes, layouts, identities, non-finite operands.
"""

import pytest
import torch
import torchvision
from op_cases import CONV_OPTIONS, OUT_SIZE, conv_operands, gradients

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


def test_an_image_without_pixels_is_all_padding():
    input = torch.zeros(2, 3, 0, 4, requires_grad=True)
    weight, bias = torch.randn(5, 3, 2, 1), torch.randn(5)
    out = deform_conv2d(input, torch.rand(2, 4, 3, 4), weight, bias, padding=(2, 0))
    torch.testing.assert_close(out, bias.view(1, 5, 1, 1).expand(2, 5, 3, 4))
    out.sum().backward()
    assert input.grad.shape == input.shape


# ---- the border and its kinks


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
