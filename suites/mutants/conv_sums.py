# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of how a convolution adds up: precision, accumulation, chunks, launches, order."""
# ruff: noqa: N801 (a mutant's name is its text)

import torch

from suites.mutants.backend import Mutant, collector
from suites.tolerance.naive_conv import NaiveConv

SUMS: list[Mutant] = []
planted = collector("deform_conv2d", SUMS)

# ---- precision


class _InDtype(NaiveConv):
    """Knows the operands' dtype."""

    dtype = None

    def received(self, name, tensor):
        if name == "input":
            self.dtype = tensor.dtype
        return super().received(name, tensor)

    def low(self, values):
        """Rounded to a half type, where the operands have one."""
        return values if self.dtype.itemsize > 2 else values.to(self.dtype).to(values.dtype)


@planted("gradient of the input added up in half", "Paddle#46975")
class _(_InDtype):
    def scatter(self, values, index, pixels):
        total = 0.0
        for some, at in zip(values.split(16, -1), index.split(16, -1), strict=True):
            total = self.low(total + super().scatter(some, at, pixels))
        return total if values.shape[-1] else super().scatter(values, index, pixels)


@planted("output added up in half, tap by tap")
class _(_InDtype):
    def product(self, columns, weight, sizes):
        columns, kernel = self.grouped(columns, sizes), self.kernel(weight, sizes)
        out = 0.0
        for tap in range(sizes.taps):
            share = torch.einsum("ngcp,goc->ngop", columns[..., tap, :], kernel[..., tap])
            out = self.low(out + share)
        return out


@planted("gradient of the weight added up in half, image by image")
class _(_InDtype):
    def grad_weight(self, grad, input, offset, weight, mask, sizes):
        whole = super().grad_weight(grad, input, offset, weight, mask, sizes)
        share, total = whole / 16, torch.zeros_like(whole)
        for _ in range(16):
            total = self.low(total + self.low(share))
        return total


@planted("interpolation weights in half")
class _(_InDtype):
    def located(self, offset, sizes, purpose):
        corners = super().located(offset, sizes, purpose)
        for corner in corners:
            corner.weight = self.low(corner.weight)
        return corners


@planted("products in TF32 for float32")
class _(NaiveConv):
    def narrowed(self, values):
        if values.dtype != torch.float32:
            return values
        bits = values.contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@planted("columns in bfloat16 whatever the dtype")
class _(NaiveConv):
    def narrowed(self, values):
        return values.bfloat16().to(values.dtype)


@planted("result 1 % too large")
class _(NaiveConv):
    def forward(self, *operands, **named):
        return 1.01 * super().forward(*operands, **named)


@planted("gradient of the offset 1 % too large")
class _(NaiveConv):
    def grad_points(self, *operands):
        slopes, values = super().grad_points(*operands)
        return 1.01 * slopes, values


# ---- accumulation


@planted("gradient of the weight overwritten by the next image's", "mxnet#6911")
class _(NaiveConv):
    def grad_weight(self, grad, input, offset, weight, mask, sizes):
        whole = super().grad_weight(grad, input, offset, weight, mask, sizes)
        if sizes.batch < 2:
            return whole
        before = super().grad_weight(
            torch.cat((grad[:-1], torch.zeros_like(grad[-1:]))), input, offset, weight, mask, sizes
        )
        return whole - before


@planted("gradient of the weight averaged over the batch")
class _(NaiveConv):
    def grad_weight(self, grad, *operands):
        return super().grad_weight(grad, *operands) / max(len(grad), 1)


@planted("gradient of the input overwritten where samples meet")
class _(NaiveConv):
    def scatter(self, values, index, pixels):
        sums = values.new_zeros(*values.shape[:-1], pixels)
        return sums.scatter(-1, index, values)


@planted("gradient of the input loses its fourth corner")
class _(NaiveConv):
    def located(self, offset, sizes, purpose):
        corners = super().located(offset, sizes, purpose)
        return corners[:3] if purpose == "grad_input" else corners


@planted("gradient of the input loses taps beyond the eighth")
class _(NaiveConv):
    def grad_input(self, columns, grad, weight, offset, mask, sizes):
        kept = torch.arange(sizes.taps)[:, None] < 8
        return super().grad_input(columns * kept, grad, weight, offset, mask, sizes)


# ---- chunks and launches


@planted("images beyond whole chunks of 32 left out", "im2col_step")
class _(NaiveConv):
    def forward(self, input, offset, weight, bias, mask, sizes):
        out = super().forward(input, offset, weight, bias, mask, sizes)
        whole = sizes.batch // 32 * 32
        if whole:
            out[whole:] = 0
        return out


@planted("images of a chunk stay in the product's order", "mmcv#559, TF-addons#1129")
class _(NaiveConv):
    def forward(self, input, offset, weight, bias, mask, sizes):
        out = super().forward(input, offset, weight, bias, mask, sizes)
        return out.transpose(0, 1).reshape(out.shape)


@planted("the first image's offsets for the whole batch")
class _(NaiveConv):
    def split_offset(self, offset, sizes):
        y, x = super().split_offset(offset, sizes)
        return y[:1].expand_as(y), x[:1].expand_as(x)


@planted("the first image's mask for the whole batch")
class _(NaiveConv):
    def split_mask(self, mask, sizes):
        modulation = super().split_mask(mask, sizes)
        return modulation[:1].expand_as(modulation)


@planted("places beyond 65535 samples not computed", "CDZ#13: a capped grid")
class _(NaiveConv):
    def forward(self, input, offset, weight, bias, mask, sizes):
        out = super().forward(input, offset, weight, bias, mask, sizes)
        reached = 65535 // max(sizes.channels * sizes.taps, 1)
        keep = torch.arange(sizes.batch * sizes.places) < reached
        return out * keep.view(sizes.batch, 1, sizes.out_h, sizes.out_w)


@planted("channels beyond whole vectors of 8 left out")
class _(NaiveConv):
    def sampled(self, maps, corners):
        samples = super().sampled(maps, corners)
        whole = samples.shape[2] // 8 * 8
        if whole:
            samples[:, :, whole:] = 0
        return samples


@planted("output channels beyond the 32nd left out")
class _(NaiveConv):
    def forward(self, *operands, **named):
        out = super().forward(*operands, **named)
        out[:, 32:] = 0
        return out


# ---- order


@planted("sums in an order of their own on every run", "torchvision's atomics")
class _(NaiveConv):
    def scatter(self, values, index, pixels):
        order = torch.randperm(index.shape[-1])
        return super().scatter(values[..., order], index[..., order], pixels)


@planted("sums in as many parts as there are threads")
class _(NaiveConv):
    def grad_weight(self, grad, input, offset, weight, mask, sizes):
        total = 0.0
        for part in range(torch.get_num_threads()):
            mine = torch.arange(sizes.places) % torch.get_num_threads() == part
            total = total + super().grad_weight(grad * mine, input, offset, weight, mask, sizes)
        return total
