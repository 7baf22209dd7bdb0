# SPDX-License-Identifier: BSD-3-Clause
"""CharlesShang's DCNv2 and its many forks (CenterNet, FairMOT, ...): the module `dcn_v2`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcnv2.compat.arguments import check_groups, overridable, takes_aliases
from dcnv2.compat.layers import ModulatedDeformConv, Size
from dcnv2.nn.branch_init import ZeroConv2d, ZeroLinear
from dcnv2.nn.conv import check_batch
from dcnv2.ops import checks, deform_conv2d, deform_psroi_pool
from dcnv2.ops.arguments import Boxes, is_scripting

__all__ = [
    "DCN",
    "DCNPooling",
    "DCNv2",
    "DCNv2Pooling",
    "dcn_v2_conv",
    "dcn_v2_pooling",
]


@takes_aliases
def dcn_v2_conv(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    dilation: Size,
    deformable_groups: int,
) -> Tensor:
    """Convolve with masks, in this argument order; shapes: `dcnv2.ops.deform_conv2d`.

    Raises:
        ValueError: deformable_groups is not that of the shapes.
    """
    check_groups(input, offset, weight, 1, deformable_groups)
    return deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


class DCNv2(ModulatedDeformConv):
    """A modulated deformable convolution with required stride and padding; it always has a bias."""

    @takes_aliases
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size,
        dilation: Size = 1,
        deformable_groups: int = 1,
    ) -> None:
        geometry = (kernel_size, stride, padding, dilation)
        super().__init__(in_channels, out_channels, *geometry, deform_groups=deformable_groups)


class DCN(DCNv2):
    """A modulated deformable convolution that predicts its offsets and masks: forward(input).

    `conv_offset_mask` follows the dilation, which the original's does not: there, any dilation but
    1 reads outside its offsets. state_dict: `weight`, `bias`, `conv_offset_mask.{weight,bias}`.
    """

    @takes_aliases
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size,
        dilation: Size = 1,
        deformable_groups: int = 1,
    ) -> None:
        geometry = (kernel_size, stride, padding, dilation)
        super().__init__(in_channels, out_channels, *geometry, deformable_groups)
        taps = self.kernel_size[0] * self.kernel_size[1]
        self.conv_offset_mask = ZeroConv2d(
            in_channels,
            3 * self.deform_groups * taps,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
        )

    def init_offset(self) -> None:
        """Zero the branch, so that offsets start at 0 and masks at 0.5."""
        self.conv_offset_mask.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve [N, C, H, W] to [N, O, Ho, Wo]."""
        check_batch(input)
        taps = self.deform_groups * self.kernel_size[0] * self.kernel_size[1]
        offset, logits = self.conv_offset_mask(input).split([2 * taps, taps], dim=1)
        return self.convolve(input, offset, logits.sigmoid())


@overridable
def dcn_v2_pooling(
    input: Tensor,
    rois: Boxes,
    offset: Tensor | None,
    spatial_scale: float,
    pooled_size: int,
    output_dim: int,
    no_trans: bool,
    group_size: int = 1,
    part_size: int | None = None,
    sample_per_part: int = 4,
    trans_std: float = 0.0,
) -> Tensor:
    """Pool as `dcnv2.ops.deform_psroi_pool` does; `no_trans` ignores the offsets.

    Raises:
        ValueError: the input has not output_dim * group_size^2 channels.
    """
    if not is_scripting():
        checks.check_rank("input", input, 4, "[N, output_dim*group_size^2, H, W]")
    if input.shape[1] != output_dim * group_size**2:
        raise ValueError(
            f"input must have output_dim * group_size^2 = {output_dim * group_size**2} channels, "
            f"got {input.shape[1]}"
        )
    return deform_psroi_pool(
        input,
        rois,
        None if no_trans else offset,
        None,
        pooled_size,
        spatial_scale,
        group_size,
        part_size,
        sample_per_part,
        trans_std,
    )


class DCNv2Pooling(nn.Module):
    """Deformable position-sensitive RoI pooling: forward(input, rois, offset)."""

    __constants__ = ("no_trans",)  # for TorchScript, which then leaves the branches out

    def __init__(
        self,
        spatial_scale: float,
        pooled_size: int,
        output_dim: int,
        no_trans: bool,
        group_size: int = 1,
        part_size: int | None = None,
        sample_per_part: int = 4,
        trans_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.spatial_scale = checks.real("spatial_scale", spatial_scale)
        self.pooled_size = checks.whole("pooled_size", pooled_size)
        self.output_dim = checks.whole("output_dim", output_dim)
        self.no_trans = bool(no_trans)
        self.group_size = checks.whole("group_size", group_size)
        part_size = pooled_size if part_size is None else part_size
        self.part_size = checks.whole("part_size", part_size)
        self.sample_per_part = checks.whole("sample_per_part", sample_per_part)
        self.trans_std = checks.real("trans_std", trans_std)
        checks.limited("pooled_size", self.pooled_size, limits_of="output_size")
        if self.output_dim < 1:
            raise ValueError(f"output_dim must be positive, got {output_dim}")
        checks.check_psroi_pool_options(
            self.pooled_size,
            self.spatial_scale,
            self.group_size,
            self.part_size,
            self.sample_per_part,
            self.trans_std,
        )

    def pool(self, input: Tensor, rois: Tensor, offset: Tensor | None, no_trans: bool) -> Tensor:
        """Pool [N, C, H, W] to [R, output_dim, P, P]."""
        return dcn_v2_pooling(
            input,
            rois,
            offset,
            self.spatial_scale,
            self.pooled_size,
            self.output_dim,
            no_trans,
            self.group_size,
            self.part_size,
            self.sample_per_part,
            self.trans_std,
        )

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None) -> Tensor:
        """Pool [N, C, H, W] to [R, output_dim, P, P]."""
        return self.pool(input, rois, offset, self.no_trans)


class DCNPooling(DCNv2Pooling):
    """Modulated deformable RoI pooling that predicts its offsets and masks: forward(input, rois).

    state_dict: `offset_mask_fc.{0,2,4}.{weight,bias}`.
    """

    def __init__(
        self,
        spatial_scale: float,
        pooled_size: int,
        output_dim: int,
        no_trans: bool,
        group_size: int = 1,
        part_size: int | None = None,
        sample_per_part: int = 4,
        trans_std: float = 0.0,
        deform_fc_dim: int = 1024,
    ) -> None:
        options = (no_trans, group_size, part_size, sample_per_part, trans_std)
        super().__init__(spatial_scale, pooled_size, output_dim, *options)
        self.deform_fc_dim = deform_fc_dim
        if no_trans:
            return
        bins = self.pooled_size * self.pooled_size
        deform_fc_dim = checks.whole("deform_fc_dim", deform_fc_dim)
        if deform_fc_dim < 1:
            raise ValueError(f"deform_fc_dim must be positive, got {deform_fc_dim}")
        last = ZeroLinear(deform_fc_dim, 3 * bins)
        self.offset_mask_fc = nn.Sequential(
            nn.Linear(bins * self.output_dim, deform_fc_dim),
            nn.ReLU(),
            nn.Linear(deform_fc_dim, deform_fc_dim),
            nn.ReLU(),
            last,
        )

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        """Pool [N, C, H, W] to [R, output_dim, P, P]."""
        plain = self.pool(input, rois, None, True)
        if self.no_trans:
            return plain
        size = (3, self.pooled_size, self.pooled_size)
        planes = self.offset_mask_fc(plain.flatten(1)).unflatten(1, size)
        mask = torch.sigmoid(planes[:, 2:])
        return self.pool(input, rois, planes[:, :2], False) * mask
