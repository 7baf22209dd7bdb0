# SPDX-License-Identifier: BSD-3-Clause
"""Deformable RoI pooling as modules that predict their own offsets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from dcnv2.ops import checks, deform_roi_pool


class _Pack(nn.Module):
    """Pool, look at what came, say by three fully connected layers how to pool, and pool again."""

    _fields = 2  # numbers that are predicted for each bin

    def __init__(
        self,
        output_size: int | Sequence[int],
        channels: int,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
        hidden_channels: int = 1024,
    ):
        super().__init__()
        self.output_size = checks.pair("output_size", output_size)
        self.channels = channels
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.gamma = gamma
        bins = math.prod(self.output_size)
        layers = [
            nn.Linear(bins * channels, hidden_channels),
            nn.Linear(hidden_channels, hidden_channels),
            nn.Linear(hidden_channels, self._fields * bins),
        ]
        for layer, std in zip(layers, (0.01, 0.01, 0.0), strict=True):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.offset_fc = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def _pool(
        self,
        input: Tensor,
        rois: Tensor | Sequence[Tensor],
        offset: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        options = (self.output_size, self.spatial_scale, self.sampling_ratio, self.gamma)
        return deform_roi_pool(input, rois, offset, mask, *options)

    def _predict(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        predicted = self.offset_fc(self._pool(input, rois).flatten(1))
        return predicted.unflatten(1, (self._fields, *self.output_size))

    def extra_repr(self) -> str:
        """Return what the module's line says besides its name."""
        return (
            f"output_size={self.output_size}, channels={self.channels}, "
            f"spatial_scale={self.spatial_scale}, sampling_ratio={self.sampling_ratio}, "
            f"gamma={self.gamma}"
        )


class DeformRoIPoolPack(_Pack):
    """Deformable RoI pooling that predicts its offsets from plainly pooled features.

    The branch is that of arXiv 1811.11168, section 3.2: two hidden layers drawn from N(0, 0.01),
    and a last one that starts at zero, so training starts at plain RoI pooling.

    Args:
        output_size: bins a side: one number, or (ph, pw).
        channels: C of the features.
        spatial_scale: pixels of the features for one of the image.
        sampling_ratio: samples a side in each bin; 0 takes one for every pixel of the bin.
        gamma: scale of the offsets, which are in units of gamma times the box's size.
        hidden_channels: width of the two hidden layers.

    state_dict: `offset_fc.{0,2,4}.{weight,bias}`; the last one gives [2, ph, pw], x first.
    """

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """Pool [N, C, H, W] to [R, C, ph, pw]; `rois` is as in `dcnv2.ops.deform_roi_pool`."""
        return self._pool(input, rois, self._predict(input, rois))


class ModulatedDeformRoIPoolPack(_Pack):
    """Modulated deformable RoI pooling that predicts offsets and masks from pooled features.

    Args: as `DeformRoIPoolPack`. Offsets start at 0 and the mask, a sigmoid, at a half.

    state_dict: `offset_fc.{0,2,4}.{weight,bias}`; the last one gives [3, ph, pw]: offsets along x
    and y, and logits of the mask.
    """

    _fields = 3

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """Pool [N, C, H, W] to [R, C, ph, pw]; `rois` is as in `dcnv2.ops.deform_roi_pool`."""
        offset, logits = self._predict(input, rois).split([2, 1], dim=1)
        return self._pool(input, rois, offset, logits.sigmoid())
