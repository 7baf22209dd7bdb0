# SPDX-License-Identifier: BSD-3-Clause
"""Body plus neck: which maps the RPN and the RoI heads see, and ImageNet weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from dcnv2.convert.detectors.origins import origin_of
from dcnv2.convert.weight_files import load_weights
from dcnv2.models.config import BackboneConfig
from dcnv2.models.layers import norm_layer
from dcnv2.models.resnet import ResNet
from dcnv2.models.small import SmallNet

log = logging.getLogger(__name__)


class Backbone(nn.Module):
    """Base of the necks: a body and what is known of its output.

    Attributes:
        rpn_levels: names of the maps for the RPN, finest first.
        rpn_channels: their width.
        roi_levels: names of the maps for the RoI heads, finest first.
        out_channels: their width.
        strides: stride of each map by name.
    """

    rpn_levels: tuple[str, ...]
    roi_levels: tuple[str, ...]
    rpn_channels: int
    out_channels: int
    strides: dict[str, int]

    def __init__(self, body: ResNet | SmallNet) -> None:
        super().__init__()
        self.body = body
        self.strides = dict(body.strides)


class SingleMapBackbone(Backbone):
    """RPN and RoI heads share the body's last map."""

    def __init__(self, body: SmallNet) -> None:
        super().__init__(body)
        self.rpn_levels = self.roi_levels = ("c5",)
        self.rpn_channels = self.out_channels = body.channels["c5"]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps [N, 3, H, W] to `c5`."""
        return {"c5": self.body(x)["c5"]}


class C4Backbone(Backbone):
    """RPN and RoI heads on conv4; the heads bring conv5 along (`roi_heads.Conv5`)."""

    def __init__(self, body: ResNet) -> None:
        super().__init__(body)
        self.rpn_levels = self.roi_levels = ("c4",)
        self.rpn_channels = self.out_channels = body.channels["c4"]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps [N, 3, H, W] to `c4` at stride 16."""
        return {"c4": self.body(x)["c4"]}


class C5Backbone(Backbone):
    """RPN on conv4, RoI heads on conv5 reduced by a 1x1 convolution and ReLU (section 5.1)."""

    def __init__(self, body: ResNet) -> None:
        super().__init__(body)
        config = body.config
        # Neither neck has frozen statistics to load.
        norm = norm_layer(None if config.norm == "frozen" else config.norm)
        self.reduce = Conv2dNormActivation(
            body.channels["c5"], config.channels, kernel_size=1, norm_layer=norm
        )
        self.rpn_levels, self.roi_levels = ("c4",), ("c5",)
        self.rpn_channels, self.out_channels = body.channels["c4"], config.channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps [N, 3, H, W] to `c4` as it is and `c5` reduced, both at stride 16."""
        maps = self.body(x)
        return {"c4": maps["c4"], "c5": self.reduce(maps["c5"])}


class FPNBackbone(Backbone):
    """torchvision's feature pyramid over `c2`..`c5`, plus `pool` at stride 64 for the RPN."""

    def __init__(self, body: ResNet) -> None:
        super().__init__(body)
        config = body.config
        norm = norm_layer(None if config.norm == "frozen" else config.norm)
        self.fpn = FeaturePyramidNetwork(
            list(body.channels.values()), config.channels, LastLevelMaxPool(), norm_layer=norm
        )
        self.roi_levels = tuple(body.channels)
        self.rpn_levels = (*self.roi_levels, "pool")
        self.rpn_channels = self.out_channels = config.channels
        self.strides["pool"] = 2 * self.strides["c5"]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps [N, 3, H, W] to `c2`..`c5` and `pool`, strides 4 to 64."""
        return self.fpn(self.body(x))


def build_backbone(config: BackboneConfig) -> Backbone:
    """Builds the backbone with fresh weights; see `load_imagenet_weights` for trained ones."""
    if config.arch == "small":
        return SingleMapBackbone(SmallNet(config))
    kinds = {"c4": C4Backbone, "c5": C5Backbone, "fpn": FPNBackbone}
    return kinds[config.topology](ResNet(config))


def load_imagenet_weights(parts: Sequence[nn.Module], arch: str, weights: str) -> None:
    """Loads ImageNet weights by name; 3x3 kernels go into deformable convolutions as they are.

    Args:
        parts: a `ResNet`, and modules that hold its other stages under the same names.
        arch: torchvision's name of the net.
        weights: a `.safetensors` or `.pth` file, or a torchvision weights name.

    Raises:
        FileNotFoundError: neither a file nor a weights name of this net.
        ValueError: tensors of a part other than offset convolutions found nothing, sizes differ,
            the norms are of another kind, the file is damaged, or a weight is NaN or infinite.
    """
    state = _read_weights(arch, weights)
    for part in parts:
        own = part.state_dict()
        statistics = {name for name in state if name.endswith("running_mean")}
        if statistics and not statistics & own.keys():
            raise ValueError(f"{weights}: trained with BatchNorm, but backbone.norm has none")
        shared = {name: value for name, value in state.items() if name in own}
        for name, value in shared.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{weights}: {name} is {list(value.shape)}, wanted {list(own[name].shape)}"
                )
            if not value.isfinite().all():
                raise ValueError(f"{weights}: {name} has NaN or infinite values")
        missing = [
            name
            for name in own.keys() - shared.keys()
            if ".conv_offset." not in name and "num_batches" not in name
        ]
        origin = origin_of(state) if missing else None
        if origin is not None and "backbone.weights" not in origin.taken:
            raise ValueError(f"{weights}: it looks like {origin.text}: {origin.taken}")
        if missing:
            raise ValueError(
                f"{weights}: {len(missing)} of {len(own)} tensors are missing: {min(missing)}, ..."
            )
        part.load_state_dict(shared, strict=False)
        log.info("%s: loaded %d of %d tensors", weights, len(shared), len(own))


def _read_weights(arch: str, weights: str) -> Mapping[str, Tensor]:
    path = Path(weights)
    if path.is_file():
        return load_weights(path)
    if arch in ("small", "resnext101_32x4d"):  # torchvision has neither
        raise FileNotFoundError(
            f"backbone.weights: {weights} is no file, and there are no other weights of {arch}"
        )
    known = get_model_weights(arch).__members__
    if weights not in known:
        raise FileNotFoundError(
            f"backbone.weights: {weights} is neither a file nor one of {', '.join(known)} of {arch}"
        )
    return known[weights].get_state_dict(progress=False, check_hash=True)
