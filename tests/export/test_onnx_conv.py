# SPDX-License-Identifier: BSD-3-Clause
"""Convolutions in ONNX: the standard DeformConv, for any batch and size."""

from collections.abc import Sequence
from typing import Any

import onnx
import pytest
import torch
import torchvision
from onnx_runs import EXPORTERS, export_onnx, operators, runner
from torch import nn

from dcnv2 import compat, export
from dcnv2.nn import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack

GEOMETRY = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)}


class _Net(nn.Module):
    """Every kind of layer that we have, and torchvision's with and without masks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = ModulatedDeformConv2dPack(6, 8, groups=2, deform_groups=3, **GEOMETRY)
        self.second = DeformConv2dPack(8, 6, 3, padding=1, bias=False, max_offset=4.0)
        self.given = DeformConv2d(6, 6, 3, padding=1, groups=3)
        self.theirs = torchvision.ops.DeformConv2d(6, 4, 3, padding=1)
        self.old = compat.dcnv2_pytorch.DCN(4, 4, 3, 1, 1, deformable_groups=2)
        self.branch = nn.Conv2d(6, 27, 3, padding=1)
        for name, parameter in self.named_parameters():
            if "conv_offset" in name:
                nn.init.normal_(parameter, std=0.3)

    def forward(self, x):
        x = self.second(self.first(x).relu())
        offset, mask = self.branch(x).split([18, 9], 1)
        x = self.given(x, offset, mask.sigmoid()) + self.given(x, offset)
        return self.old(self.theirs(x, offset, mask.sigmoid()) + self.theirs(x, offset))


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "opset"), [EXPORTERS[0], EXPORTERS[2]])
def test_onnxruntime_equals_pytorch_for_a_net_of_all_layers(tmp_path, exporter, opset):
    model, path = _Net().eval(), tmp_path / "net.onnx"
    example = torch.randn(2, 6, 11, 9)
    export_onnx(model, (example,), {"x": [0, 2, 3]}, path, exporter, opset)
    assert operators(path, opset).count("DeformConv") == 7
    run = runner(path)
    for size in ((2, 6, 11, 9), (3, 6, 8, 15), (1, 6, 20, 6)):
        x = torch.randn(size)
        torch.testing.assert_close(run(x)[0], model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_opset_22_is_supported(tmp_path):
    torch.manual_seed(0)
    model, path = DeformConv2dPack(4, 6, **GEOMETRY).eval(), tmp_path / "layer.onnx"
    nn.init.normal_(model.conv_offset.weight, std=0.3)
    export_onnx(model, (torch.randn(2, 4, 11, 9),), {"x": [0, 2, 3]}, path, *EXPORTERS[1])
    assert operators(path, 22) == ["Conv", "DeformConv"]
    x = torch.randn(3, 4, 8, 15)
    torch.testing.assert_close(runner(path)(x)[0], model(x), rtol=1e-4, atol=1e-4)


class _Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = DeformConv2d(4, 6, 3, padding=1).half()

    def forward(self, x, offset):
        return self.layer(x, offset)


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "opset"), [EXPORTERS[0], EXPORTERS[2]])
def test_float32_offsets_stay_float32_with_half_inputs(tmp_path, exporter, opset):
    model, path = _Mixed().eval(), tmp_path / "mixed.onnx"
    operands = (torch.randn(1, 4, 3, 700).half(), torch.randn(1, 18, 3, 700))
    export_onnx(model, operands, {"x": [], "offset": []}, path, exporter, opset)
    assert "Cast" in operators(path, opset)
    out = runner(path)(*operands)[0]
    assert out.dtype == torch.float16
    # half a pixel, the step of float16 at 700, would show as a difference of the order of 1
    torch.testing.assert_close(out, model(*operands), rtol=1e-2, atol=1e-2)


class _Theirs(nn.Module):
    """torchvision's layer and nothing of ours."""

    def __init__(self, masked):
        super().__init__()
        torch.manual_seed(0)
        self.branch = nn.Conv2d(4, 27, 3, padding=1)
        self.layer = torchvision.ops.DeformConv2d(4, 6, 3, padding=1)
        self.masked = masked

    def forward(self, x):
        offset, mask = self.branch(x).split([18, 9], 1)
        return self.layer(x, offset, mask.sigmoid() if self.masked else None)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("axes", [[], [0, 2, 3]], ids=["fixed", "dynamic"])
def test_a_model_with_torchvisions_layer_only(tmp_path, masked, axes):
    model, path = _Theirs(masked).eval(), tmp_path / "theirs.onnx"
    x = torch.randn(2, 4, 11, 9)
    export_onnx(model, (x,), {"x": axes}, path, *EXPORTERS[0])
    assert "DeformConv" in operators(path, 19)
    x = torch.randn(3, 4, 8, 15) if axes else x
    torch.testing.assert_close(runner(path)(x)[0], model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["module", "program"])
