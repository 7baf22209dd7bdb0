# SPDX-License-Identifier: BSD-3-Clause
"""RoIAlign from a feature pyramid, beside torchvision's MultiScaleRoIAlign, in channels_last."""

from dataclasses import dataclass

import torch
from torch import Tensor

from suites.perf.pools import PoolCase, Workload
from suites.perf.problems import DTYPES, Passes, named_results

OPERATOR = "multiscale_roi_align"
_SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]  # map pixels per image pixel
_SAMPLES = 2  # per side of a bin
_SIZES = 8  # of RoIs, which follow each other
# The maps' sizes are those of the finest; RoIs are as many as a box head samples.
_GPU = Workload(rois=1024, batch=2, channels=256, height=200, width=304)
_CPU = Workload(rois=64, batch=1, channels=64, height=192, width=256)


class PyramidPasses(Passes):
    """Maps, and RoIs of the sizes of objects: from 16 pixels to the image, evenly in octaves."""

    def __init__(self, case: "PyramidCase", seed: int = 0):
        self.case, load, bins = case, case.load, case.bins
        generator = torch.Generator(case.device).manual_seed(seed)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, device=case.device, generator=generator)

        image = torch.tensor([load.width, load.height], device=case.device) / _SCALES[0]
        number = torch.arange(load.rois, device=case.device)
        share = (number.unsqueeze(1) % _SIZES + uniform(load.rois, 1)) / _SIZES
        side = 16 * (image / 16) ** share
        corner = uniform(load.rois, 2) * (image - side)
        number = number // _SIZES % load.batch
        self.rois = torch.cat([number.unsqueeze(1), corner, corner + side], dim=1)
        operands = {}
        for level, (height, width) in enumerate(load_sizes(load)):
            x = uniform(load.batch, load.channels, height, width) - 0.5
            x = x.to(DTYPES[case.dtype]).to(memory_format=torch.channels_last)
            operands[f"input{level}"] = x.requires_grad_()
        grad_output = uniform(load.rois, load.channels, bins, bins) - 0.5
        grad_output = grad_output.to(DTYPES[case.dtype]).to(memory_format=torch.channels_last)
        super().__init__(self._call(operands), operands, grad_output)

    def _call(self, operands: dict[str, Tensor]):
        bins, name, load = self.case.bins, self.case.implementation, self.case.load
        maps = list(operands.values())
        if name == "roi_align":
            from torchvision.ops import MultiScaleRoIAlign

            pool = MultiScaleRoIAlign(list(operands), bins, _SAMPLES)
            order = self.rois[:, 0].argsort(stable=True)  # torchvision takes boxes by image
            boxes = self.rois[order, 1:].to(maps[0].dtype).chunk(load.batch)
            size = (int(load.height / _SCALES[0]), int(load.width / _SCALES[0]))
            return lambda: pool(operands, list(boxes), [size] * load.batch)
        import dcnv2.ops
        from dcnv2.ops import portable

        if name == "dcnv2":
            return lambda: dcnv2.ops.multiscale_roi_align(
                maps, self.rois, _SCALES, bins, _SAMPLES, aligned=False
            )

        def by_portable() -> Tensor:
            levels = dcnv2.ops.fpn_levels(self.rois[:, 1:], _SCALES)
            options = ((bins, bins), _SCALES, _SAMPLES, False)
            return portable.multiscale_roi_align(maps, self.rois, levels, *options)

        return by_portable

    def reference(self, count: int) -> dict[str, Tensor]:
        """Output of the first `count` rois and their gradients, in float64."""
        import reference

        operands = {n: x.detach().double().requires_grad_() for n, x in self.operands.items()}
        rois, bins = self.rois[:count].double(), self.case.bins
        options = (_SCALES, bins, _SAMPLES, False)

        def record() -> Tensor:
            return reference.multiscale_roi_align(list(operands.values()), rois, *options)

        return named_results(Passes(record, operands, self.grad_output[:count].double()))


@dataclass(frozen=True)
class PyramidCase(PoolCase):
    """One measurement of RoIAlign from several maps."""

    layout: str = "channels_last"

    @property
    def load(self) -> Workload:
        """The workload, by device."""
        return _GPU if self.device.startswith("cuda") else _CPU

    def problem(self, device: str) -> PyramidPasses:
        """The case's operands; `device` is the case's own."""
        assert device == self.device
        return PyramidPasses(self)

    def moved_bytes(self) -> int:
        """Least traffic with memory: every tensor once for each pass that reads or writes it."""
        load = self.load
        maps = load.batch * load.channels * sum(h * w for h, w in load_sizes(load))
        output = load.rois * load.channels * self.bins**2
        passes = 2 if self.passes == "both" else 1  # the backward writes what the forward reads
        return passes * (maps + output) * DTYPES[self.dtype].itemsize


def load_sizes(load: Workload) -> list[tuple[int, int]]:
    """Height and width of each map."""
    return [(-(-load.height // 2**i), -(-load.width // 2**i)) for i in range(len(_SCALES))]
