# SPDX-License-Identifier: BSD-3-Clause
"""What PyTorch asks of registered operators: opcheck, compile, second derivatives.

The correctness suite compiles every operator for any size, and has their difference quotients.
"""

import contextlib

import pytest
import torch
from op_cases import CONV_OPTIONS, OUT_SIZE, ROIS, conv_operands, generator, pool_operands
from torch._dynamo import compiled_autograd
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from dcnv2.ops import deform_conv2d, deform_roi_pool, portable, transforms

OPTIONS = tuple(CONV_OPTIONS.values())
ROI_OPTIONS = ((3, 4), 0.5, 2, 0.1)
PSROI_OPTIONS = (3, 0.5, 2, 2, 2, 0.1)
PYRAMID_OPTIONS = ((3, 4), [0.5, 0.25, 0.125], 2, False)


def _grad(*size):
    return torch.randn(*size, generator=generator(3)).requires_grad_()


def _conv_call(modulated=True):
    operands = conv_operands(dtype=torch.float32)
    return (*operands, *OPTIONS) if modulated else (*operands[:3], None, None, *OPTIONS)


def _conv_backward_call():
    input, offset, weight, _, mask = conv_operands(dtype=torch.float32)
    grad = _grad(2, 6, *OUT_SIZE)
    return (grad, input, offset, weight, mask, *OPTIONS, False, [True, True, True, True, True])


def _roi_operands():
    return pool_operands(8, (2, 3, 4), (1, 3, 4), torch.float32)


def _psroi_operands():
    return pool_operands(8, (4, 2, 2), (1, 3, 3), torch.float32)


def _nms_call():
    random = generator(4)
    boxes, scores = torch.rand(2, 7, 4, generator=random), torch.rand(2, 7, generator=random)
    return boxes, scores, torch.zeros(2, 7, dtype=torch.int64), 0.5, 3


def _pyramid():
    maps = [_grad(2, 8, *size) for size in ((9, 11), (5, 6), (3, 3))]
    return maps, torch.tensor(ROIS), torch.tensor([0, 2, -1, 2])


CALLS = {
    "deform_conv2d": _conv_call,
    "deform_conv2d_backward": _conv_backward_call,
    "deform_roi_pool": lambda: (*_roi_operands(), *ROI_OPTIONS),
    "deform_roi_pool_backward": lambda: (
        _grad(4, 8, 3, 4), *_roi_operands(), *ROI_OPTIONS, [True, True, True]
    ),
    "deform_psroi_pool": lambda: (*_psroi_operands(), *PSROI_OPTIONS),
    "deform_psroi_pool_backward": lambda: (
        _grad(4, 2, 3, 3), *_psroi_operands(), *PSROI_OPTIONS, [True, False, True]
    ),
    "batched_nms": _nms_call,
    "multiscale_roi_align": lambda: (*_pyramid(), *PYRAMID_OPTIONS),
    "multiscale_roi_align_backward": lambda: (
        _grad(4, 8, 3, 4), *_pyramid(), *PYRAMID_OPTIONS, [True, False, True]
    ),
}  # fmt: skip


def _map_tensors(function, argument):
    """The function of a tensor or of each tensor in a list; anything else as it is."""
    if isinstance(argument, list):
        return [_map_tensors(function, a) for a in argument]
    return function(argument) if isinstance(argument, torch.Tensor) else argument


