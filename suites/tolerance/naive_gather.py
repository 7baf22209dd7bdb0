# SPDX-License-Identifier: BSD-3-Clause
"""The naive convolution with the other order of grad_input: gather, then multiply once."""

from __future__ import annotations

import torch
from torch import Tensor

from suites.tolerance.naive_conv import NaiveConv, einsum
from suites.tolerance.naive_geometry import Sizes


class GatheringConv(NaiveConv):
    """The other order of grad_input: gather rows of the gradient by pixel, then multiply once.

    A kernel with this order rounds the gathered rows before the product, not the column gradients.
    """

    def grad_input(self, columns, grad, weight, offset, mask, sizes: Sizes) -> Tensor:
        """[N, C, H, W]."""
        pixels = sizes.height * sizes.width
        flat = grad.reshape(sizes.batch, 1, 1, sizes.out_channels, sizes.places)
        rows = 0.0
        for corner in self.located(offset, sizes, "grad_input"):
            share = corner.weight.where(corner.on_map, torch.zeros_like(corner.weight))
            if mask is not None:
                share = share * self.split_mask(mask, sizes)
            values = share[:, :, :, None] * flat  # [N, G, K, O, P]
            index = corner.index[:, :, :, None].expand_as(values)
            rows = rows + self.scatter(values, index, pixels)
        rows = self.narrowed(rows)
        deform_channels = sizes.channels // sizes.deform_groups
        group_in = sizes.channels // sizes.groups
        group_out = sizes.out_channels // sizes.groups
        kernel = self.kernel(weight, sizes)
        maps = []
        for channel in range(sizes.channels):
            group = channel // group_in
            used = rows[:, channel // deform_channels, :, group * group_out :][:, :, :group_out]
            maps.append(einsum("nkoq,ok->nq", used, kernel[group, :, channel % group_in]))
        return torch.stack(maps, 1).view(sizes.batch, sizes.channels, sizes.height, sizes.width)
