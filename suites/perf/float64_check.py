# SPDX-License-Identifier: BSD-3-Clause
"""Results against float64: every implementation is checked before it is timed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import Layer
from suites.perf.problems import LayerPasses, Passes, named_results

# Relative rounding of an operand on its way into a matrix product.
ROUNDING = {"bf16": 2**-7, "fp16": 2**-10, "tf32": 2**-9, "fp32": 2**-22, "fp64": 2**-48}


def conv_tolerance(layer: Layer, dtype: str) -> float:
    """Largest relative L2 error of a convolution's results: rounded operands and float32 sums."""
    if dtype == "fp64":
        return ROUNDING[dtype]
    longest = max(math.prod(layer.out_size), layer.taps * layer.in_channels // layer.groups)
    return ROUNDING[dtype] + torch.finfo(torch.float32).eps * longest**0.5


def pool_tolerance(width: int, dtype: str) -> float:
    """Largest relative L2 error of a pooling's results: coordinates are float32, up to `width`."""
    return ROUNDING[dtype] + 4 * width * torch.finfo(torch.float32).eps


def conv_reference(problem: LayerPasses) -> dict[str, Tensor]:
    """Output of the first image and all gradients, by torchvision in float64."""
    operands = {}
    for name, value in problem.operands.items():
        part = value.detach() if name in ("weight", "bias") else value.detach()[:1]
        operands[name] = part.double().contiguous().requires_grad_()
    grad_output = problem.grad_output[:1].double().contiguous()
    call = IMPLEMENTATIONS["torchvision"].call
    return named_results(Passes(lambda: call(problem.layer, operands), operands, grad_output))


def relative_errors(
    results: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, float]:
    """Relative L2 error of each result: the output, gradients.

    `expected` may hold only the first images or rois: the gradients of the others must be zero.
    """
    errors = {}
    for name, value in results.items():
        value, wanted = value.double(), expected[name]
        if name == "output":
            value = value[: len(wanted)]
        elif len(value) > len(wanted):
            wanted = torch.cat([wanted, torch.zeros_like(value[len(wanted) :])])
        errors[name] = (torch.linalg.vector_norm(value - wanted) / wanted.norm()).item()
    return errors
