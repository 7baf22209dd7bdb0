# SPDX-License-Identifier: BSD-3-Clause
"""ResNet and ResNeXt bodies whose 3x3 convolutions may be deformable, stage by stage.

Parameters have the names of `torchvision.models.resnet`, so ImageNet weights load as they are.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from dcnv2.models.config import BackboneConfig, NormKind
from dcnv2.models.layers import conv3x3, make_norm

# blocks in conv2..conv5, groups, width of a group
ARCHS = {
    "resnet50": ((3, 4, 6, 3), 1, 64),
    "resnet101": ((3, 4, 23, 3), 1, 64),
    "resnext101_32x8d": ((3, 4, 23, 3), 32, 8),
    "resnext101_64x4d": ((3, 4, 23, 3), 64, 4),
}


class ResNet(nn.Module):
    """The body of a ResNet; returns the maps of conv2 to conv5 as `c2`..`c5`.

    With the `c5` topology conv5 has stride 1 and all its 3x3 convolutions dilation 2 (DCNv2 section
    5.1), so conv4 and conv5 share stride 16; otherwise conv5 has stride 32.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        blocks, groups, group_width = ARCHS[config.arch]
        norm = self._norm_kind(0)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm(norm, 64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

        self.channels: dict[str, int] = {}
        self.strides: dict[str, int] = {}
        channels, map_stride = 64, 4
        for index, count in enumerate(blocks):
            dilated = index == 3 and config.topology == "c5"
            stride = 1 if index == 0 or dilated else 2
            stage = []
            for block in range(count):
                stage.append(
                    self._block(
                        index,
                        channels,
                        64 * 2**index,
                        stride if block == 0 else 1,
                        2 if dilated else 1,
                        groups,
                        group_width,
                    )
                )
                channels = 64 * 2**index * Bottleneck.expansion
            setattr(self, f"layer{index + 1}", nn.Sequential(*stage))
            map_stride *= stride
            self.channels[f"c{index + 2}"] = channels
            self.strides[f"c{index + 2}"] = map_stride
        self._freeze()

    def _norm_kind(self, part: int) -> NormKind:
        """Frozen parts keep their statistics too; part 0 is the stem, 1 to 4 the stages."""
        norm = self.config.norm
        return "frozen" if norm in ("batch", "sync") and part < self.config.freeze_at else norm

    def _block(
        self,
        index: int,
        in_channels: int,
        planes: int,
        stride: int,
        dilation: int,
        groups: int,
        group_width: int,
    ) -> Bottleneck:
        config = self.config
        norm = self._norm_kind(index + 1)
        out_channels = planes * Bottleneck.expansion
        downsample = None
        if stride != 1 or in_channels != out_channels:
            downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                make_norm(norm, out_channels),
            )
        block = Bottleneck(
            in_channels,
            planes,
            downsample=downsample,
            groups=groups,
            base_width=group_width,
            norm_layer=lambda width: make_norm(norm, width),
        )
        width = block.conv2.out_channels
        first, second = (stride, 1) if config.stride_in_1x1 else (1, stride)
        block.conv1 = nn.Conv2d(in_channels, width, 1, stride=first, bias=False)
        block.conv2 = conv3x3(
            config.convs[index],
            width,
            width,
            second,
            dilation,
            groups,
            config.deform_groups,
            config.mask_scale,
        )
        pointwise = [block.conv1, block.conv3] + ([downsample[0]] if downsample else [])
        for conv in pointwise:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return block

    def _freeze(self) -> None:
        parts = [[self.conv1, self.bn1], *([getattr(self, f"layer{i}")] for i in range(1, 5))]
        for part in parts[: self.config.freeze_at]:
            for module in part:
                module.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps an image batch [N, 3, H, W] to `c2`..`c5`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = {}
        for index in range(4):
            x = getattr(self, f"layer{index + 1}")(x)
            maps[f"c{index + 2}"] = x
        return maps
