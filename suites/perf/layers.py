# SPDX-License-Identifier: BSD-3-Clause
"""The layer catalogue: deformable layers of real nets in named sets, and sweeps of one quantity."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from suites.problems.conv_sizes import ConvSizes


@dataclass(frozen=True)
class Layer(ConvSizes):
    """One modulated deformable convolution with a bias, and what it computes.

    `net` names a network with this layer. All extents are of the layer, not of the image.
    """

    name: str
    net: str
    batch: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    deform_groups: int = 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every operand and of the output, by name."""
        sampled = self.deform_groups * self.taps
        return {
            "input": (self.batch, self.in_channels, self.height, self.width),
            "offset": (self.batch, 2 * sampled, *self.out_size),
            "weight": (self.out_channels, self.in_channels // self.groups, *self.kernel),
            "bias": (self.out_channels,),
            "mask": (self.batch, sampled, *self.out_size),
            "output": (self.batch, self.out_channels, *self.out_size),
        }

    def flops(self, passes: str) -> int:
        """Operations of the matrix products: 2 per multiply-add.

        Sampling is not counted, so shares of the matmul peak are comparable with those of a regular
        convolution. The backward pass has two products of the forward's size.
        """
        columns = self.taps * self.in_channels // self.groups
        forward = 2 * math.prod(self.shapes["output"]) * columns
        return forward * {"forward": 1, "backward": 2, "both": 3}[passes]

    def moved_bytes(self, passes: str, element_bytes: int, deformable: bool = True) -> int:
        """Least traffic with memory: every tensor once for each pass that reads or writes it."""
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        output = sizes.pop("output")
        operands = sum(
            size for name, size in sizes.items() if deformable or name not in ("offset", "mask")
        )
        forward, backward = operands + output, 2 * operands + output
        elements = {"forward": forward, "backward": backward, "both": forward + backward}[passes]
        return elements * element_bytes

    def shrunk(self, batch: int = 1, height: int = 9, width: int = 11) -> "Layer":
        """The same layer on a small map, for checks against a slow reference."""
        return replace(
            self,
            name=f"{self.name}_small",
            batch=min(batch, self.batch),
            height=min(height, self.height),
            width=min(width, self.width),
        )


def _square(name: str, net: str, batch: int, channels: int, size: tuple[int, int], **more) -> Layer:
    return Layer(name, net, batch, channels, more.pop("out_channels", channels), *size, **more)


_DILATED = {"padding": (2, 2), "dilation": (2, 2)}

EIGHT = (
    _square("r50_c3_b8", "ResNet-50", 8, 128, (100, 168)),
    _square("r50_c4_b8", "ResNet-50", 8, 256, (50, 84)),
    _square("r50_c5_dil_b8", "ResNet-50-C5", 8, 512, (50, 84), **_DILATED),
    _square("r50_c3", "ResNet-50", 2, 128, (100, 168)),
    _square("r50_c4", "ResNet-50", 2, 256, (50, 84)),
    _square("r50_c5_dil", "ResNet-50-C5", 2, 512, (50, 84), **_DILATED),
    _square("edvr_dg8", "EDVR", 4, 64, (180, 320), deform_groups=8),
    _square("centernet", "CenterNet-DLA", 16, 64, (128, 128)),
)

# Small enough for two cores.
CPU = (
    _square("cpu_c3", "ResNet-50", 1, 128, (50, 84)),
    _square("cpu_c4", "ResNet-50", 1, 256, (25, 42)),
    _square("cpu_edvr_dg8", "EDVR", 1, 64, (64, 64), deform_groups=8),
)


# For the host's share of a call.
TINY = Layer("tiny", "none", 1, 8, 8, 4, 4)


def _resnet() -> tuple[Layer, ...]:
    """Every distinct 3x3 convolution in c3 to c5 of ResNet-50 and ResNet-101, for 800x1344 images.

    Both nets have the same layers but repeat them differently; the first block of a stage is
    strided.
    """
    layers = []
    for batch in (1, 2, 8, 16):
        for stage, channels, size in ((3, 128, (100, 168)), (4, 256, (50, 84)), (5, 512, (25, 42))):
            name = f"resnet_c{stage}_b{batch}"
            doubled = (2 * size[0], 2 * size[1])
            layers.append(_square(name, "ResNet-50/101", batch, channels, size))
            layers.append(
                _square(f"{name}_s2", "ResNet-50/101", batch, channels, doubled, stride=(2, 2))
            )
    return tuple(layers)


def _video() -> tuple[Layer, ...]:
    """The alignment layers of video super-resolution on 180x320 frames: pyramids and flow-guided.

    EDVR aligns at three scales with 8 deform groups, BasicVSR++ two frames at once with 16.
    """
    edvr = [
        _square(f"edvr_l{level}", "EDVR", 4, 64, (180 >> level, 320 >> level), deform_groups=8)
        for level in (0, 1, 2)
    ]
    wide = _square("edvr_large", "EDVR-L", 1, 128, (180, 320), deform_groups=8)
    flow_guided = [
        _square(f"basicvsrpp_dg{groups}", "BasicVSR++", 1, 128, (180, 320), deform_groups=groups)
        for groups in (8, 16)
    ]
    return (*edvr, wide, *(replace(layer, out_channels=64) for layer in flow_guided))


def _centernet() -> tuple[Layer, ...]:
    """The up-sampling path of DLA-34 on 512x512 images: each level's projection and its node."""
    steps = (
        (512, 256, 16),
        (256, 256, 32),
        (256, 128, 32),
        (128, 128, 64),
        (128, 64, 64),
        (64, 64, 128),
    )
    return tuple(
        _square(f"dla_{c}to{o}_{n}px", "CenterNet-DLA", 16, c, (n, n), out_channels=o)
        for c, o, n in steps
    )


_YOLO = tuple(
    _square(f"yolo_p{level}_b{batch}", "YOLO-sized, 640x640", batch, channels, (size, size))
    for batch in (1, 16)
    for level, channels, size in ((3, 128, 80), (4, 256, 40), (5, 512, 20))
)

_FULL_HD = (
    _square("hd_c3", "ResNet-50, 1080p", 1, 128, (135, 240)),
    _square("hd_c4", "ResNet-50, 1080p", 1, 256, (68, 120)),
    _square("hd_c5", "ResNet-50, 1080p", 1, 512, (34, 60)),
    _square("hd_full", "restoration, 1080p", 1, 64, (1080, 1920)),
    _square("hd_full_dg8", "restoration, 1080p", 1, 64, (1080, 1920), deform_groups=8),
)


def _grouped() -> tuple[Layer, ...]:
    """Layers with weight groups: ResNeXt-101 for 800x1344 images, few groups, and depthwise."""
    stages = ((3, 512, (100, 168)), (4, 1024, (50, 84)), (5, 2048, (25, 42)))
    resnext = [
        _square(f"x101_{groups}g_c{stage}", f"ResNeXt-101 {kind}", 2, channels, size, groups=groups)
        for kind, groups in (("32x8d", 32), ("64x4d", 64))
        for stage, channels, size in stages
    ]
    size = (50, 84)
    few = [
        _square(f"c4_{groups}g", "256 channels in groups", 2, 256, size, groups=groups)
        for groups in (2, 4, 8, 16)
    ]
    both = _square("c4_4g_dg4", "256 channels in groups", 2, 256, size, groups=4, deform_groups=4)
    depthwise = _square("depthwise", "depthwise", 2, 256, size, groups=256)
    wide = {"kernel": (5, 5), "padding": (2, 2)}
    return (*resnext, *few, both, depthwise, replace(depthwise, name="depthwise_5x5", **wide))


SETS: dict[str, tuple[Layer, ...]] = {
    "eight": EIGHT,
    "groups": _grouped(),
    "cpu": CPU,
    "resnet": _resnet(),
    "video": _video(),
    "centernet": _centernet(),
    "yolo": _YOLO,
    "hd": _FULL_HD,
}


def _powers(first: int, last: int) -> Iterable[int]:
    return (2**n for n in range(first.bit_length() - 1, last.bit_length()))


def sweep(quantity: str, device: str = "cuda") -> dict[int, Layer]:
    """Layers that differ in one quantity ('channels', 'pixels' or 'batch'), by its value.

    'pixels' is the side of a square map. On a CPU the sweep is shorter and its base smaller.
    """
    gpu = device.startswith("cuda")
    base = (
        _square("sweep", "sweep", 4, 128, (64, 64))
        if gpu
        else _square("sweep", "sweep", 1, 64, (48, 48))
    )
    if quantity == "channels":
        values = _powers(16, 1024 if gpu else 256)
        vary = {n: {"in_channels": n, "out_channels": n} for n in values}
    elif quantity == "pixels":
        vary = {n: {"height": n, "width": n} for n in _powers(16, 512 if gpu else 128)}
    elif quantity == "batch":
        vary = {n: {"batch": n} for n in _powers(1, 64 if gpu else 8)}
    else:
        raise ValueError(f"quantity must be channels, pixels or batch, got '{quantity}'")
    return {n: replace(base, name=f"{quantity}_{n}", **more) for n, more in vary.items()}


def find(name: str) -> Layer:
    """The layer of that name, from any set.

    Raises:
        KeyError: No set has such a layer.
    """
    for layers in SETS.values():
        for layer in layers:
            if layer.name == name:
                return layer
    raise KeyError(f"no layer '{name}' in the catalogue")