def _channels_last(tensor):
    tensor = tensor.detach()
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_opcheck_of_schema_autograd_and_strides_passes(path, name, channels_last):
    """The correctness suite has the whole opcheck, of what is compiled."""
    arguments = CALLS[name]()
    if channels_last:
        arguments = [_map_tensors(_channels_last, a) for a in arguments]
    torch.library.opcheck(
        getattr(torch.ops.dcnv2, name).default,
        arguments,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@pytest.mark.parametrize("name", [*CALLS, "deform_conv2d, no mask"])
def test_fakes_stay_on_the_device_of_their_operands(name):
    """Whether there is a GPU or not."""
    arguments = _conv_call(modulated=False) if "," in name else CALLS[name]()
    with FakeTensorMode():
        moved = [
            _map_tensors(lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"), a)
            for a in arguments
        ]
        out = getattr(torch.ops.dcnv2, name.partition(",")[0])(*moved)
        for result in out if isinstance(out, (tuple, list)) else (out,):
            assert result.device.type == "cuda"


# ---- compile; aot_eager traces forward and backward as inductor does


def _compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")


@pytest.mark.slow
def test_compiled_pool_of_any_number_of_boxes():
    """None too, and a number that depends on data."""

    def pool(input, boxes, scores):
        kept = boxes[(scores > 0.5).nonzero().squeeze(1)]
        return deform_roi_pool(input, [kept], None, None, 2)

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = _compiled(pool)
        input, boxes = torch.randn(1, 3, 6, 5), torch.tensor(ROIS)[:, 1:]
        for chosen in ((0.9, 0.1, 0.8, 0.2), (0.9, 0.7, 0.8, 0.2), (0.0, 0.0, 0.0, 0.0)):
            scores = torch.tensor(chosen)
            torch.testing.assert_close(compiled(input, boxes, scores), pool(input, boxes, scores))


# ---- derivatives


def _value(op, operands):
    input, offset, weight, bias, mask = operands
    return op(input, offset, weight, bias, mask, *OPTIONS).pow(3).sum()


def test_derivatives_of_derivatives_are_those_of_plain_autograd(path):
    operands = conv_operands(batch=1)
    results = []
    for op in (torch.ops.dcnv2.deform_conv2d, portable.deform_conv2d):
        # The gradient that comes in depends on the operands too, and must count once.
        grads = torch.autograd.grad(_value(op, operands), operands, create_graph=True)
        grads = torch.autograd.grad(
            sum(grad.square().sum() for grad in grads), operands, create_graph=True
        )
        third = torch.autograd.grad(sum(grad.square().sum() for grad in grads), operands)
        results.append((*grads, *third))
    torch.testing.assert_close(*results)


# ---- what autograd records


def test_only_the_operands_are_saved(path):
    kept = []
    operands = conv_operands()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        deform_conv2d(*operands[:4], **CONV_OPTIONS, mask=operands[4])
    wanted = [operands[i].data_ptr() for i in (0, 1, 2, 4)]
    assert [t.data_ptr() for t in kept] == wanted


# ---- how an eager call reaches autograd


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("watched", [False, True])
def test_an_eager_call_does_not_pass_the_dispatchers_kernel_in_python(watched, monkeypatch):
    seen = []
    apply_to = transforms.apply_to
    monkeypatch.setattr(transforms, "apply_to", lambda given: seen.append(given) or apply_to(given))
    operands = conv_operands()
    input, rois, offset, mask = pool_operands(8, (2, 3, 4), (1, 3, 4))
    with _Watch() if watched else contextlib.nullcontext():
        out = deform_conv2d(*operands[:4], **CONV_OPTIONS, mask=operands[4]).sum()
        (out + deform_roi_pool(input, rois, offset, mask, (3, 4)).sum()).backward()
    assert len(seen) == (4 if watched else 0)  # two operators, forward and backward


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_tracers_record_the_operator():
    operands = [t.detach() for t in conv_operands(dtype=torch.float32)]

    def conv(input, offset, weight, bias, mask):
        return deform_conv2d(input, offset, weight, bias, **CONV_OPTIONS, mask=mask)

    traced = make_fx(conv, pre_dispatch=True)(*operands)
    assert torch.ops.dcnv2.deform_conv2d.default in [node.target for node in traced.graph.nodes]
    scripted = torch.jit.trace(conv, operands, check_trace=False)
    assert "dcnv2::deform_conv2d" in str(scripted.graph)


@pytest.mark.slow
def test_compiled_autograd_gives_the_same_gradients():
    operands = conv_operands()
    input, rois, offset, mask = pool_operands(8, (2, 3, 4), (1, 3, 4))

    def gradients(context):
        out = deform_conv2d(*operands[:4], **CONV_OPTIONS, mask=operands[4]).sin().sum()
        out = out + deform_roi_pool(input, rois, offset, mask, (3, 4)).sin().sum()
        with context:
            return torch.autograd.grad(out, (*operands, input, offset, mask))

    compiled = compiled_autograd._enable(torch.compile(backend="eager"))
    torch.testing.assert_close(
        gradients(compiled), gradients(contextlib.nullcontext()), rtol=0, atol=0
    )
