# SPDX-License-Identifier: BSD-3-Clause
"""Operands for the tests of dcnv2.ops: asymmetric and random, from a seed."""

import torch

# Every axis has its own kernel, stride, padding and dilation.
CONV_OPTIONS = {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)}
KERNEL = (3, 2)
SIZE = (8, 7)
OUT_SIZE = (3, 10)  # of CONV_OPTIONS and KERNEL on SIZE

ROIS = [[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16], [1, 4, 4, 7, 7.5], [0, 2.2, 1, 20, 14]]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def off_integers(values, margin=0.1):
    """Move values away from integers, where the derivative jumps."""
    floor = values.floor()
    return floor + margin + (values - floor) * (1 - 2 * margin)


def conv_operands(groups=2, deform_groups=3, dtype=torch.float64, batch=2, seed=0):
    """Return input, offset, weight, bias, mask that require gradients."""
    random = generator(seed)
    channels, taps = 12, KERNEL[0] * KERNEL[1]

    def draw(*size):
        return torch.randn(*size, generator=random, dtype=torch.float64)

    operands = (
        draw(batch, channels, *SIZE),
        off_integers(2 * draw(batch, 2 * deform_groups * taps, *OUT_SIZE)),
        draw(6, channels // groups, *KERNEL),
        draw(6),
        draw(batch, deform_groups * taps, *OUT_SIZE).sigmoid(),
    )
    return tuple(t.to(dtype).requires_grad_() for t in operands)


def pool_operands(channels, offset_size, mask_size, dtype=torch.float64, seed=0):
    """Return input, rois, offset, mask; all but the boxes require gradients."""
    random = generator(seed)
    rois = torch.tensor(ROIS, dtype=dtype)
    input, offset, mask = (
        torch.randn(*size, generator=random, dtype=torch.float64).to(dtype).requires_grad_()
        for size in ((2, channels, 9, 11), (len(ROIS), *offset_size), (len(ROIS), *mask_size))
    )
    return input, rois, offset, mask


def gradients(out, operands, seed=1):
    """Return the gradients of `operands` for a random gradient of `out`."""
    grad = torch.randn(out.shape, generator=generator(seed), dtype=torch.float64)
    return torch.autograd.grad(out, operands, grad.to(out))
