# SPDX-License-Identifier: BSD-3-Clause
"""ResNet and ResNeXt bodies whose 3x3 convolutions may be deformable, stage by stage.

Parameters have the names of `torchvision.models.resnet`, so ImageNet weights load as they are.
"""

from __future__ import annotations

from torch import Tensor, nn

from dcnv2.models.config import BackboneConfig, NormKind
from dcnv2.models.fused import Bottleneck
from dcnv2.models.layers import conv3x3, make_norm, norm_layer

# blocks in conv2..conv5, groups, width of a group
ARCHS = {
    "resnet50": ((3, 4, 6, 3), 1, 64),
    "resnet101": ((3, 4, 23, 3), 1, 64),
    "resnext101_32x4d": ((3, 4, 23, 3), 32, 4),
    "resnext101_32x8d": ((3, 4, 23, 3), 32, 8),
    "resnext101_64x4d": ((3, 4, 23, 3), 64, 4),
}


class ResNet(nn.Module):
    """The body of a ResNet; returns the maps of its stages as `c2`..`c5`.

    With the `c5` topology conv5 has stride 1 and all its 3x3 convolutions dilation 2 (DCNv2 section
    5.1), so conv4 and conv5 share stride 16; with `c4` the body ends at conv4.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm(norm_of_part(config, 0), 64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        init_conv(self.conv1)

        self.channels: dict[str, int] = {}
        self.strides: dict[str, int] = {}
        channels, map_stride = 64, 4
        self.depth = 3 if config.topology == "c4" else 4
        for index in range(self.depth):
            dilated = index == 3 and config.topology == "c5"
            stride = 1 if index == 0 or dilated else 2
            stage = make_stage(config, index, channels, stride, dilation=2 if dilated else 1)
            setattr(self, f"layer{index + 1}", stage)
            channels = stage_channels(index)
            map_stride *= stride
            self.channels[f"c{index + 2}"] = channels
            self.strides[f"c{index + 2}"] = map_stride
        self._freeze()

    def _freeze(self) -> None:
        parts = [[self.conv1, self.bn1]]
        parts += [[getattr(self, f"layer{index + 1}")] for index in range(self.depth)]
        for part in parts[: self.config.freeze_at]:
            for module in part:
                module.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps an image batch [N, 3, H, W] to `c2`..`c5` (`c4` if that is the last)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = {}
        for index in range(self.depth):
            x = getattr(self, f"layer{index + 1}")(x)
            maps[f"c{index + 2}"] = x
        return maps


def norm_of_part(config: BackboneConfig, part: int) -> NormKind:
    """Frozen parts keep their statistics too; part 0 is the stem, 1 to 4 the stages."""
    batch = config.norm in ("batch", "sync")
    return "frozen" if batch and part < config.freeze_at else config.norm


def stage_channels(index: int) -> int:
    """Output channels of stage 0 (conv2) to 3 (conv5)."""
    return 64 * 2**index * Bottleneck.expansion


def make_stage(
    config: BackboneConfig, index: int, in_channels: int, stride: int, dilation: int = 1
) -> nn.Sequential:
    """The blocks of conv2 (`index` 0) to conv5 (3); the first one has the stride."""
    blocks = []
    for block in range(ARCHS[config.arch][0][index]):
        first = block == 0
        channels = in_channels if first else stage_channels(index)
        blocks.append(_bottleneck(config, index, channels, stride if first else 1, dilation))
    return nn.Sequential(*blocks)


def _bottleneck(
    config: BackboneConfig, index: int, in_channels: int, stride: int, dilation: int
) -> Bottleneck:
    """torchvision's block with the configured norm, 3x3 convolution and place of the stride."""
    _, groups, group_width = ARCHS[config.arch]
    norm = norm_of_part(config, index + 1)
    out_channels = stage_channels(index)
    downsample = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
        downsample = nn.Sequential(shortcut, make_norm(norm, out_channels))
    block = Bottleneck(
        in_channels,
        out_channels // Bottleneck.expansion,
        downsample=downsample,
        groups=groups,
        base_width=group_width,
        norm_layer=norm_layer(norm),
    )
    width = block.conv2.out_channels
    first, second = (stride, 1) if config.stride_in_1x1 else (1, stride)
    block.conv1 = nn.Conv2d(in_channels, width, 1, stride=first, bias=False)
    kind = config.convs[index]
    block.conv2 = conv3x3(config, kind, width, width, second, dilation, groups)
    for conv in [block.conv1, block.conv3, *([downsample[0]] if downsample else [])]:
        init_conv(conv)
    return block


def init_conv(conv: nn.Conv2d) -> None:
    """Draws weights as torchvision's ResNets do, so that activations keep their size."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
