# SPDX-License-Identifier: BSD-3-Clause
"""Every public layer and function under torch.fx, in TorchScript, and under function modes."""

import copy
import pickle

import pytest
import torch
from public_layers import FUNCTIONS, MASK, OFFSET, ROIS, WEIGHT, X, layers, public_names
from torch.overrides import TorchFunctionMode

from dcnv2.compat import mmcv
from dcnv2.nn import DeformConv2d, DeformRoIPoolPack, ModulatedDeformConv2dPack
from dcnv2.ops import deform_conv2d, deform_roi_pool

LAYERS = layers()
BY_NAME = {name: (layer, operands) for name, layer, operands in LAYERS}

# TorchScript is deprecated, and says so at every call; torchvision's layers still support it.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def test_the_lists_are_complete():
    listed = {type(layer) for _, layer, _ in LAYERS} | {function for function, _ in FUNCTIONS}
    assert public_names() <= listed


@pytest.mark.parametrize("capture", [torch.fx.symbolic_trace, torch.jit.script])
@pytest.mark.parametrize("name", BY_NAME)
def test_layers_can_be_captured(name, capture):
    layer, operands = BY_NAME[name]
    captured = capture(copy.deepcopy(layer))
    torch.testing.assert_close(captured(*operands), layer(*operands), rtol=0, atol=0)


def _of_tensors(function, operands):
    """The function of the tensors among some operands only, as source, and these tensors."""
    tensors = []

    def word(operand):
        if isinstance(operand, list):
            return f"[{', '.join(map(word, operand))}]"
        if not isinstance(operand, torch.Tensor):
            return repr(operand)
        tensors.append(operand)
        return f"t{len(tensors) - 1}"

    words = [word(operand) for operand in operands]
    names = [f"t{i}" for i in range(len(tensors))]
    source = f"lambda {', '.join(names)}: function({', '.join(words)})"
    return eval(source, {"function": function}), tensors


@pytest.mark.parametrize(("function", "operands"), FUNCTIONS)
def test_functions_can_be_captured(function, operands):
    wanted = function(*operands)
    torch.testing.assert_close(torch.jit.script(function)(*operands), wanted, rtol=0, atol=0)
    of_tensors, tensors = _of_tensors(function, operands)
    traced = torch.fx.symbolic_trace(of_tensors)
    torch.testing.assert_close(traced(*tensors), wanted, rtol=0, atol=0)


class _Net(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, offset, mask):
        return self.layer(x, offset, mask)


def test_a_traced_call_is_one_node_and_can_be_saved():
    layer = DeformConv2d(4, 6, 3, padding=1)
    traced = torch.fx.symbolic_trace(_Net(layer))
    called = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert called == [deform_conv2d]
    again = pickle.loads(pickle.dumps(traced))
    torch.testing.assert_close(again(X, OFFSET, MASK), traced(X, OFFSET, MASK), rtol=0, atol=0)
    with pytest.raises(ValueError, match="offset must be"):
        traced(X, OFFSET[..., :3], MASK)


def test_a_scripted_layer_trains_and_can_be_saved(tmp_path):
    layer = ModulatedDeformConv2dPack(4, 6, 3, padding=1)
    torch.jit.script(layer).save(tmp_path / "layer.pt")
    scripted = torch.jit.load(tmp_path / "layer.pt")
    for module in (layer, scripted):
        module(X).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in scripted.named_parameters()}
    wanted = {name: parameter.grad for name, parameter in layer.named_parameters()}
    torch.testing.assert_close(grads, wanted, rtol=0, atol=0)


def test_a_scripted_pooling_takes_a_list_of_boxes():
    layer = DeformRoIPoolPack(3, 4, hidden_channels=8)
    boxes = [ROIS[:1, 1:], ROIS[1:, 1:]]
    torch.testing.assert_close(torch.jit.script(layer)(X, boxes), layer(X, ROIS), rtol=0, atol=0)


def test_a_traced_pooling_takes_a_list_of_boxes():
    def pool(x, first, second):
        return deform_roi_pool(x, [first, second])

    operands = X, ROIS[:1, 1:], ROIS[1:, 1:]
    traced = torch.fx.symbolic_trace(pool)
    torch.testing.assert_close(traced(*operands), pool(*operands), rtol=0, atol=0)


def test_script_refuses_what_eager_calls_refuse():
    scripted = torch.jit.script(ModulatedDeformConv2dPack(4, 6, 3, padding=1))
    with pytest.raises(torch.jit.Error, match=r"input must be \[N, C, H, W\], got \[4, 9, 8\]"):
        scripted(X[0])
    with pytest.raises(RuntimeError, match="stride must be between 1 and"):
        torch.jit.script(deform_conv2d)(X, OFFSET, WEIGHT, None, 0, 1)


class _Tagged(torch.Tensor):
    """A subclass of tensors that keeps its type."""


def test_subclasses_of_tensors_keep_their_type():
    out = deform_conv2d(X.as_subclass(_Tagged), OFFSET, WEIGHT, padding=1)
    assert type(out) is _Tagged
    wanted = deform_conv2d(X, OFFSET, WEIGHT, padding=1)
    torch.testing.assert_close(out.as_subclass(torch.Tensor), wanted, rtol=0, atol=0)


class _Calls(TorchFunctionMode):
    def __init__(self):
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


def test_function_modes_see_the_calls():
    with _Calls() as calls:
        deform_conv2d(X, OFFSET, WEIGHT, padding=1)
        deform_roi_pool(X, ROIS)
    assert [call for call in calls.seen if call in (deform_conv2d, deform_roi_pool)] == [
        deform_conv2d,
        deform_roi_pool,
    ]


@pytest.mark.slow
def test_compiled_functions_take_every_name_of_the_groups():
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="eager")
    def convolve(x, offset, weight):
        return mmcv.deform_conv2d(x, offset, weight, 1, 1, deformable_groups=1)

    wanted = deform_conv2d(X, OFFSET, WEIGHT, padding=1)
    torch.testing.assert_close(convolve(X, OFFSET, WEIGHT), wanted, rtol=0, atol=0)
