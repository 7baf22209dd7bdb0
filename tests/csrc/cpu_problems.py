# SPDX-License-Identifier: BSD-3-Clause
"""Problems for the CPU kernels: operands from a seed, and the operators run on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dcnv2.ops import portable
from dcnv2.ops.checks import output_size


@dataclass
class CpuProblem:
    """One call of an operator: its tensors by name (None where absent) and its options."""

    op: str
    tensors: dict[str, Tensor | None]
    options: tuple
    gradients: tuple[str, ...]  # in the order in which the backward operator returns them
    grad_output: Tensor = field(init=False)

    def __post_init__(self):
        shape = self.forward().shape
        generator = torch.Generator().manual_seed(len(self.options))
        grad = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.grad_output = grad.to(self.tensors["input"].dtype)

    def forward(self) -> Tensor:
        """Run the forward operator."""
        return getattr(torch.ops.dcnv2, self.op)(*self.tensors.values(), *self.options)

    def backward(self, needs: list[bool] | None = None) -> tuple[Tensor, ...]:
        """Run the backward operator for the gradients in `needs`, by default all."""
        needs = [True] * len(self.gradients) if needs is None else needs
        tensors = [t for name, t in self.tensors.items() if name != "bias"]
        op = getattr(torch.ops.dcnv2, self.op + "_backward")
        allow_tf32 = [False] if self.op == "deform_conv2d" else []
        return op(self.grad_output, *tensors, *self.options, *allow_tf32, needs)

    def results(self) -> dict[str, Tensor]:
        """Return the output and every gradient of an operand that is there."""
        found = dict(zip(self.gradients, self.backward(), strict=True))
        found = {name: t for name, t in found.items() if self.tensors[name] is not None}
        return {"output": self.forward(), **found}

    def expected(self) -> dict[str, Tensor]:
        """Return the same from the portable path, in float64 and by autograd."""
        leaves = {
            name: None if t is None else t.detach().double().requires_grad_(name != "rois")
            for name, t in self.tensors.items()
        }
        output = getattr(portable, self.op)(*leaves.values(), *self.options)
        wanted = [name for name in self.gradients if leaves[name] is not None]
        grads = torch.autograd.grad(
            output, [leaves[name] for name in wanted], self.grad_output.double()
        )
        return {"output": output.detach(), **dict(zip(wanted, grads, strict=True))}

    def to(self, dtype: torch.dtype) -> CpuProblem:
        """Return the problem in another dtype."""
        tensors = {name: None if t is None else t.to(dtype) for name, t in self.tensors.items()}
        return CpuProblem(self.op, tensors, self.options, self.gradients)

    def replace(self, **tensors: Tensor | None) -> CpuProblem:
        """Return the problem with other tensors."""
        return CpuProblem(self.op, {**self.tensors, **tensors}, self.options, self.gradients)


def conv_problem(
    batch=2, groups=1, deform_groups=1, channels=6, out_channels=4, size=(9, 7), kernel=(3, 2),
    stride=(2, 1), padding=(1, 0), dilation=(2, 1), seed=0,
) -> CpuProblem:  # fmt: skip
    """Draw a float64 deformable convolution; no axis or option equals its neighbour."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    taps = kernel[0] * kernel[1]
    out = output_size(size, kernel, stride, padding, dilation)
    tensors = {
        "input": draw(batch, channels, *size),
        "offset": draw(batch, deform_groups * taps * 2, *out) * 2,
        "weight": draw(out_channels, channels // groups, *kernel),
        "bias": draw(out_channels),
        "mask": draw(batch, deform_groups * taps, *out),
    }
    options = (list(stride), list(padding), list(dilation))
    return CpuProblem(
        "deform_conv2d", tensors, options, ("input", "offset", "weight", "bias", "mask")
    )


def _rois(count: int, batch: int, size: tuple[int, int], scale: float, generator) -> Tensor:
    # Boxes from a pixel to beyond the map, some of them over its border.
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64) / scale
    low = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.3) * extent
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent
    image = torch.randint(batch, (count, 1), generator=generator).double()
    return torch.cat([image, low, low + sides], dim=1)


def roi_problem(
    rois=7, batch=2, channels=5, size=(9, 12), pooled=(3, 4), scale=0.25, sampling=0, gamma=0.3,
    offset=True, mask=True, seed=0,
) -> CpuProblem:  # fmt: skip
    """Draw a float64 deform_roi_pool."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {
        "input": draw(batch, channels, *size),
        "rois": _rois(rois, batch, size, scale, generator),
        "offset": draw(rois, 2, *pooled) if offset else None,
        "mask": draw(rois, 1, *pooled) if mask else None,
    }
    options = (list(pooled), scale, sampling, gamma)
    return CpuProblem("deform_roi_pool", tensors, options, ("input", "offset", "mask"))


def psroi_problem(
    rois=7, batch=2, out_channels=6, size=(9, 12), pooled=4, scale=0.25, group=2, part=3, classes=3,
    sampling=2, trans_std=0.3, seed=0,
) -> CpuProblem:  # fmt: skip
    """Draw a float64 deform_psroi_pool."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {
        "input": draw(batch, out_channels * group**2, *size),
        "rois": _rois(rois, batch, size, scale, generator),
        "offset": draw(rois, 2 * classes, part, part),
        "mask": draw(rois, 1, pooled, pooled),
    }
    options = (pooled, scale, group, part, sampling, trans_std)
    return CpuProblem("deform_psroi_pool", tensors, options, ("input", "offset", "mask"))


MAKERS = {"conv": conv_problem, "roi": roi_problem, "psroi": psroi_problem}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Compare by name, relative to the largest number expected; NaN must meet NaN."""
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        got = found[name].double()
        assert got.shape == want.shape, name
        assert torch.equal(got.isnan(), want.isnan()), name
        scale = want.nan_to_num().abs().max().clamp(min=1e-30) if want.numel() else 1
        error = ((got - want).nan_to_num().abs() / scale).max() if want.numel() else 0
        assert error <= tolerance, f"{name}: {float(error):.2e}"


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare bit for bit, NaN included."""
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        got = found[name]
        assert got.dtype == want.dtype, name
        assert torch.equal(got.nan_to_num(nan=1e9), want.nan_to_num(nan=1e9)), name
        assert torch.equal(got.isnan(), want.isnan()), name
