# SPDX-License-Identifier: BSD-3-Clause
"""The memory layouts that an operand may have; a layout never changes the operand's values.

Only `expanded` needs repeated values; `repeat_values` makes them.
"""

import torch
from torch import Tensor, empty

LAYOUTS = (
    "contiguous",
    "channels_last",
    "channels_last_crop",
    "transposed",
    "crop",
    "strided",
    "expanded",
    "storage_offset",
)


def repeat_values(tensor: Tensor, layout: str) -> Tensor:
    """The tensor with its first entry repeated along dimension 0, if the layout needs that."""
    if layout != "expanded" or tensor.shape[0] < 2:
        return tensor
    return tensor[:1].expand_as(tensor)


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values in another layout. Memory between and around them is NaN, or
    the largest integer.

    Args:
        tensor: of any rank.
        layout: one of `LAYOUTS`. `channels_last` moves dimension 1 to the end in memory,
            `transposed` swaps the last two dimensions in memory, `crop` is a part of a larger map,
            so rows are further apart than their pixels imply, also where it is one column,
            `channels_last_crop` the same of a map in channels_last, `strided` takes every second
            element of a wider tensor, `expanded` has stride 0 along dimension 0,
            `storage_offset` begins one element into its storage, so it is not aligned.
    """
    if layout == "contiguous" or tensor.numel() == 0:
        return tensor.contiguous()
    if layout == "channels_last":
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1) if tensor.dim() > 2 else tensor
    if layout == "channels_last_crop":
        return _crop(tensor.movedim(1, -1), 2).movedim(-1, 1) if tensor.dim() > 2 else tensor
    if layout == "crop":
        return _crop(tensor, 1) if tensor.dim() > 1 else tensor
    if layout == "transposed":
        return tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor
    if layout == "strided":
        wide = empty(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype)
        wide = wide.to(tensor.device).fill_(_garbage(tensor))
        wide[..., ::2] = tensor
        return wide[..., ::2]
    if layout == "expanded":
        return tensor[:1].contiguous().expand_as(tensor)
    if layout == "storage_offset":
        flat = tensor.new_full((tensor.numel() + 1,), _garbage(tensor))
        flat[1:] = tensor.flatten()
        return flat[1:].view(tensor.shape)
    raise ValueError(f"layout must be one of {LAYOUTS}, got {layout}")


def _garbage(tensor: Tensor) -> float:
    """NaN; of integers the largest one."""
    dtype = tensor.dtype
    return float("nan") if dtype.is_floating_point else torch.iinfo(dtype).max


def _crop(tensor: Tensor, last: int) -> Tensor:
    """The same values inside a larger tensor, with gaps along the dimension `last` from the end.

    Rows of a map are then not evenly spaced, nor are maps, if it has rows.
    """
    sizes = list(tensor.shape)
    sizes[-last] += 3
    if tensor.dim() > last + 1:
        sizes[-last - 1] += 1
    wide = empty(sizes, dtype=tensor.dtype, device=tensor.device).fill_(_garbage(tensor))
    part = wide.narrow(-last, 1, tensor.shape[-last])
    if tensor.dim() > last + 1:
        part = part.narrow(-last - 1, 1, tensor.shape[-last - 1])
    return part.copy_(tensor)


def layouts_of(**dimensions: int) -> list[tuple[str, str]]:
    """Pairs of operand and layout: every layout other than contiguous, by number of dimensions."""
    # channels_last needs three dimensions, transposed and crop two
    first = {4: 1, 2: LAYOUTS.index("transposed"), 1: LAYOUTS.index("strided")}
    return [(name, layout) for name, d in dimensions.items() for layout in LAYOUTS[first[d] :]]


def moved(tensor: Tensor, device: str | torch.device) -> Tensor:
    """The tensor on a device, in its layout, with the memory between and around its values."""
    memory = empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())
    place = (tensor.shape, tensor.stride(), tensor.storage_offset())
    return memory.to(device).as_strided(*place)
