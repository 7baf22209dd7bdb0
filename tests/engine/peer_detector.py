# SPDX-License-Identifier: BSD-3-Clause
"""Mask R-CNN as detectron2 and mmdetection define it, in their layouts.

Built from torchvision's operators and written from the definitions: it shares no code with the
detectors here. A weight is drawn when the forward pass first asks for it, so the layout is what the
definition needs and no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d, nms, roi_align

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of R, G, B
SIZES, RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)


@dataclass
class Peer:
    """A random detector in another project's layout.

    Attributes:
        detectron2: whose layout; False for mmdetection.
        c4: conv5 in the RoI heads, instead of a feature pyramid.
        planes: of offsets and masks a tap and group in conv3 to conv5: 0, 2 or 3.
        deform_groups: number of offset groups.
        caffe: B, G, R, without std, and strides in 1x1 convolutions.
        agnostic: boxes and masks are the same for all classes.
        masks: a mask head.
        blocks: in each stage.
        classes: number of classes, without background.
        groups: of 3x3 convolutions, each with a width of 4 in conv2.
        seed: of the weights.
        state: the weights by name.
    """

    detectron2: bool
    c4: bool = False
    planes: int = 0
    deform_groups: int = 1
    caffe: bool = True
    agnostic: bool = False
    masks: bool = True
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    classes: int = 3
    groups: int = 1
    seed: int = 5
    state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = torch.Generator().manual_seed(self.seed)

    # ---- weights and layers by name

    def weight(self, name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        if name not in self.state:
            draw = torch.randn(shape, generator=self.random)
            self.state[name] = draw * scale + mean
        return self.state[name]

    def conv(self, x, name, out, size=1, gain=1.2, bias=True, groups=1, **options):
        fan = x.shape[1] // groups * size**2
        weight = self.weight(
            f"{name}.weight", out, x.shape[1] // groups, size, size, scale=(gain / fan) ** 0.5
        )
        shift = self.weight(f"{name}.bias", out, scale=0.1) if bias else None
        return F.conv2d(x, weight, shift, groups=groups, **options)

    def linear(self, x, name, out, gain=1.2):
        weight = self.weight(f"{name}.weight", out, x.shape[1], scale=(gain / x.shape[1]) ** 0.5)
        return F.linear(x, weight, self.weight(f"{name}.bias", out, scale=0.1))

    def norm(self, x, name):
        channels = x.shape[1]
        scale = self.weight(f"{name}.weight", channels, scale=0.1, mean=0.5)
        shift = self.weight(f"{name}.bias", channels, scale=0.1)
        mean = self.weight(f"{name}.running_mean", channels, scale=0.1)
        var = self.weight(f"{name}.running_var", channels, scale=0.05, mean=1.0).abs_()
        return F.batch_norm(x, mean, var, scale, shift, eps=1e-5)

    # ---- the backbone

    def stage(self, x, index, prefix):
        """conv2 (index 1) to conv5 (4)."""
        for number in range(self.blocks[index - 1]):
            stride = 2 if number == 0 and index > 1 else 1
            x = self.bottleneck(x, index, f"{prefix}.{number}", stride, shortcut=number == 0)
        return x

    def bottleneck(self, x, index, block, stride, shortcut):
        out = 256 * 2 ** (index - 1)
        width = out // 4 if self.groups == 1 else self.groups * 4 * 2 ** (index - 1)
        first, second = (stride, 1) if self.caffe else (1, stride)
        norms = "{0}.conv{1}.norm" if self.detectron2 else "{0}.bn{1}"
        y = self.conv(x, f"{block}.conv1", width, bias=False, stride=first)
        y = F.relu(self.norm(y, norms.format(block, 1)))
        y = self.conv3x3(y, block, width, second, index)
        y = F.relu(self.norm(y, norms.format(block, 2)))
        y = self.norm(self.conv(y, f"{block}.conv3", out, bias=False), norms.format(block, 3))
        if shortcut:
            name, norm = f"{block}.downsample.0", f"{block}.downsample.1"
            if self.detectron2:
                name, norm = f"{block}.shortcut", f"{block}.shortcut.norm"
            x = self.norm(self.conv(x, name, out, bias=False, stride=stride), norm)
        return F.relu(x + y)

    def conv3x3(self, x, block, width, stride, index):
        name, options = f"{block}.conv2", {"stride": stride, "padding": 1}
        if not self.planes or index == 1:
            return self.conv(x, name, width, 3, bias=False, groups=self.groups, **options)
        branch = f"{name}_offset" if self.detectron2 else f"{name}.conv_offset"
        taps = 9 * self.deform_groups
        planes = self.conv(x, branch, self.planes * taps, 3, gain=0.3, **options)
        mask = planes[:, 2 * taps :].sigmoid() if self.planes == 3 else None
        shape = width, width // self.groups, 3, 3
        weight = self.weight(f"{name}.weight", *shape, scale=(1.2 / shape[1] / 9) ** 0.5)
        return deform_conv2d(x, planes[:, : 2 * taps], weight, None, stride, 1, mask=mask)

    def maps(self, batch):
        """The maps by stride: one of conv4, or a pyramid of five."""
        body = "backbone" if self.c4 or not self.detectron2 else "backbone.bottom_up"
        stem, norm = f"{body}.conv1", f"{body}.bn1"
        stage = f"{body}.layer{{0}}"
        if self.detectron2:
            stem, norm, stage = f"{body}.stem.conv1", f"{body}.stem.conv1.norm", f"{body}.res{{1}}"
        gain = 1.2 / STD[0] ** 2 if self.caffe else 1.2
        x = self.conv(batch, stem, 64, 7, gain=gain, bias=False, stride=2, padding=3)
        x = F.max_pool2d(F.relu(self.norm(x, norm)), 3, 2, 1)
        bottom = []
        for index in range(1, 4 if self.c4 else 5):
            x = self.stage(x, index, stage.format(index, index + 1))
            bottom.append(x)
        if self.c4:
            return {16: x}
        lateral, output = "neck.lateral_convs.{0}.conv", "neck.fpn_convs.{0}.conv"
        if self.detectron2:
            lateral, output = "backbone.fpn_lateral{1}", "backbone.fpn_output{1}"
        above, pyramid = None, {}
        for level in (3, 2, 1, 0):
            here = self.conv(bottom[level], lateral.format(level, level + 2), 16)
            if above is not None:
                here = here + F.interpolate(above, here.shape[2:], mode="nearest")
            above = here
            name = output.format(level, level + 2)
            pyramid[4 * 2**level] = self.conv(here, name, 16, 3, padding=1)
        pyramid[64] = pyramid[32][:, :, ::2, ::2]
        return dict(sorted(pyramid.items()))

    # ---- proposals

    def anchors(self, x, stride, sizes):
        pairs = [(s, r) for s in sizes for r in RATIOS]
        if not self.detectron2:
            pairs = [(s, r) for r in RATIOS for s in sizes]
        sides = torch.tensor([[s / math.sqrt(r), s * math.sqrt(r)] for s, r in pairs])
        y, x = (torch.arange(n) * float(stride) for n in x.shape[2:])
        centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[:, :, None]
        return torch.cat([centres - sides / 2, centres + sides / 2], dim=-1).reshape(-1, 4)

    def proposals(self, maps, size):
        names = ("rpn_head.rpn_conv", "rpn_head.rpn_cls", "rpn_head.rpn_reg")
        if self.detectron2:
            head = "proposal_generator.rpn_head"
            names = (f"{head}.conv", f"{head}.objectness_logits", f"{head}.anchor_deltas")
        boxes, scores, levels = [], [], []
        for level, (stride, x) in enumerate(maps.items()):
            sizes = SIZES if self.c4 else SIZES[level : level + 1]
            count = len(sizes) * len(RATIOS)
            hidden = F.relu(self.conv(x, names[0], x.shape[1], 3, padding=1))
            logits = self.conv(hidden, names[1], count, gain=3.0)
            deltas = self.conv(hidden, names[2], 4 * count, gain=0.3)
            anchors = self.anchors(x, stride, sizes)
            deltas = deltas[0].unflatten(0, (count, 4)).permute(2, 3, 0, 1).reshape(-1, 4)
            logits = logits[0].permute(1, 2, 0).flatten()
            best = logits.topk(min(len(logits), 60 if self.c4 else 20)).indices
            boxes.append(clip(decode(anchors[best], deltas[best], (1, 1, 1, 1)), size))
            scores.append(logits[best])
            levels.append(torch.full((len(best),), level))
        boxes, scores, levels = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        whole = has_area(boxes)
        boxes, scores, levels = boxes[whole], scores[whole], levels[whole]
        kept = separate_nms(boxes, scores, levels, 0.7)[:30]
        return boxes[kept]

    # ---- heads

    def pool(self, maps, boxes, size):
        rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
        if self.c4:
            return roi_align(maps[16], rois, size, 1 / 16, 0, aligned=True)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        level = (4 + (area.sqrt() / 224 + 1e-8).log2()).floor().clamp(2, 5)
        pooled = torch.zeros(len(boxes), 16, size, size)
        for stride, x in list(maps.items())[:4]:
            here = 2.0**level == stride
            pooled[here] = roi_align(x, rois[here], size, 1 / stride, 0, aligned=True)
        return pooled

    def conv5(self, pooled):
        return self.stage(
            pooled, 4, "roi_heads.res5" if self.detectron2 else "roi_head.shared_head.layer4"
        )

    def detect(self, image):
        """Boxes, scores, labels from 0 and masks of a uint8 image [3, H, W] in R, G, B."""
        pixels = image.float() - torch.tensor(MEAN).view(3, 1, 1)
        pixels = pixels.flip(0) if self.caffe else pixels / torch.tensor(STD).view(3, 1, 1)
        size = image.shape[1:]
        divisor = 1 if self.c4 and self.detectron2 else 32
        padded = [math.ceil(side / divisor) * divisor for side in size]
        batch = F.pad(pixels, (0, padded[1] - size[1], 0, padded[0] - size[0]))[None]
        maps = self.maps(batch)
        rois = self.proposals(maps, size)
        head = "roi_heads.box_{}" if self.detectron2 else "roi_head.bbox_head"
        cls, reg = f"{head}.fc_cls", f"{head}.fc_reg"
        fcs = [f"{head}.shared_fcs.0", f"{head}.shared_fcs.1"]
        if self.detectron2:
            head = "roi_heads.box_head"
            fcs = [f"{head}.fc1", f"{head}.fc2"]
            cls, reg = (f"roi_heads.box_predictor.{n}" for n in ("cls_score", "bbox_pred"))
        if self.c4:
            features = self.conv5(self.pool(maps, rois, 14)).mean(dim=(2, 3))
        else:
            features = self.pool(maps, rois, 7).flatten(1)
            for name in fcs:
                features = F.relu(self.linear(features, name, 24))
        scores = self.linear(features, cls, self.classes + 1, gain=30).softmax(dim=1)[:, :-1]
        kinds = 1 if self.agnostic else self.classes
        deltas = self.linear(features, reg, 4 * kinds).unflatten(1, (kinds, 4))
        boxes = decode(rois[:, None], deltas, (10, 10, 5, 5)).expand(-1, self.classes, 4)
        boxes = clip(boxes, size)
        # mmdetection keeps boxes without an area; neither detectron2 nor the detector here does.
        row, label = ((scores > 0.05) & has_area(boxes)).nonzero(as_tuple=True)
        boxes, scores = boxes[row, label], scores[row, label]
        kept = separate_nms(boxes, scores, label, 0.5)[:100]
        boxes, scores, label = boxes[kept], scores[kept], label[kept]
        return boxes, scores, label, self.paste(maps, boxes, label, size) if self.masks else None

    def paste(self, maps, boxes, label, size):
        names = ["roi_head.mask_head.convs.0.conv", "roi_head.mask_head.upsample"]
        names.append("roi_head.mask_head.conv_logits")
        if self.detectron2:
            names = [f"roi_heads.mask_head.{n}" for n in ("mask_fcn1", "deconv", "predictor")]
        if self.c4:
            x = self.conv5(self.pool(maps, boxes, 14))
        else:
            x = F.relu(self.conv(self.pool(maps, boxes, 14), names[0], 16, 3, padding=1))
        weight = self.weight(f"{names[1]}.weight", x.shape[1], 8, 2, 2, scale=x.shape[1] ** -0.5)
        x = F.relu(F.conv_transpose2d(x, weight, self.weight(f"{names[1]}.bias", 8), 2))
        kinds = 1 if self.agnostic else self.classes
        logits = self.conv(x, names[2], kinds, gain=6)
        chosen = label * 0 if self.agnostic else label
        masks = logits[torch.arange(len(label)), chosen].sigmoid()
        planes = []
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
            y = (torch.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
            x = (torch.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
            grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
            planes.append(F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0])
        return torch.stack(planes) >= 0.5


def decode(boxes: Tensor, deltas: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Boxes moved by predicted deltas, whose logarithms of sizes are at most that of 1000 / 16."""
    deltas = deltas / torch.tensor(weights, dtype=deltas.dtype)
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + sides / 2 + deltas[..., :2] * sides
    sides = sides * deltas[..., 2:].clamp(max=math.log(1000 / 16)).exp()
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=-1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes within an image of (height, width)."""
    limit = torch.tensor([size[1], size[0]] * 2)
    return boxes.clamp(min=0).minimum(limit)


def has_area(boxes: Tensor) -> Tensor:
    """Whether boxes have a width and a height."""
    return (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)


def separate_nms(boxes: Tensor, scores: Tensor, kind: Tensor, threshold: float) -> Tensor:
    """Indices of what non-maximum suppression within each kind keeps, best first."""
    kept = []
    for value in kind.unique():
        here = (kind == value).nonzero()[:, 0]
        kept.append(here[nms(boxes[here], scores[here], threshold)])
    joined = torch.cat(kept)
    return joined[scores[joined].argsort(descending=True)]
