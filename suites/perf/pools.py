# SPDX-License-Identifier: BSD-3-Clause
"""Both deformable RoI poolings, with torchvision's roi_align as a practical lower bound."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from suites.perf.problems import DTYPES, Passes, named_results

_SCALE = 1 / 16  # map pixels per image pixel
_SAMPLES = 2  # per side of a bin

OPERATORS = ("deform_roi_pool", "deform_psroi_pool")


@dataclass(frozen=True)
class Workload:
    """RoIs of a batch of maps."""

    rois: int
    batch: int
    channels: int
    height: int
    width: int


GPU = Workload(rois=1000, batch=2, channels=256, height=50, width=84)
CPU = Workload(rois=50, batch=1, channels=64, height=25, width=42)


class PoolPasses(Passes):
    """Operands of one pooling, generated from a seed."""

    def __init__(self, case: "PoolCase", seed: int = 0):
        self.case, load, bins = case, case.load, case.bins
        generator = torch.Generator(case.device).manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, device=case.device, generator=generator)

        dtype = DTYPES[case.dtype]
        size = torch.tensor([load.width, load.height], device=case.device) / _SCALE
        corners = draw(load.rois, 2, 2).sigmoid().sort(dim=1).values * size
        image = torch.arange(load.rois, device=case.device) % load.batch
        self.rois = torch.cat([image.unsqueeze(1), corners.flatten(1)], dim=1)
        operands = {"input": draw(load.batch, load.channels, load.height, load.width)}
        if case.implementation != "roi_align":
            operands["offset"] = draw(load.rois, 2, bins, bins)
            operands["mask"] = draw(load.rois, 1, bins, bins).sigmoid()
        operands = {name: value.to(dtype).requires_grad_() for name, value in operands.items()}
        grad_output = draw(load.rois, load.channels, bins, bins).to(dtype)
        super().__init__(lambda: self._run(self.rois, operands), operands, grad_output)

    def _run(self, rois: Tensor, operands: dict[str, Tensor]) -> Tensor:
        bins, name = self.case.bins, self.case.implementation
        if name == "roi_align":
            from torchvision.ops import roi_align

            rois = rois.to(operands["input"].dtype)
            return roi_align(operands["input"], rois, bins, _SCALE, _SAMPLES, aligned=True)
        import dcnv2.ops
        from dcnv2.ops import portable

        moved = (operands["input"], rois, operands["offset"], operands["mask"])
        if self.case.op == "deform_roi_pool":
            options = (bins, _SCALE, _SAMPLES, 0.1)
            if name == "portable":
                return portable.deform_roi_pool(*moved, (bins, bins), *options[1:])
            return dcnv2.ops.deform_roi_pool(*moved, *options)
        call = portable if name == "portable" else dcnv2.ops
        return call.deform_psroi_pool(*moved, bins, _SCALE, 1, bins, _SAMPLES, 0.1)

    def reference(self, count: int) -> dict[str, Tensor]:
        """Output of the first `count` rois and their gradients, in float64."""
        import reference

        operands = {
            name: (value if name == "input" else value[:count]).detach().double().requires_grad_()
            for name, value in self.operands.items()
        }
        rois, bins = self.rois[:count].double(), self.case.bins

        def record() -> Tensor:
            operands_in_order = (operands["input"], rois, operands["offset"], operands["mask"])
            if self.case.op == "deform_roi_pool":
                return reference.deform_roi_pool(*operands_in_order, bins, _SCALE, _SAMPLES, 0.1)
            options = (bins, _SCALE, 1, bins, _SAMPLES, 0.1)
            return reference.deform_psroi_pool(*operands_in_order, *options)

        grad_output = self.grad_output[:count].double()
        return named_results(Passes(record, operands, grad_output))


@dataclass(frozen=True)
class PoolCase:
    """One measurement of a pooling."""

    op: str
    bins: int
    implementation: str
    dtype: str
    passes: str
    device: str
    layout: str = "contiguous"

    @property
    def load(self) -> Workload:
        """The workload, by device."""
        return GPU if self.device.startswith("cuda") else CPU

    @property
    def name(self) -> str:
        """The name of what is measured, without the implementation."""
        return f"{self.op}_{self.bins}x{self.bins}"

    @property
    def label(self) -> str:
        """The name of the case in test reports."""
        return "-".join((self.name, self.implementation, self.dtype, self.passes))

    def problem(self, device: str) -> PoolPasses:
        """The case's operands; `device` is the case's own."""
        assert device == self.device
        return PoolPasses(self)

    def identity(self) -> dict[str, object]:
        """The columns that say what was measured."""
        load = asdict(self.load)
        load["in_channels"] = load["out_channels"] = load.pop("channels")
        return {
            "op": self.op,
            "set": "pools",
            "layer": self.name,
            **load,
            "offsets": "0.1",
            "implementation": self.implementation,
            "dtype": self.dtype,
            "layout": self.layout,
            "pass": self.passes,
        }

    def moved_bytes(self) -> int:
        """Least traffic with memory: every tensor once for each pass that reads or writes it."""
        load, area = self.load, self.bins**2
        moved = 0 if self.implementation == "roi_align" else 3 * load.rois * area
        operands = load.batch * load.channels * load.height * load.width + moved
        output = load.rois * load.channels * area
        forward, backward = operands + output, 2 * operands + output
        elements = {"forward": forward, "backward": backward, "both": forward + backward}
        return elements[self.passes] * DTYPES[self.dtype].itemsize

    def flops(self) -> int:
        """No matrix products."""
        return 0
