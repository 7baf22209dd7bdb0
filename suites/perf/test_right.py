# SPDX-License-Identifier: BSD-3-Clause
"""Right first: on every measured layer, output and gradients against torchvision in float64."""

import math

import torch
from torch import Tensor

from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import Layer
from suites.perf.problems import DTYPES, LayerPasses, Passes, matmul_mode

OURS = ("dcnv2", "portable")
_CHECKED_REGIONS = 8
# Relative rounding of an operand on its way into a matrix product.
_STEP = {"bf16": 2**-7, "fp16": 2**-10, "tf32": 2**-9, "fp32": 2**-22, "fp64": 2**-48}


def _limit(layer: Layer, dtype: str) -> float:
    """How far from float64 a result may be, in the L2 norm: operands' rounding and the sums'."""
    if dtype == "fp64":
        return _STEP[dtype]
    longest = max(math.prod(layer.out_size), layer.taps * layer.in_channels // layer.groups)
    return _STEP[dtype] + torch.finfo(torch.float32).eps * longest**0.5


def _first_image_only(grad_output: Tensor) -> None:
    """Make the whole batch's gradients those of its first image, the one that is checked."""
    grad_output[1:] = 0


def _reference(problem: LayerPasses) -> dict[str, Tensor]:
    """Output of the first image and all gradients, by torchvision in float64."""
    from torchvision.ops import deform_conv2d

    layer = problem.layer
    operands = {}
    for name, value in problem.operands.items():
        part = value.detach() if name in ("weight", "bias") else value.detach()[:1]
        operands[name] = part.double().contiguous().requires_grad_()
    output = deform_conv2d(
        operands["input"],
        operands["offset"],
        operands["weight"],
        operands["bias"],
        layer.stride,
        layer.padding,
        layer.dilation,
        operands["mask"],
    )
    grad_output = problem.grad_output[:1].double().contiguous()
    gradients = torch.autograd.grad(output, tuple(operands.values()), grad_output)
    named = {f"grad_{name}": g for name, g in zip(operands, gradients, strict=True)}
    return {"output": output.detach(), **named}


def _errors(problem: Passes, expected: dict[str, Tensor]) -> dict[str, float]:
    """Relative L2 error of the output and of each gradient.

    `expected` may hold the first images or regions alone: the others' gradients must be zero.
    """
    output, *gradients = problem.both()
    got = {"output": output.detach()[: len(expected["output"])]}
    for name, gradient in zip(problem.operands, gradients, strict=True):
        got[f"grad_{name}"] = gradient
    errors = {}
    for name, wanted in expected.items():
        value = got[name].double()
        if len(value) > len(wanted):
            wanted = torch.cat([wanted, torch.zeros_like(value[len(wanted) :])])
        errors[name] = (torch.linalg.vector_norm(value - wanted) / wanted.norm()).item()
    return errors


def test_layer_is_right(variant, selection, rows):
    layer, name, dtype, layout = variant
    with matmul_mode(dtype):
        problem = LayerPasses(
            layer, IMPLEMENTATIONS[name], dtype, selection.device, layout, "sixteenths"
        )
        _first_image_only(problem.grad_output)
        assert problem.grad_output.dtype == DTYPES[dtype]
        errors = _errors(problem, _reference(problem))
    _check((layer.name, name, dtype, layout), errors, _limit(layer, dtype), rows)


def test_pool_is_right(pool_variant, rows):
    case = pool_variant
    problem = case.problem(case.device)
    problem.grad_output[_CHECKED_REGIONS:] = 0
    errors = _errors(problem, problem.reference(_CHECKED_REGIONS))
    # Coordinates are rounded to float32, of the size of the map.
    limit = _STEP[case.dtype] + 4 * case.load.width * torch.finfo(torch.float32).eps
    _check((case.name, case.implementation, case.dtype, case.layout), errors, limit, rows)


def _check(variant: tuple[str, str, str, str], errors: dict[str, float], limit: float, rows):
    rows.errors.append(
        dict(zip(("layer", "implementation", "dtype", "layout"), variant, strict=True)) | errors
    )
    if variant[1] in OURS:
        wrong = {key: error for key, error in errors.items() if not error <= limit}
        if wrong:
            rows.wrong.add(variant)
        assert not wrong, f"relative errors beyond {limit:.2g}: {wrong}"
