# SPDX-License-Identifier: BSD-3-Clause
"""An adapter for `dcnv2 verify`: it calls your deformable convolution.

    dcnv2 verify mine.py:deform_conv2d

As it is, it tests torchvision. Replace the lines marked HERE.
"""

from torchvision.ops import deform_conv2d as yours  # HERE: your operator


def deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask):
    """Output [N, O, Ho, Wo], in the dtype and on the device of the input.

    Args:
        input: [N, C, H, W].
        offset: [N, 2*G*kh*kw, Ho, Wo], in pixels; y before x for every tap.
        weight: [O, C/groups, kh, kw]; groups are C divided by its second dimension.
        bias: [O], or None.
        stride: (y, x); so are padding and dilation.
        padding: of zeros; a point samples pixels where -1 < y < H and -1 < x < W.
        dilation: distance of taps.
        mask: [N, G*kh*kw, Ho, Wo], a factor of every sample, or None.

    The result must be differentiable for its gradients to be checked. A function that takes NumPy
    arrays and returns one works too: without gradients, its outputs are checked.
    """
    return yours(input, offset, weight, bias, stride, padding, dilation, mask)  # HERE


def supports(problem):
    """None, or why your operator does not support a problem: it is then not checked.

    `problem` has batch, in_channels, out_channels, height, width, kernel, stride, padding,
    dilation, groups, deform_groups, bias, mask (whether there is one), dtype and layouts. Without
    this function, everything is checked but dtypes in which the operator raises an error.
    """
    dtypes = ("float64", "float32", "float16", "bfloat16")  # HERE: yours
    return None if problem.dtype in dtypes else f"no {problem.dtype}"
