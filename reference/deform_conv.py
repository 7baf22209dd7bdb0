# SPDX-License-Identifier: BSD-3-Clause
"""Modulated deformable convolution: Deformable ConvNets v2 (arXiv 1811.11168), section 3.2."""

from torch import Tensor, arange, einsum

from reference.bilinear import interpolate


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def sample_points(
    offset: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> tuple[Tensor, Tensor]:
    """Where each tap samples: p + p_k + Δp_k of equation 1, in input pixels.

    Args:
        offset: [N, G*K*2, Ho, Wo], (y, x) interleaved, K = kernel height * kernel width.
        kernel_size: height and width of the kernel.
        stride: of the convolution, (y, x).
        padding: of the convolution, (y, x).
        dilation: of the convolution, (y, x).

    Returns:
        Rows and columns, each [N, G, K, Ho, Wo].
    """
    kernel_h, kernel_w = _pair(kernel_size)
    (stride_h, stride_w), (pad_h, pad_w) = _pair(stride), _pair(padding)
    dilation_h, dilation_w = _pair(dilation)
    batch, channels, out_h, out_w = offset.shape
    taps = kernel_h * kernel_w
    shift = offset.view(batch, channels // (2 * taps), taps, 2, out_h, out_w)

    like = {"dtype": offset.dtype, "device": offset.device}
    tap = arange(taps, device=offset.device)
    tap_y = (tap // kernel_w).to(offset.dtype).view(-1, 1, 1) * dilation_h
    tap_x = (tap % kernel_w).to(offset.dtype).view(-1, 1, 1) * dilation_w
    origin_y = arange(out_h, **like).view(1, -1, 1) * stride_h - pad_h
    origin_x = arange(out_w, **like).view(1, 1, -1) * stride_w - pad_w
    return origin_y + tap_y + shift[:, :, :, 0], origin_x + tap_x + shift[:, :, :, 1]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """y(p) = Σ_k w_k · x(p + p_k + Δp_k) · Δm_k (equation 1), without Δm_k where mask is None.

    Args:
        input: x, [N, C, H, W].
        offset: Δp, [N, G*K*2, Ho, Wo], (y, x) interleaved; G deform groups share C in blocks.
        weight: w, [O, C/g, kh, kw]; g groups follow from the shapes.
        bias: [O].
        stride: (y, x).
        padding: (y, x), of zeros.
        dilation: (y, x).
        mask: Δm, [N, G*K, Ho, Wo].

    Returns:
        [N, O, Ho, Wo].
    """
    batch, channels = input.shape[:2]
    out_channels, group_in, kernel_h, kernel_w = weight.shape
    taps = kernel_h * kernel_w
    y, x = sample_points(offset.contiguous(), (kernel_h, kernel_w), stride, padding, dilation)
    deform_groups, (out_h, out_w) = y.shape[1], y.shape[3:]
    groups = channels // group_in

    # A deform group is an image of its own: [N*G, C/G, H, W] sampled at [N*G, K*Ho*Wo] points.
    # (Sizes are spelled out, not -1, so that an empty batch works.)
    size = batch * deform_groups
    images = input.reshape(size, channels // deform_groups, *input.shape[2:])
    points = (size, taps * out_h * out_w)
    samples = interpolate(images, y.reshape(points), x.reshape(points))
    samples = samples.view(batch, deform_groups, channels // deform_groups, taps, out_h, out_w)
    if mask is not None:
        samples = samples * mask.reshape(batch, deform_groups, 1, taps, out_h, out_w)

    samples = samples.reshape(batch, groups, group_in, taps, out_h, out_w)
    kernel = weight.reshape(groups, out_channels // groups, group_in, taps)
    out = einsum("ngckyx,gock->ngoyx", samples, kernel).reshape(batch, out_channels, out_h, out_w)
    return out if bias is None else out + bias.view(1, -1, 1, 1)
