# SPDX-License-Identifier: BSD-3-Clause
"""Statistics of the offsets that deformable convolutions predict, to see them run away in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack

Pack = DeformConv2dPack | ModulatedDeformConv2dPack
Hook = Callable[[nn.Module, tuple[Tensor], Tensor], None]


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
        self._watching = False
        # of each layer: sum, largest, outside, axes counted, samples counted
        self._seen: dict[str, Tensor] = {}
        self._handles = []
        for name, module in model.named_modules():
            if isinstance(module, Pack):
                hook = self._hook(name, module)
                self._handles.append(module.conv_offset.register_forward_hook(hook))

    def watch(self) -> None:
        """Looks at the forward passes from here on."""
        self._watching = True

    def take(self) -> dict[str, OffsetStatistics]:
        """The statistics by layer since `watch()`, which ends; empty where nothing ran."""
        self._watching = False
        seen, self._seen = self._seen, {}
        return {
            name: OffsetStatistics(*(v.item() for v in (s[0] / s[3], s[1], s[2] / s[4])))
            for name, s in seen.items()
        }

    def remove(self) -> None:
        """Takes the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str, pack: Pack) -> Hook:
        @torch.no_grad()
        def look(_: nn.Module, inputs: tuple[Tensor], predicted: Tensor) -> None:
            if not self._watching or predicted.numel() == 0:
                return
            offset = pack.limit(offset_planes(pack, predicted))
            size, outside = offset.abs(), sample_outside(pack, offset, inputs[0].shape[-2:])
            counts = (size.sum(), size.max(), outside.sum(), size.numel(), outside.numel())
            new = torch.stack([torch.as_tensor(c, device=size.device).double() for c in counts])
            if name in self._seen:
                old = self._seen[name]
                new = torch.cat([(old + new)[:1], torch.maximum(old, new)[1:2], (old + new)[2:]])
            self._seen[name] = new

        return look


def offset_planes(pack: Pack, predicted: Tensor) -> Tensor:
    """The offsets among what `conv_offset` predicts, [N, G, taps, 2 (y, x), Ho, Wo] in float32."""
    taps = pack.kernel_size[0] * pack.kernel_size[1]
    offset = predicted[:, : 2 * pack.deform_groups * taps].float()
    return offset.unflatten(1, (pack.deform_groups, taps, 2))


def sample_outside(pack: Pack, offset: Tensor, size: Sequence[int]) -> Tensor:
    """Whether each sample falls outside an input of `size`, bool [N, G, taps, Ho, Wo]."""
    outside = torch.zeros_like(offset[:, :, :, 0], dtype=torch.bool)
    kernel_taps = torch.cartesian_prod(*(torch.arange(k) for k in pack.kernel_size))
    for axis in range(2):
        along = torch.arange(offset.shape[4 + axis]) * pack.stride[axis] - pack.padding[axis]
        along = along.view((-1, 1) if axis == 0 else (1, -1))  # broadcasts over Ho, Wo
        tap = kernel_taps[:, axis].view(-1, 1, 1) * pack.dilation[axis]
        place = (along + tap).to(offset) + offset[:, :, :, axis]
        outside |= ~((place > -1) & (place < size[axis]))
    return outside
