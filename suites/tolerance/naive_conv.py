# SPDX-License-Identifier: BSD-3-Clause
"""A naive deformable convolution: columns, one product, hand-written gradients.

It has two uses. In the precision of a kernel it shows how far rounding takes a correct
implementation from the truth (`suites.tolerance.tolerance`). And every step is a method, so that a
mutant replaces one step (`suites.mutants`). It shares no code with `reference/`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suites.problems.threads import limited_threads
from suites.tolerance.naive_geometry import Corner, NaiveGeometry, Sizes

PASSES = ("forward", "grad_input", "grad_offset", "grad_weight")


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """torch.einsum on one thread, because the order of summation depends on their number."""
    with limited_threads(1):
        return torch.einsum(equation, *operands)


class NaiveConv(NaiveGeometry):
    """Deformable convolution of tensors of any dtype, in float32 or better inside.

    Attributes:
        narrow: the dtype to which sampled values and column gradients are rounded once, like
            the operands of a matrix unit; None not to round them.
        absolute: every product has its absolute value, so a result is the magnitude of what was
            added up. The operands must be absolute values too.
    """

    def __init__(self, narrow: torch.dtype | None = None, absolute: bool = False):
        self.narrow = narrow
        self.absolute = absolute

    # ---- operands and results

    def received(self, name: str, tensor: Tensor) -> Tensor:
        """An operand, or "grad_output", as it is read from memory."""
        return tensor

    def returned(self, name: str, result: Tensor, dtype: torch.dtype) -> Tensor:
        """A result, "output" or "grad_...", in the dtype in which it is returned."""
        return result.to(dtype)

    def wanted(self, needs: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which requested gradients are returned: input, offset, weight, bias, mask."""
        return needs

    # ---- forward

    def deform_maps(self, input: Tensor, sizes: Sizes) -> Tensor:
        """Input by deform group, [N, G, C/G, H*W]."""
        return input.reshape(
            sizes.batch,
            sizes.deform_groups,
            sizes.channels // sizes.deform_groups,
            sizes.height * sizes.width,
        )

    def fetch(self, maps: Tensor, corner: Corner) -> Tensor:
        """Pixels at a corner, [N, G, C/G, K, P], zero off the map."""
        batch, groups, taps, places = corner.index.shape
        index = corner.index.reshape(batch, groups, 1, taps * places)
        index = index.expand(-1, -1, maps.shape[2], -1)
        pixels = maps.gather(3, index).view(batch, groups, maps.shape[2], taps, places)
        return pixels.where(corner.on_map[:, :, None], torch.zeros_like(pixels))

    def sampled(self, maps: Tensor, corners: list[Corner]) -> Tensor:
        """Interpolated values before modulation, [N, G, C/G, K, P]."""
        return sum(corner.weight[:, :, None] * self.fetch(maps, corner) for corner in corners)

    def modulated(self, samples: Tensor, mask: Tensor | None, sizes: Sizes) -> Tensor:
        """Columns [N, C, K, P]: operands of the product with the weight."""
        if mask is not None:
            samples = samples * self.split_mask(mask, sizes)[:, :, None]
        columns = samples.reshape(sizes.batch, sizes.channels, sizes.taps, sizes.places)
        return self.narrowed(columns)

    def narrowed(self, values: Tensor) -> Tensor:
        """Values after the one rounding of a product's operands."""
        return values if self.narrow is None else values.to(self.narrow).to(values.dtype)

    def grouped(self, columns: Tensor, sizes: Sizes) -> Tensor:
        """[N, g, C/g, K, P]."""
        return columns.reshape(
            sizes.batch,
            sizes.groups,
            sizes.channels // sizes.groups,
            sizes.taps,
            sizes.places,
        )

    def kernel(self, weight: Tensor, sizes: Sizes) -> Tensor:
        """[g, O/g, C/g, K]."""
        return weight.reshape(
            sizes.groups,
            sizes.out_channels // sizes.groups,
            sizes.channels // sizes.groups,
            sizes.taps,
        )

    def product(self, columns: Tensor, weight: Tensor, sizes: Sizes) -> Tensor:
        """[N, g, O/g, P]."""
        return einsum("ngckp,gock->ngop", self.grouped(columns, sizes), self.kernel(weight, sizes))

    def biased(self, out: Tensor, bias: Tensor | None) -> Tensor:
        """[N, O, Ho, Wo]."""
        return out if bias is None else out + bias.view(1, -1, 1, 1)

    def forward(self, input, offset, weight, bias, mask, sizes: Sizes) -> Tensor:
        """[N, O, Ho, Wo], in the operands' dtype."""
        corners = self.located(offset, sizes, "forward")
        samples = self.sampled(self.deform_maps(input, sizes), corners)
        out = self.product(self.modulated(samples, mask, sizes), weight, sizes)
        out = out.reshape(sizes.batch, sizes.out_channels, sizes.out_h, sizes.out_w)
        return self.biased(out, bias)

    # ---- backward

    def backward(self, grad, input, offset, weight, mask, sizes: Sizes) -> dict[str, Tensor]:
        """Gradients of all five operands by name ("mask" also without a mask)."""
        grad = grad.reshape(
            sizes.batch, sizes.groups, sizes.out_channels // sizes.groups, sizes.places
        )
        columns = self.column_grads(grad, weight, sizes)
        grad_offset, grad_mask = self.grad_points(columns, input, offset, mask, sizes)
        return {
            "input": self.grad_input(columns, grad, weight, offset, mask, sizes),
            "offset": grad_offset,
            "weight": self.grad_weight(grad, input, offset, weight, mask, sizes),
            "bias": self.grad_bias(grad),
            "mask": grad_mask,
        }

    def column_grads(self, grad: Tensor, weight: Tensor, sizes: Sizes) -> Tensor:
        """Gradients of the columns by deform group, [N, G, C/G, K, P]."""
        columns = einsum("ngop,gock->ngckp", grad, self.kernel(weight, sizes))
        return self.narrowed(columns).reshape(
            sizes.batch,
            sizes.deform_groups,
            sizes.channels // sizes.deform_groups,
            sizes.taps,
            sizes.places,
        )

    def scatter(self, values: Tensor, index: Tensor, pixels: int) -> Tensor:
        """Sums of values [..., M] by index [..., M] into [..., pixels]."""
        sums = values.new_zeros(*values.shape[:-1], pixels)
        return sums.scatter_add(-1, index, values)

    def grad_input(self, columns, grad, weight, offset, mask, sizes: Sizes) -> Tensor:
        """[N, C, H, W]."""
        total = torch.zeros_like(columns[..., :1, 0]).expand(-1, -1, -1, sizes.height * sizes.width)
        if mask is not None:
            columns = columns * self.split_mask(mask, sizes)[:, :, None]
        for corner in self.located(offset, sizes, "grad_input"):
            share = corner.weight[:, :, None] * columns
            share = share.where(corner.on_map[:, :, None], torch.zeros_like(share)).flatten(3)
            index = corner.index.flatten(2)[:, :, None].expand_as(share)
            total = total + self.scatter(share, index, sizes.height * sizes.width)
        return total.reshape(sizes.batch, sizes.channels, sizes.height, sizes.width)

    def grad_points(self, columns, input, offset, mask, sizes: Sizes):
        """Gradients of the offset [N, G*K*2, Ho, Wo] and of the mask [N, G*K, Ho, Wo]."""
        corners = self.located(offset, sizes, "grad_offset")
        maps = self.deform_maps(input, sizes)
        value = slope_y = slope_x = torch.zeros_like(columns[:, :, 0])
        for corner in corners:
            dot = (self.fetch(maps, corner) * columns).sum(2)
            value = value + corner.weight * dot
            slope_y = slope_y + corner.slope_y * dot
            slope_x = slope_x + corner.slope_x * dot
        if mask is not None:
            modulation = self.split_mask(mask, sizes)
            slope_y, slope_x = slope_y * modulation, slope_x * modulation
        slopes = torch.stack((slope_y, slope_x), 3)
        out = (sizes.out_h, sizes.out_w)
        points = sizes.deform_groups * sizes.taps
        return (
            slopes.reshape(sizes.batch, 2 * points, *out),
            value.reshape(sizes.batch, points, *out),
        )

    def grad_weight(self, grad, input, offset, weight, mask, sizes: Sizes) -> Tensor:
        """[O, C/g, kh, kw]."""
        corners = self.located(offset, sizes, "grad_weight")
        samples = self.sampled(self.deform_maps(input, sizes), corners)
        columns = self.grouped(self.modulated(samples, mask, sizes), sizes)
        return einsum("ngop,ngckp->gock", grad, columns).reshape(weight.shape)

    def grad_bias(self, grad: Tensor) -> Tensor:
        """[O]."""
        return grad.sum((0, 3)).flatten()
