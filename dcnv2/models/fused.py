# SPDX-License-Identifier: BSD-3-Clause
"""Convolution, frozen norm, residual and ReLU as one kernel of cuDNN.

In eager mode PyTorch computes them one after the other, and each reads and writes the whole map:
in half types on a GPU that takes three times as long as the convolution itself. Here a frozen norm
is folded into the weight and the bias, and cuDNN adds bias and residual and applies ReLU while it
stores. Elsewhere, and where a module has forward hooks, the modules run one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.models import resnet
from torchvision.ops import Conv2dNormActivation

from dcnv2.models.layers import FrozenBatchNorm2d
from dcnv2.models.transfer import is_tracing
from dcnv2.ops import transforms


class Bottleneck(resnet.Bottleneck):
    """torchvision's block of a ResNet, with fused kernels where norms are frozen."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, 4 width, H / stride, W / stride]."""
        dtype = fused_dtype(x)
        if dtype is None or not isinstance(self.bn1, FrozenBatchNorm2d):
            return super().forward(x)
        identity = x if self.downsample is None else self.downsample(x)
        out = conv_relu(x, dtype, self.conv1, self.bn1, self.relu)
        out = conv_relu(out, dtype, self.conv2, self.bn2, self.relu)
        return conv_relu(out, dtype, self.conv3, self.bn3, self.relu, identity)


class ConvReLU(Conv2dNormActivation):
    """torchvision's convolution and ReLU without a norm between them, fused."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, O, Ho, Wo]."""
        dtype = fused_dtype(x)
        if dtype is None:
            return super().forward(x)
        conv, relu = self
        return conv_relu(x, dtype, conv, None, relu)


def fuse(model: nn.Module) -> None:
    """Make every `Conv2dNormActivation` of a convolution and a ReLU alone a `ConvReLU`.

    torchvision's heads build them inside, so the class of the module is changed.
    """
    for module in model.modules():
        if type(module) is Conv2dNormActivation and _types(module) == (nn.Conv2d, nn.ReLU):
            module.__class__ = ConvReLU


def _types(module: nn.Module) -> tuple[type, ...]:
    return tuple(type(part) for part in module.children())


def fused_dtype(x: Tensor) -> torch.dtype | None:
    """The half type in which a fused kernel would compute a map, or None if there is none."""
    # Other types are traced, faked or distributed.
    if type(x) is not Tensor or not x.is_cuda or torch.version.cuda is None:
        return None
    if not torch.backends.cudnn.enabled or torch.compiler.is_compiling():
        return None
    if is_tracing() or transforms.active():
        return None
    if not x.is_contiguous(memory_format=torch.channels_last):
        return None
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    return dtype if dtype in (torch.bfloat16, torch.float16) else None


def conv_relu(
    x: Tensor,
    dtype: torch.dtype,
    conv: nn.Module,
    norm: FrozenBatchNorm2d | None,
    relu: nn.Module,
    residual: Tensor | None = None,
) -> Tensor:
    """relu(norm(conv(x)) + residual), in one kernel if the convolution is a regular one.

    Args:
        x: [N, C, H, W], channels_last.
        dtype: to compute in; the weights are cast to it.
        conv: the convolution.
        norm: the norm behind it, or None.
        relu: the ReLU.
        residual: [N, O, Ho, Wo], added before the ReLU, or None.
    """
    parts: list[nn.Module] = [conv, relu] if norm is None else [conv, norm, relu]
    if type(conv) is not nn.Conv2d or any(_has_hooks(part) for part in parts):
        out = conv(x) if norm is None else norm(conv(x))
        return cast(Tensor, relu(out if residual is None else out + residual))
    weight, bias = _folded(conv, norm, dtype)
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if residual is not None:
        residual = residual.to(dtype)
    operands = (x.to(dtype), weight, bias, residual, geometry)
    return cast(Tensor, _ConvReLU.apply(*operands))  # type: ignore[no-untyped-call]


def _folded(
    conv: nn.Conv2d, norm: FrozenBatchNorm2d | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """The weight and bias in a half type, the norm's factor and summand taken in."""

    def fold() -> tuple[Tensor, Tensor | None]:
        weight, bias = conv.weight, conv.bias
        if norm is not None:
            scale, bias = _remembered(norm, list(norm.buffers()), norm.scale_shift)
            weight = weight * scale.view(-1, 1, 1, 1)
        return weight.to(dtype), None if bias is None else bias.to(dtype)

    if torch.is_grad_enabled() and any(p.requires_grad for p in conv.parameters()):
        return fold()
    sources = [*conv.parameters(), *(norm.buffers() if norm is not None else ())]
    return _remembered(conv, sources, fold, dtype)


def _remembered(
    module: nn.Module, sources: list[Tensor], compute: Callable[[], Any], *key: Any
) -> Any:
    """What was computed from tensors before, as long as nobody has replaced or changed them."""
    if any(t.is_inference() for t in sources) or torch.cuda.is_current_stream_capturing():
        return compute()
    state = (*key, *((t.data_ptr(), t._version) for t in sources))
    known = module.__dict__.get("_remembered")
    if known is None or known[0] != state:
        with torch.inference_mode(False), torch.no_grad():
            known = (state, compute())
        module.__dict__["_remembered"] = known
    return known[1]


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class _ConvReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        geometry: tuple[Any, ...],
    ) -> Tensor:
        if residual is None:
            out = torch.cudnn_convolution_relu(x, weight, bias, *geometry)
        else:
            out = torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *geometry)
        ctx.save_for_backward(x, weight, out)
        ctx.geometry = geometry
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, out = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        wanted = list(ctx.needs_input_grad[:3])
        stride, padding, dilation, groups = ctx.geometry
        grads = torch.ops.aten.convolution_backward(
            *(grad, x, weight, [out.shape[1]], stride, padding, dilation),
            *(False, [0, 0], groups, wanted),
        )
        return *grads, grad if ctx.needs_input_grad[3] else None, None
