# SPDX-License-Identifier: BSD-3-Clause
"""Operations for the counters of other packages, each by its own rules; PyTorch's needs nothing.

`torch.utils.flop_counter.FlopCounterMode` counts the operators as `dcnv2.ops.flops` says. fvcore
counts multiply-adds of a traced model and needs a function for each operator:

    FlopCountAnalysis(model, x).set_op_handle(**fvcore_handles())

ptflops counts multiply-adds and needs a hook for each class of modules, or for each operator:

    get_model_complexity_info(model, (3, 224, 224), custom_modules_hooks=ptflops_hooks())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dcnv2.compat import basicsr, dcnv2_pytorch, detectron2, layers
from dcnv2.nn import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack
from dcnv2.nn.branch_init import HiddenLinear, ZeroLinear

Shape = Sequence[int]

__all__ = ["fvcore_handles", "ptflops_hooks"]

_GIVEN = (
    DeformConv2d,
    layers.PlainDeformConv,
    layers.ModulatedDeformConv,
    detectron2.DeformConv,
    detectron2.ModulatedDeformConv,
    dcnv2_pytorch.DCNv2,
)
_PACKS = (
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    layers.PlainDeformConvPack,
    layers.ModulatedDeformConvPack,
    basicsr.DCNv2Pack,
    dcnv2_pytorch.DCN,
)

# As ptflops counts torchvision's layer: a sample costs its place and four corners, a mask one more.
_SAMPLE, _MASK = 24, 1


def fvcore_handles() -> dict[str, Callable[[Sequence[Any], Sequence[Any]], int]]:
    """Return the functions for fvcore's `FlopCountAnalysis.set_op_handle`, by operator.

    A convolution counts as fvcore counts conv2d of the same shape, a RoI pooling, as fvcore counts
    torchvision's, not at all.
    """
    return {"dcnv2::deform_conv2d": _traced_conv}


def ptflops_hooks() -> dict[Any, Callable[..., Any]]:
    """Return the hooks for ptflops' `custom_modules_hooks`: by class, and by operator.

    Its backend "pytorch" asks by class: a deformable convolution counts as torchvision's, which is
    conv2d and its samples; one that predicts its offsets includes its branch. The backend "aten"
    asks by operator: a deformable convolution counts as it counts conv2d.
    """
    return {
        **dict.fromkeys(_GIVEN, _count_given),
        **dict.fromkeys(_PACKS, _count_pack),
        **dict.fromkeys((ZeroLinear, HiddenLinear), _count_linear),
        torch.ops.dcnv2.deform_conv2d: _dispatched_conv,
    }


def _products(weight: Shape, output: Shape) -> int:
    return output[0] * prod(output[2:]) * prod(weight)


def _traced_conv(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return _products(inputs[2].type().sizes(), outputs[0].type().sizes())


def _dispatched_conv(inputs: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    (output,), weight, bias = outputs, inputs[2], inputs[3]
    return _products(weight.shape, output.shape) + (0 if bias is None else output.numel())


def _conv(conv: DeformConv2d | nn.Conv2d, output: Shape, per_sample: int = 0) -> int:
    """What a convolution costs, with some operations for each of its samples."""
    samples = output[0] * prod(output[2:]) * prod(conv.kernel_size)
    bias = 0 if conv.bias is None else prod(output)
    return _products(conv.weight.shape, output) + samples * per_sample + bias


def _count_given(module: Any, input: Sequence[Tensor | None], output: Tensor) -> None:
    mask = _MASK if len(input) == 3 and input[2] is not None else 0
    module.__flops__ += _conv(module, output.shape, _SAMPLE + mask)


def _count_pack(module: Any, input: Sequence[Tensor], output: Tensor) -> None:
    """ptflops does not descend into a module that has a hook, so count the branch here."""
    (branch,) = (child for child in module.children() if isinstance(child, nn.Conv2d))
    batch, _, *size = output.shape
    fields = branch.out_channels // (module.deform_groups * prod(module.kernel_size))
    module.__flops__ += _conv(module, output.shape, _SAMPLE + _MASK * (fields == 3))
    module.__flops__ += _conv(branch, (batch, branch.out_channels, *size))


def _count_linear(module: Any, input: Sequence[Tensor], output: Tensor) -> None:
    module.__flops__ += output.numel() * (module.in_features + (module.bias is not None))
