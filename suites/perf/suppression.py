# SPDX-License-Identifier: BSD-3-Clause
"""Batched non-maximum suppression of a detector's proposals and detections.

torchvision's is called for one image after the other, as its detectors do; it first removes the
boxes that are absent, and moves the groups apart.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

_OBJECTS, _WIDTH, _HEIGHT = 60, 1216, 800  # of an image; pixels


@dataclass(frozen=True)
class Workload:
    """Candidates of a batch of images, `present` of which are boxes."""

    name: str
    batch: int
    candidates: int
    groups: int
    max_out: int
    iou_threshold: float
    present: float = 1.0


def _proposals(batch: int) -> Workload:
    """1000 boxes of each of four levels, and all 741 of the coarsest one."""
    return Workload(f"proposals_b{batch}", batch, 4741, 5, 1000, 0.7)


def _detections(batch: int, present: float, name: str = "detections") -> Workload:
    """1000 boxes of each of 80 classes."""
    return Workload(f"{name}_b{batch}", batch, 80_000, 80, 100, 0.5, present)


GPU = (
    _proposals(2),
    _proposals(8),
    _detections(8, 0.005),
    _detections(8, 1.0, "all_detections"),
)
CPU = (_proposals(2), _detections(2, 0.005))


class NmsPass:
    """The operands of a workload, generated from a seed, and the only pass."""

    def __init__(self, case: "NmsCase", seed: int = 0):
        self.case, load = case, case.load
        generator = torch.Generator(case.device).manual_seed(seed)
        shape = (load.batch, load.candidates)

        def draw(*size: int) -> Tensor:
            return torch.rand(size, device=case.device, generator=generator)

        def whole(below: int) -> Tensor:
            return torch.randint(below, shape, device=case.device, generator=generator)

        # Candidates are objects, moved by about a tenth of their size.
        sizes = 16 + 240 * draw(load.batch, _OBJECTS, 2).square()
        corners = draw(load.batch, _OBJECTS, 2) * torch.tensor([_WIDTH, _HEIGHT]).to(sizes)
        objects = torch.cat([corners, sizes], 2)
        chosen = objects.gather(1, whole(_OBJECTS).unsqueeze(2).expand(-1, -1, 4))
        moved = chosen + 0.2 * (draw(*shape, 4) - 0.5) * chosen[..., 2:].repeat(1, 1, 2)
        self.boxes = torch.cat([moved[..., :2], moved[..., :2] + moved[..., 2:]], 2)
        self.scores = draw(*shape).where(draw(*shape) < load.present, -torch.inf)
        self.groups = whole(load.groups)

    def forward(self) -> tuple[Tensor, ...]:
        """The kept boxes of all images."""
        load, operands = self.case.load, (self.boxes, self.scores, self.groups)
        if self.case.implementation == "torchvision":
            images = zip(*operands, strict=True)
            return tuple(_torchvisions(*image, load) for image in images)
        import dcnv2.ops
        from dcnv2.ops.portable import nms

        call = nms if self.case.implementation == "portable" else dcnv2.ops
        return call.batched_nms(*operands, load.iou_threshold, load.max_out)

    def wrong_images(self) -> float:
        """The share of images whose kept boxes differ from those of torchvision's nms."""
        load, (indices, counts) = self.case.load, self.forward()
        wrong = 0
        for image in range(load.batch):
            operands = (self.boxes[image], self.scores[image], self.groups[image])
            wanted = _by_groups(*operands, load.iou_threshold)[: load.max_out]
            wrong += indices[image, : counts[image]].tolist() != wanted.tolist()
        return wrong / load.batch


def _torchvisions(boxes: Tensor, scores: Tensor, groups: Tensor, load: Workload) -> Tensor:
    from torchvision.ops import batched_nms

    (there,) = (scores > -torch.inf).nonzero(as_tuple=True)
    kept = batched_nms(boxes[there], scores[there], groups[there], load.iou_threshold)
    return there[kept[: load.max_out]]


def _by_groups(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    from torchvision.ops import nms

    kept = torch.zeros_like(groups, dtype=torch.bool)
    for group in groups.unique():
        (index,) = ((groups == group) & (scores > -torch.inf)).nonzero(as_tuple=True)
        kept[index[nms(boxes[index], scores[index], iou_threshold)]] = True
    order = scores.sort(descending=True, stable=True).indices
    return order[kept[order]]


@dataclass(frozen=True)
class NmsCase:
    """One measurement."""

    load: Workload
    implementation: str
    device: str
    dtype: str = "fp32"
    layout: str = "contiguous"
    passes: str = "forward"

    @property
    def name(self) -> str:
        """The name of what is measured, without the implementation."""
        return self.load.name

    @property
    def label(self) -> str:
        """The name of the case in test reports."""
        return f"{self.name}-{self.implementation}"

    def problem(self, device: str) -> NmsPass:
        """The case's operands; `device` is the case's own."""
        assert device == self.device
        return NmsPass(self)

    def identity(self) -> dict[str, object]:
        """The columns that say what was measured."""
        load = asdict(self.load)
        return {
            "op": "batched_nms",
            "set": "nms",
            "layer": load.pop("name"),
            **load,
            "offsets": "",
            "implementation": self.implementation,
            "dtype": self.dtype,
            "layout": self.layout,
            "pass": self.passes,
        }

    def moved_bytes(self) -> int:
        """Least traffic with memory: every operand and result once."""
        load = self.load
        return load.batch * (load.candidates * (16 + 4 + 8) + (load.max_out + 1) * 8)

    def flops(self) -> int:
        """No matrix products."""
        return 0
