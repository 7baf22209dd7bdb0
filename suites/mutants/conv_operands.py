# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of what a convolution does with its operands: groups, mask, bias, memory, dtypes."""

import torch

from suites.mutants.backend import mutants_of
from suites.tolerance.naive_conv import NaiveConv

OPERANDS, mutant = mutants_of(NaiveConv, "deform_conv2d")


def _first(dim):
    """Every entry along a dimension is the first one, of each result of a step."""

    def same(found):
        return found.narrow(dim, 0, 1).expand_as(found)

    def replaced(step, *operands):
        found = step(*operands)
        return tuple(map(same, found)) if isinstance(found, tuple) else same(found)

    return replaced


def _by_weight_group(step, offset, sizes, purpose):
    corners = step(offset, sizes, purpose)
    groups = torch.arange(sizes.deform_groups) % sizes.groups
    for corner in corners:
        for part in ("index", "on_map", "weight", "slope_y", "slope_x"):
            setattr(corner, part, getattr(corner, part)[:, groups])
    return corners


def _interleaved_groups(step, columns, sizes):
    each = sizes.channels // sizes.groups
    shape = (sizes.batch, each, sizes.groups, sizes.taps, sizes.places)
    return columns.reshape(shape).transpose(1, 2)


def _interleaved_deform_groups(step, input, sizes):
    each = sizes.channels // sizes.deform_groups
    return input.reshape(sizes.batch, each, sizes.deform_groups, -1).transpose(1, 2)


def _no_mask(step, *operands, mask=None, **others):
    """The mask is the last operand but the sizes, or named."""
    if others:
        return step(*operands, mask=None, **others)
    *before, _, sizes = operands
    return step(*before, None, sizes)


def _grad_mask_times(factor):
    """The gradient of the mask times a function of the mask."""

    def grad_points(step, columns, input, offset, mask, sizes):
        slopes, values = step(columns, input, offset, mask, sizes)
        return slopes, values if mask is None else values * factor(mask.reshape(values.shape))

    return grad_points


def _bias_each_tap(step, columns, weight, sizes):
    step.__self__.taps = sizes.taps
    return step(columns, weight, sizes)


def _of(operand, change):
    """One operand as it is read, after a change: `change(tensor)`."""
    return lambda step, name, tensor: step(name, change(tensor) if name == operand else tensor)


def _as_contiguous(tensor):
    """A tensor's values if its memory were contiguous from where the tensor begins."""
    storage = tensor.untyped_storage()
    flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    flat.set_(storage, 0, (storage.nbytes() // tensor.element_size(),))
    index = torch.arange(tensor.numel(), device=tensor.device) + tensor.storage_offset()
    return flat[index % max(flat.numel(), 1)].view(tensor.shape)


def _from_the_start(tensor):
    whole = tensor.is_contiguous()
    return torch.as_strided(tensor, tensor.shape, tensor.stride(), 0) if whole else tensor


def _raised_in_place(tensor):
    if tensor.is_contiguous():
        tensor.data.clamp_(min=1e-3)
    return tensor


def _onto_garbage(step, values, index, pixels):
    garbage = torch.empty(*values.shape[:-1], pixels, dtype=values.dtype)
    return garbage.mul_(0.0).scatter_add_(-1, index, values)


def _no_empty_batch(step, input, *operands):
    if input.shape[0] % min(32, input.shape[0]):
        raise ValueError("batch must be divisible by im2col_step")
    return step(input, *operands)


def _float32_output(step, name, result, dtype):
    return step(name, result, torch.float32 if dtype.itemsize == 2 and name == "output" else dtype)


def _float_for_double(step, name, tensor):
    return step(name, tensor.float() if tensor.dtype == torch.float64 else tensor)


# fmt: off
mutant("deform group taken from the weight group", "openvino#6324",
       located=_by_weight_group)
mutant("deform group is channel % deform_groups", "openvino#11613",
       deform_maps=_interleaved_deform_groups)
mutant("first deform group's offsets used for all", "MegReader: offset[:, :18]",
       split_offset=_first(1))
mutant("first deform group's mask used for all", "MegReader: mask[:, -9:]",
       split_mask=_first(1))
mutant("weight groups interleaved",
       grouped=_interleaved_groups)
mutant("output channels of groups interleaved",
       product=lambda step, columns, weight, sizes: step(columns, weight, sizes).transpose(1, 2))
mutant("groups as zeros in a dense weight: NaN reaches every group",
       product=lambda step, columns, weight, sizes: step(columns, weight, sizes)
       + 0 * columns.sum((1, 2))[:, None, None])

mutant("forward: mask dropped", forward=_no_mask)
mutant("grad_input: mask dropped", grad_input=_no_mask)
mutant("grad_offset: mask dropped", grad_points=_no_mask)
mutant("grad_weight: mask dropped", grad_weight=_no_mask)
mutant("sigmoid applied to the mask",
       received=_of("mask", torch.sigmoid))
mutant("mask clamped to 1", "the paper's range, but twice the sigmoid is in use",
       split_mask=lambda step, mask, sizes: step(mask, sizes).clamp(max=1))
mutant("grad_mask multiplied by the mask",
       grad_points=_grad_mask_times(lambda mask: mask))
mutant("grad_mask zero where the mask is zero",
       grad_points=_grad_mask_times(lambda mask: mask != 0))
mutant("bias ignored", "mmcv#940",
       biased=lambda step, out, bias: out)
mutant("bias added once per tap",
       product=_bias_each_tap,
       biased=lambda step, out, bias: step(
           out, None if bias is None else step.__self__.taps * bias))
mutant("bias of the first channel used for all",
       biased=lambda step, out, bias: step(out, None if bias is None else bias[:1].expand_as(bias)))
mutant("grad_bias only of the first image",
       grad_bias=lambda step, grad: step(grad[:1]))

for _operand in ("input", "offset", "weight", "mask", "bias", "grad_output"):
    mutant(f"{_operand} read as contiguous",
           "mmcv reads operands as dense; CharlesShang the gradient",
           received=_of(_operand, _as_contiguous))
mutant("storage offset of the input ignored",
       received=_of("input", _from_the_start))
mutant("mask changed in the caller's memory",
       received=_of("mask", _raised_in_place))
mutant("grad_input added to uninitialised memory",
       scatter=_onto_garbage)
mutant("empty batch refused", "detectron2, mmcv: N = 0",
       sizes=_no_empty_batch)

mutant("no gradient at all if the input is frozen", "the seed: needs_input_grad[0]",
       wanted=lambda step, needs: needs if needs[0] else tuple(False for _ in needs))
mutant("grad_mask only together with grad_offset",
       wanted=lambda step, needs: (*needs[:4], needs[4] and needs[1]))
mutant("float32 result of half-precision operands",
       returned=_float32_output)
mutant("double computed as float", "CharlesShang: using scalar_t = float",
       received=_float_for_double)
# fmt: on
