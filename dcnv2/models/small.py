# SPDX-License-Identifier: BSD-3-Clause
"""A small GroupNorm body with one stride-8 map, for tests and for training on a CPU in minutes."""

from __future__ import annotations

from torch import Tensor, nn

from dcnv2.models.config import BackboneConfig, ConvKind
from dcnv2.models.layers import conv3x3


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm around a shortcut."""

    def __init__(
        self, config: BackboneConfig, kind: ConvKind, in_channels: int, channels: int, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(config, kind, in_channels, channels, stride)
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv2 = conv3x3(config, kind, channels, channels)
        self.norm2 = nn.GroupNorm(8, channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, channels, H / stride, W / stride]."""
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SmallNet(nn.Module):
    """A stem to stride 4 and four blocks at stride 8, a configured kind of convolution in each."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.channels
        if width % 8:
            raise ValueError(f"backbone.channels of `small`: wanted a multiple of 8, got {width}")
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(4, width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(8, width),
            nn.ReLU(),
        )
        self.layers = nn.Sequential(
            *(
                BasicBlock(config, kind, width, width, 2 if index == 0 else 1)
                for index, kind in enumerate(config.convs)
            )
        )
        self.channels = {"c5": width}
        self.strides = {"c5": 8}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps an image batch [N, 3, H, W] to `c5` [N, channels, H / 8, W / 8]."""
        return {"c5": self.layers(self.stem(x))}
