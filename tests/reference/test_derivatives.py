# SPDX-License-Identifier: BSD-3-Clause
"""The reference's derivatives: gradcheck, the second order, borders, non-finite offsets."""

import pytest
import torch

import reference

OPTIONS = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}


def _away_from_kinks(*shape):
    """Offsets whose coordinates lie 0.1 to 0.9 behind an integer."""
    whole = torch.randint(-2, 3, shape).double()
    return whole + 0.1 + 0.8 * torch.rand(shape, dtype=torch.float64)


def _conv_operands():
    torch.manual_seed(3)
    return (
        torch.randn(2, 4, 5, 4, dtype=torch.float64),
        _away_from_kinks(2, 2 * 6 * 2, 3, 4),
        torch.randn(2, 2, 3, 2, dtype=torch.float64),
        torch.randn(2, dtype=torch.float64),
        torch.rand(2, 2 * 6, 3, 4, dtype=torch.float64),
    )


def _conv(input, offset, weight, bias, mask):
    return reference.deform_conv2d(input, offset, weight, bias, mask=mask, **OPTIONS)


@pytest.mark.slow
def test_deform_conv2d_gradients_and_second_derivatives():
    input, offset, weight, bias, mask = _conv_operands()
    operands = [t.requires_grad_() for t in (input[:1], offset[:1], weight, bias, mask[:1])]
    assert torch.autograd.gradcheck(_conv, operands)
    assert torch.autograd.gradgradcheck(_conv, operands, atol=1e-4)


def _pool_operands(classes):
    torch.manual_seed(5)
    rois = torch.tensor([[0, 1, 2, 9, 11], [1, -3, 4, 30, 8]], dtype=torch.float64)
    return (
        torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True),
        rois,
        torch.randn(2, 2 * classes, 2, 2, dtype=torch.float64, requires_grad=True),
        torch.rand(2, 1, 2, 2, dtype=torch.float64, requires_grad=True),
    )


@pytest.mark.slow
def test_deform_roi_pool_gradients():
    def pool(*operands):
        return reference.deform_roi_pool(*operands, output_size=2, spatial_scale=0.5, gamma=0.3)

    assert torch.autograd.gradcheck(pool, _pool_operands(1))
    assert torch.autograd.gradgradcheck(pool, _pool_operands(1), atol=1e-4)


@pytest.mark.slow
def test_deform_psroi_pool_gradients():
    def pool(*operands):
        return reference.deform_psroi_pool(*operands, output_size=2, spatial_scale=0.5)

    assert torch.autograd.gradcheck(pool, _pool_operands(2))
    assert torch.autograd.gradgradcheck(pool, _pool_operands(2), atol=1e-4)


# Rows of a column of pixels 2, 3, 5 and the right-sided slope there; zero outside.
BORDER = [
    (-1.5, 0.0, 0.0),
    (-1.0, 0.0, 2.0),
    (-0.75, 0.5, 2.0),
    (0.0, 2.0, 1.0),
    (1.0, 3.0, 2.0),
    (2.0, 5.0, -5.0),
    (2.5, 2.5, -5.0),
    (3.0, 0.0, 0.0),
    (float("inf"), 0.0, 0.0),
    (-float("inf"), 0.0, 0.0),
    (1e20, 0.0, 0.0),
]


@pytest.mark.parametrize(("place", "value", "slope"), BORDER)
@pytest.mark.parametrize("axis", [0, 1])
def test_value_and_derivative_at_the_border(place, value, slope, axis):
    column = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64)
    image = column.view(1, 1, 3, 1) if axis == 0 else column.view(1, 1, 1, 3)
    out_size = (3, 1) if axis == 0 else (1, 3)
    offset = torch.zeros(1, 2, *out_size, dtype=torch.float64)
    offset[0, axis].view(-1)[0] = place
    offset.requires_grad_()
    out = reference.deform_conv2d(image, offset, torch.ones(1, 1, 1, 1, dtype=torch.float64))
    (grad,) = torch.autograd.grad(out.view(-1)[0], offset)
    assert out.view(-1)[0].item() == value
    assert grad[0, axis].view(-1)[0].item() == slope


def test_nan_offset_affects_only_the_outputs_that_use_it():
    input, offset, weight, bias, mask = (t.requires_grad_() for t in _conv_operands())
    with torch.no_grad():
        offset[1, 2 * (6 + 4), 2, 1] = float("nan")  # deform group 1, so channels 2 and 3
    out = _conv(input, offset, weight, bias, mask)
    expected = torch.zeros_like(out, dtype=torch.bool)
    expected[1, 1, 2, 1] = True  # weight group 1 alone reads them
    assert torch.equal(out.isnan(), expected)
    (grad,) = torch.autograd.grad(out.sum(), input)
    assert grad.isfinite().all()


def test_deform_roi_pool_slope_is_zero_where_clamped():
    """The bands -1..0 and H-1..H hold the edge value: no slope across, the usual one along."""
    image = torch.arange(12.0, dtype=torch.float64).view(1, 1, 3, 4)
    offset = torch.zeros(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0.0, 1.25, -1.0, 2.25, 1.0]], dtype=torch.float64)  # centre y -0.5
    out = reference.deform_roi_pool(image, rois, offset, output_size=1, sampling_ratio=1, gamma=1.0)
    (grad,) = torch.autograd.grad(out.sum(), offset)
    assert out.item() == 1.25
    assert grad.view(2).tolist() == [1.0, 0.0]


def test_pools_accept_boxes_per_image():
    input, rois, offset, mask = _pool_operands(1)
    boxes = [rois[:1, 1:], rois[1:, 1:]]
    for pool in (reference.deform_roi_pool, reference.deform_psroi_pool):
        whole = pool(input, rois, offset, mask, output_size=2)
        assert torch.equal(pool(input, boxes, offset, mask, output_size=2), whole)


def test_empty_batch_and_empty_rois_have_gradients():
    input, offset, weight, bias, mask = _conv_operands()
    operands = [input[:0], offset[:0], weight, bias, mask[:0]]
    out = _conv(*(t.requires_grad_() for t in operands))
    grads = torch.autograd.grad(out.sum(), operands)
    assert [g.shape for g in grads] == [t.shape for t in operands]
    input, rois, offset, mask = _pool_operands(1)
    out = reference.deform_roi_pool(input, rois[:0], offset[:0], mask[:0], output_size=2)
    (grad,) = torch.autograd.grad(out.sum(), input)
    assert out.shape == (0, 2, 2, 2)
    assert not grad.any()