def test_the_table_gives_the_same_model(tmp_path, given):
    torch.manual_seed(0)
    model, x = DeformConv2dPack(4, 6, **GEOMETRY).eval(), torch.randn(2, 4, 11, 9)
    exported = model if given == "module" else torch.export.export(model, (x,))
    texts = []
    for table in (None, export.onnx_translations()):
        path = tmp_path / f"{len(texts)}.onnx"
        export_onnx(exported, (x,), {"x": []}, path, *EXPORTERS[0], custom_translation_table=table)
        graph = onnx.load(path).graph
        for node in graph.node:
            del node.metadata_props[:]
        texts.append((list(graph.node), list(graph.initializer)))
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_an_entry_of_the_users_table_is_kept(tmp_path):
    from onnxscript import opset19

    def other(
        input: Any, offset: Any, weight: Any, bias: Any, mask: Any,
        stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    ) -> Any:  # fmt: skip
        return opset19.Conv(input, weight, bias)

    layer, path = DeformConv2dPack(4, 6, 3).eval(), tmp_path / "layer.onnx"
    table = {torch.ops.dcnv2.deform_conv2d.default: other}
    x = torch.randn(1, 4, 11, 9)
    export_onnx(layer, (x,), {"x": []}, path, *EXPORTERS[0], custom_translation_table=table)
    assert set(operators(path, 19)) == {"Conv"}


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layer", [ModulatedDeformConv2dPack, DeformConv2dPack])
def test_other_dtypes(tmp_path, kind, groups, layer):
    """onnxruntime runs halves on a CPU; of the others the model is checked, and its types."""
    torch.manual_seed(0)
    model = layer(4, 6, 3, groups=groups, deform_groups=2, bias=groups == 1)
    nn.init.normal_(model.conv_offset.weight, std=0.1)
    model, path = model.to(kind).eval(), tmp_path / "layer.onnx"
    x = torch.randn(2, 4, 7, 9, dtype=kind)
    export_onnx(model, (x,), {"x": [0, 2, 3]}, path, *EXPORTERS[1])
    assert operators(path, 22)[-1] == "DeformConv"
    (out,) = onnx.load(path).graph.output
    names = {torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16", torch.float64: "DOUBLE"}
    assert onnx.TensorProto.DataType.Name(out.type.tensor_type.elem_type) == names[kind]
    if kind == torch.float16:
        torch.testing.assert_close(runner(path)(x)[0], model(x), rtol=1e-2, atol=1e-2)


def _refused(tmp_path, layer, exporter, opset, message):
    path = tmp_path / "layer.onnx"
    x = torch.randn(1, 4, 5, 6, dtype=layer.weight.dtype)
    with pytest.raises(Exception, match=message):
        export_onnx(layer.eval(), (x,), {"x": []}, path, exporter, opset)
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exporter", "opset", "message"),
    [
        ("dynamo", 18, "opset_version must be 19 or later: DeformConv is new in it"),
        ("trace", 18, "opset version 18 is not supported.*was added in version 19"),
    ],
)
def test_an_export_to_an_opset_without_deform_conv_writes_nothing(
    tmp_path, exporter, opset, message
):
    _refused(tmp_path, DeformConv2dPack(4, 4, 3), exporter, opset, message)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "trace"])
def test_bfloat16_before_opset_22_writes_nothing(tmp_path, exporter):
    layer = DeformConv2dPack(4, 4, 3).bfloat16()
    message = "opset_version must be 22 or later for convolutions in bfloat16, got 20"
    _refused(tmp_path, layer, exporter, 20, message)


def test_translations_for_an_opset_without_deform_conv_cannot_be_registered():
    with pytest.raises(
        ValueError, match="opset must be 19 or later, because DeformConv is new in it"
    ):
        export.register_symbolics(18)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize(("exporter", "opset"), [EXPORTERS[0], EXPORTERS[2]])
def test_nodes_meet_the_requirements_of_tensorrts_parser(tmp_path, exporter, opset, kind):
    """Its importer wants operands of one type, the same padding at both ends, and no empty name."""

    torch.manual_seed(0)
    layers = (ModulatedDeformConv2dPack(4, 6, bias=False, **GEOMETRY), DeformConv2dPack(6, 4, 3))
    model = nn.Sequential(*layers).to(kind)
    path = tmp_path / "net.onnx"
    x = torch.randn(2, 4, 11, 9, dtype=kind)
    export_onnx(model.eval(), (x,), {"x": [0, 2, 3]}, path, exporter, opset)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    known = (*graph.input, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in known}
    types |= {value.name: value.data_type for value in graph.initializer}
    found = [node for node in graph.node if node.op_type == "DeformConv"]
    assert [len(node.input) for node in found] == [5, 4]
    wanted = onnx.helper.np_dtype_to_tensor_dtype(x.numpy().dtype)
    for node in found:
        assert {types.get(name) for name in node.input} == {wanted}
        (pads,) = (list(a.ints) for a in node.attribute if a.name == "pads")
        assert pads[:2] == pads[2:]
    torch.testing.assert_close(runner(path)(x)[0], model(x), rtol=1e-2, atol=1e-2)
