# SPDX-License-Identifier: BSD-3-Clause
"""Statistics of the offsets that deformable convolutions predict, to see them run away in time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack

Pack = DeformConv2dPack | ModulatedDeformConv2dPack


@dataclass
class OffsetStatistics:
    """What was seen of a layer.

    Attributes:
        mean: mean absolute offset along an axis, in pixels of its input.
        largest: largest absolute offset.
        outside: share of samples that fall outside the input, taps on zero padding included.
    """

    mean: float
    largest: float
    outside: float


class OffsetMonitor:
    """Watches the deformable convolutions of a model by forward hooks.

    It costs nothing until `watch()`; then the next forward passes are looked at, until `take()`.

    Args:
        model: any module; layers are named as in `named_modules`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.watching = False
        self._hooks: dict[str, _Hook] = {}
        self._handles = []
        for name, module in model.named_modules():
            if isinstance(module, Pack):
                hook = self._hooks[name] = _Hook(self, module)
                self._handles.append(module.conv_offset.register_forward_hook(hook))

    def watch(self) -> None:
        """Looks at the forward passes from here on."""
        self.watching = True

    def take(self) -> dict[str, OffsetStatistics]:
        """The statistics by layer since `watch()`, which ends; empty where nothing ran."""
        self.watching = False
        seen = {name: hook.sums for name, hook in self._hooks.items() if hook.sums is not None}
        if not seen:
            return {}
        rows = torch.stack([*seen.values()]).tolist()
        for sums in seen.values():
            sums.zero_()
        return {
            name: OffsetStatistics(size / axes, largest, outside / samples)
            for name, (size, largest, outside, axes, samples) in zip(seen, rows, strict=True)
            if axes
        }

    def remove(self) -> None:
        """Takes the hooks off the model."""
        for handle in self._handles:
            handle.remove()


class _Hook:
    """Adds up what a layer predicts while its monitor is watching.

    All is computed where the offsets are, into memory that stays, so it may be recorded.
    """

    def __init__(self, monitor: OffsetMonitor, pack: Pack) -> None:
        self._monitor, self._pack = monitor, pack
        # float64: sum, largest, number outside, and the numbers of axes and of samples
        self.sums: Tensor | None = None

    def graph_state(self) -> Hashable:
        """What a recording of it depends on."""
        return self._monitor.watching

    @torch.no_grad()
    def __call__(self, _: nn.Module, inputs: tuple[Tensor], predicted: Tensor) -> None:
        if not self._monitor.watching or predicted.numel() == 0:
            return
        offset = self._pack.limit(offset_planes(self._pack, predicted))
        size = offset.abs()
        outside = sample_outside(self._pack, offset, inputs[0].shape[-2:])
        if self.sums is None or self.sums.device != size.device:
            self.sums = torch.zeros(5, dtype=torch.float64, device=size.device)
        self.sums[0] += size.sum()
        self.sums[1] = torch.maximum(self.sums[1], size.max())
        self.sums[2] += outside.sum()
        self.sums[3] += size.numel()
        self.sums[4] += outside.numel()


def offset_planes(pack: Pack, predicted: Tensor) -> Tensor:
    """The offsets among what `conv_offset` predicts, [N, G, taps, 2 (y, x), Ho, Wo] in float32."""
    taps = pack.kernel_size[0] * pack.kernel_size[1]
    offset = predicted[:, : 2 * pack.deform_groups * taps].float()
    return offset.unflatten(1, (pack.deform_groups, taps, 2))


def sample_outside(pack: Pack, offset: Tensor, size: Sequence[int]) -> Tensor:
    """Whether each sample falls outside an input of `size`, bool [N, G, taps, Ho, Wo]."""
    outside = torch.zeros_like(offset[:, :, :, 0], dtype=torch.bool)
    device = offset.device
    kernel_taps = torch.cartesian_prod(*(torch.arange(k, device=device) for k in pack.kernel_size))
    for axis in range(2):
        along = torch.arange(offset.shape[4 + axis], device=device)
        along = along * pack.stride[axis] - pack.padding[axis]
        along = along.view((-1, 1) if axis == 0 else (1, -1))  # broadcasts over Ho, Wo
        tap = kernel_taps[:, axis].view(-1, 1, 1) * pack.dilation[axis]
        place = (along + tap).to(offset) + offset[:, :, :, axis]
        outside |= ~((place > -1) & (place < size[axis]))
    return outside
