# SPDX-License-Identifier: BSD-3-Clause
"""Bilinear interpolation of a map, and where its derivative is taken.

With y0 = floor(y) and ly = y - y0, interpolation is the polynomial

    (1-ly)(1-lx) v(y0, x0) + (1-ly) lx v(y0, x0+1) + ly (1-lx) v(y0+1, x0) + ly lx v(y0+1, x0+1)

and the derivative of that polynomial is the right-sided derivative of the interpolated map, at
integers too, because floor(y) = y there. A NaN coordinate gives NaN and reaches no pixel.
"""

from torch import Tensor, where, zeros_like


def _corner(image: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """Pixels of image [B, C, H, W] at row, col [B, P]: [B, C, P], zero off the map."""
    height, width = image.shape[-2:]
    on_map = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    index = where(on_map, row * width + col, zeros_like(row)).long()
    pixels = image.flatten(2).gather(2, index[:, None].expand(-1, image.shape[1], -1))
    return where(on_map[:, None], pixels, zeros_like(pixels))


def interpolate(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolated values of a map that is zero everywhere outside itself.

    Args:
        image: [B, C, H, W].
        y: rows, in pixels, [B, P].
        x: columns, in pixels, [B, P].

    Returns:
        [B, C, P].
    """
    height, width = image.shape[-2:]
    # More than one pixel outside everything is zero, so coordinates are clamped to two pixels
    # outside. This keeps infinity out of the arithmetic; NaN stays NaN.
    y, x = y.clamp(-2, height + 1), x.clamp(-2, width + 1)
    y0, x0 = y.floor(), x.floor()
    ly, lx = (y - y0)[:, None], (x - x0)[:, None]
    return (
        (1 - ly) * (1 - lx) * _corner(image, y0, x0)
        + (1 - ly) * lx * _corner(image, y0, x0 + 1)
        + ly * (1 - lx) * _corner(image, y0 + 1, x0)
        + ly * lx * _corner(image, y0 + 1, x0 + 1)
    )


def interpolate_clamped(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolated values with coordinates moved onto the map first; shapes as `interpolate`.

    The derivative along an axis is zero where that axis was clamped, and at the last pixel, whose
    right side is clamped.
    """
    height, width = image.shape[-2:]
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    y0, x0 = y.floor(), x.floor()
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    ly, lx = (y - y0)[:, None], (x - x0)[:, None]
    return (
        (1 - ly) * (1 - lx) * _corner(image, y0, x0)
        + (1 - ly) * lx * _corner(image, y0, x1)
        + ly * (1 - lx) * _corner(image, y1, x0)
        + ly * lx * _corner(image, y1, x1)
    )
