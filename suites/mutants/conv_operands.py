# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of what a convolution does with its operands: groups, mask, bias, memory, dtypes."""
# ruff: noqa: N801 (a mutant's name is its text)

import torch

from suites.mutants.backend import Mutant, collector
from suites.tolerance.naive_conv import NaiveConv

OPERANDS: list[Mutant] = []
planted = collector("deform_conv2d", OPERANDS)

# ---- groups


@planted("deform group keyed on the weight group", "openvino#6324")
class _(NaiveConv):
    def located(self, offset, sizes, purpose):
        corners = super().located(offset, sizes, purpose)
        groups = torch.arange(sizes.deform_groups) % sizes.groups
        for corner in corners:
            for part in ("index", "on_map", "weight", "slope_y", "slope_x"):
                setattr(corner, part, getattr(corner, part)[:, groups])
        return corners


@planted("deform group is the channel modulo their number", "openvino#11613")
class _(NaiveConv):
    def deform_maps(self, input, sizes):
        each = sizes.channels // sizes.deform_groups
        strided = input.reshape(sizes.batch, each, sizes.deform_groups, -1)
        return strided.transpose(1, 2)


@planted("only the first deform group's offsets are read", "MegReader: offset[:, :18]")
class _(NaiveConv):
    def split_offset(self, offset, sizes):
        y, x = super().split_offset(offset, sizes)
        return y[:, :1].expand_as(y), x[:, :1].expand_as(x)


@planted("only the first deform group's mask is read", "MegReader: mask[:, -9:]")
class _(NaiveConv):
    def split_mask(self, mask, sizes):
        modulation = super().split_mask(mask, sizes)
        return modulation[:, :1].expand_as(modulation)


@planted("weight groups interleaved")
class _(NaiveConv):
    def grouped(self, columns, sizes):
        shape = (sizes.batch, -1, sizes.groups, sizes.taps, sizes.places)
        each = sizes.channels // sizes.groups
        return columns.reshape(shape[0], each, *shape[2:]).transpose(1, 2)


@planted("output channels of groups interleaved")
class _(NaiveConv):
    def product(self, columns, weight, sizes):
        return super().product(columns, weight, sizes).transpose(1, 2)


@planted("groups by zeros in a dense weight: NaN reaches every group")
class _(NaiveConv):
    def product(self, columns, weight, sizes):
        return super().product(columns, weight, sizes) + 0 * columns.sum((1, 2))[:, None, None]


# ---- mask and bias


def _maskless(step):
    """A convolution one of whose steps forgets the mask."""

    def forgetful(self, *operands):
        *before, _, sizes = operands
        return getattr(NaiveConv, step)(self, *before, None, sizes)

    return type("Maskless", (NaiveConv,), {step: forgetful})


class _ForwardMaskless(NaiveConv):
    def forward(self, input, offset, weight, bias, mask, sizes):
        return super().forward(input, offset, weight, bias, None, sizes)


planted("forward: mask dropped")(_ForwardMaskless)
planted("grad_input: mask dropped")(_maskless("grad_input"))
planted("grad_offset: mask dropped")(_maskless("grad_points"))
planted("grad_weight: mask dropped")(_maskless("grad_weight"))


@planted("mask put through a sigmoid")
class _(NaiveConv):
    def received(self, name, tensor):
        return super().received(name, tensor.sigmoid() if name == "mask" else tensor)


@planted("mask clamped to 1", "the paper's range, but twice the sigmoid is in use")
class _(NaiveConv):
    def split_mask(self, mask, sizes):
        return super().split_mask(mask, sizes).clamp(max=1)


@planted("gradient of the mask times the mask")
class _(NaiveConv):
    def grad_points(self, columns, input, offset, mask, sizes):
        slopes, values = super().grad_points(columns, input, offset, mask, sizes)
        return slopes, values if mask is None else values * mask.reshape(values.shape)


@planted("gradient of the mask zero where the mask is")
class _(NaiveConv):
    def grad_points(self, columns, input, offset, mask, sizes):
        slopes, values = super().grad_points(columns, input, offset, mask, sizes)
        return slopes, values if mask is None else values * (mask.reshape(values.shape) != 0)


@planted("bias ignored", "mmcv#940")
class _(NaiveConv):
    def biased(self, out, bias):
        return out


@planted("bias added once a tap")
class _(NaiveConv):
    def product(self, columns, weight, sizes):
        self._taps = sizes.taps
        return super().product(columns, weight, sizes)

    def biased(self, out, bias):
        return super().biased(out, None if bias is None else self._taps * bias)


@planted("bias of the first channel for all")
class _(NaiveConv):
    def biased(self, out, bias):
        return super().biased(out, None if bias is None else bias[:1].expand_as(bias))


@planted("gradient of the bias of the first image alone")
class _(NaiveConv):
    def grad_bias(self, grad):
        return super().grad_bias(grad[:1])


# ---- memory

_DENSE = "mmcv reads operands as dense; CharlesShang the gradient"


def _misread(*names):
    """A convolution that reads operands as if they were contiguous from where they begin."""

    class Misread(NaiveConv):
        def received(self, name, tensor):
            if name not in names:
                return super().received(name, tensor)
            storage = tensor.untyped_storage()
            flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            flat.set_(storage, 0, (storage.nbytes() // tensor.element_size(),))
            index = torch.arange(tensor.numel(), device=tensor.device) + tensor.storage_offset()
            return flat[index % max(flat.numel(), 1)].view(tensor.shape)

    return Misread


for _operand in ("input", "offset", "weight", "mask", "bias", "grad_output"):
    planted(f"{_operand} read as contiguous", _DENSE)(_misread(_operand))


@planted("storage offset of the input ignored")
class _(NaiveConv):
    def received(self, name, tensor):
        if name != "input" or not tensor.is_contiguous():
            return super().received(name, tensor)
        return torch.as_strided(tensor, tensor.shape, tensor.stride(), 0)


@planted("mask multiplied into the caller's memory")
class _(NaiveConv):
    def received(self, name, tensor):
        if name == "mask" and tensor.is_contiguous():
            tensor.data.mul_(1.0).clamp_(min=1e-3)
        return super().received(name, tensor)


@planted("the sum of the gradient begins with what was in memory")
class _(NaiveConv):
    def scatter(self, values, index, pixels):
        garbage = torch.empty(*values.shape[:-1], pixels, dtype=values.dtype)
        return garbage.mul_(0.0).scatter_add_(-1, index, values)


@planted("an input of no batch is an error", "detectron2, mmcv: N = 0")
class _(NaiveConv):
    def sizes(self, input, *operands):
        if input.shape[0] % min(32, input.shape[0]):
            raise ValueError("batch must be divisible by im2col_step")
        return super().sizes(input, *operands)


# ---- autograd and dtypes


@planted("no gradient of anything if the input is frozen", "the seed: needs_input_grad[0]")
class _(NaiveConv):
    def wanted(self, needs):
        return needs if needs[0] else tuple(False for _ in needs)


@planted("gradient of the mask only together with the offset's")
class _(NaiveConv):
    def wanted(self, needs):
        return (*needs[:4], needs[4] and needs[1])


@planted("result in float32 beside half operands")
class _(NaiveConv):
    def returned(self, name, result, dtype):
        wide = torch.float32 if dtype.itemsize == 2 and name == "output" else dtype
        return super().returned(name, result, wide)


@planted("double computed as float", "CharlesShang: using scalar_t = float")
class _(NaiveConv):
    def received(self, name, tensor):
        received = super().received(name, tensor)
        return received.float() if tensor.dtype == torch.float64 else received
