# SPDX-License-Identifier: BSD-3-Clause
"""OpenVINO reads exported layers by our rule, and gives PyTorch's numbers."""

import openvino
import pytest
import torch
from onnx_runs import EXPORTERS, export_onnx
from torch import nn

from dcnv2.export import openvino_extension
from dcnv2.nn import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack

pytestmark = pytest.mark.slow

PACKS = {
    "modulated": lambda: ModulatedDeformConv2dPack(8, 6, 3, padding=1, deform_groups=2),
    "no mask": lambda: DeformConv2dPack(8, 6, 3, stride=2, padding=1),
    "no bias": lambda: ModulatedDeformConv2dPack(8, 6, 3, padding=1, bias=False),
    "neither": lambda: DeformConv2dPack(8, 6, 3, padding=1, bias=False),
    "groups and uneven geometry": lambda: ModulatedDeformConv2dPack(
        8, 6, (3, 2), (2, 1), (2, 1), (1, 2), groups=2
    ),
}


def _compiled(path):
    core = openvino.Core()
    core.add_extension(openvino_extension())
    return core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize(("exporter", "opset"), EXPORTERS)
@pytest.mark.parametrize("make", PACKS.values(), ids=PACKS)
def test_exported_layers_give_the_same_numbers(make, exporter, opset, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    nn.init.normal_(model.conv_offset.weight, std=0.5)
    path = tmp_path / "model.onnx"
    export_onnx(model, (torch.randn(2, 8, 12, 14),), {"x": [0, 2, 3]}, path, exporter, opset)
    compiled = _compiled(path)
    for size in [(2, 8, 12, 14), (1, 8, 17, 9)]:
        x = torch.randn(size)
        with torch.no_grad():
            expected = model(x)
        found = torch.from_numpy(compiled([x.numpy()])[0])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_samples_beyond_the_border_are_zeros(tmp_path):
    """Half a pixel outside of an image of ones there is half a one."""
    layer = DeformConv2d(1, 1, 1, bias=False).eval()
    nn.init.ones_(layer.weight)
    x, offset = torch.ones(1, 1, 4, 4), torch.zeros(1, 2, 4, 4)
    offset[0, 0, 0] = -0.5
    path = tmp_path / "model.onnx"
    export_onnx(layer, (x, offset), {"x": [0], "offset": [0]}, path, "dynamo", 19)
    found = _compiled(path)([x.numpy(), offset.numpy()])[0]
    assert found[0, 0].tolist() == [[0.5] * 4] + [[1.0] * 4] * 3
