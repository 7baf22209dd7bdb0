# SPDX-License-Identifier: BSD-3-Clause
"""Our modules in torch.export, AOTInductor packages and torch.compile, for any batch and size."""

import pytest
import torch
from torch import nn

from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack, ModulatedDeformRoIPoolPack

pytestmark = pytest.mark.slow

AUTO = torch.export.Dim.AUTO
ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16], [0, 2.2, 1, 20, 14]])

# Scalar code compiles several times faster than vector code, and our operators are no part of it.
_QUICK = {"cpp.simdlen": 1}


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = ModulatedDeformConv2dPack(4, 6, 3, padding=1, deform_groups=2)
        self.second = DeformConv2dPack(6, 4, (3, 2), (2, 1), (1, 2), (2, 1))
        self.pool = ModulatedDeformRoIPoolPack(3, 4, 0.5, 2, hidden_channels=8)
        for name, parameter in self.named_parameters():
            if "conv_offset" in name or "offset_fc.4" in name:
                nn.init.normal_(parameter, std=0.3)

    def forward(self, x, rois):
        return self.pool(self.second(self.first(x).relu()), rois)


def _program(model):
    example = (torch.randn(2, 4, 16, 20), ROIS)
    shapes = ({0: AUTO, 2: AUTO, 3: AUTO}, {0: AUTO})
    return torch.export.export(model, example, dynamic_shapes=shapes)


def _same(function, model):
    for images, size, rois in ((2, (16, 20), 3), (3, (11, 25), 2), (2, (30, 9), 1)):
        operands = (torch.randn(images, 4, *size), ROIS[:rois])
        torch.testing.assert_close(function(*operands), model(*operands), rtol=1e-4, atol=1e-5)


def test_an_exported_program_can_be_saved_and_loaded(tmp_path):
    model = _Net().eval()
    torch.export.save(_program(model), tmp_path / "net.pt2")
    _same(torch.export.load(tmp_path / "net.pt2").module(), model)


def test_an_aotinductor_package_equals_the_module(tmp_path):
    torch.manual_seed(0)
    layer = ModulatedDeformConv2dPack(2, 2, 3, padding=1).eval()
    nn.init.normal_(layer.conv_offset.weight)
    shapes = ({0: AUTO, 2: AUTO, 3: AUTO},)
    program = torch.export.export(layer, (torch.randn(2, 2, 8, 9),), dynamic_shapes=shapes)
    options = {"aot_inductor.compile_wrapper_opt_level": "O0", **_QUICK}
    with torch.no_grad():
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "layer.pt2"), inductor_configs=options
        )
        loaded = torch._inductor.aoti_load_package(path)
        for size in ((2, 2, 8, 9), (3, 2, 5, 7)):
            x = torch.randn(size)
            torch.testing.assert_close(loaded(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_outputs_and_gradients_with_dynamic_shapes(backend):
    """The graph for inductor has only the two layers, because it compiles slowly."""
    net = _Net()
    torch._dynamo.reset()
    rest, options = ([], _QUICK) if backend == "inductor" else ([nn.ReLU()], None)
    model = nn.Sequential(net.first, *rest, net.second)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend, options=options)
    for images, size in ((2, (16, 20)), (3, (11, 25))):
        operands = (torch.randn(images, 4, *size, requires_grad=True),)
        results = []
        for function in (compiled, model):
            model.zero_grad()
            out = function(*operands)
            grads = torch.autograd.grad(out.square().sum(), [operands[0], *model.parameters()])
            results.append((out, *grads))
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)
