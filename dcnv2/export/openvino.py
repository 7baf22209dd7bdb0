# SPDX-License-Identifier: BSD-3-Clause
"""ONNX's DeformConv in OpenVINO, whose import of ONNX models has no rule for it."""

from __future__ import annotations

from typing import Any

_OPERANDS = ("input", "weight", "offset", "bias", "mask")


def openvino_extension() -> Any:
    """A rule with which OpenVINO reads exported convolutions.

        core = openvino.Core()
        core.add_extension(dcnv2.export.openvino_extension())
        model = core.compile_model("model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    Without the hint OpenVINO computes in bfloat16 on CPUs that have it. The operator is
    `deformable_convolution` of OpenVINO's opset 8, with zeros beyond the border, as in ONNX.

    Returns:
        An `openvino.frontend.onnx.ConversionExtension`.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    from openvino.frontend.onnx import ConversionExtension

    return ConversionExtension("DeformConv", _convert)


def _convert(node: Any) -> list[Any]:
    """The outputs of a DeformConv, an openvino.frontend.NodeContext."""
    from openvino import opset8

    operands = {
        name: node.get_input(index)
        for index, name in enumerate(_OPERANDS[: node.get_input_size()])
        if node.get_input(index).get_node().get_type_name() != "NullNode"  # left out
    }
    pads = list(node.get_attribute("pads", [0, 0, 0, 0]))
    output = opset8.deformable_convolution(
        operands["input"],
        operands["offset"],
        operands["weight"],
        strides=list(node.get_attribute("strides", [1, 1])),
        pads_begin=pads[:2],
        pads_end=pads[2:],
        dilations=list(node.get_attribute("dilations", [1, 1])),
        mask=operands.get("mask"),
        group=node.get_attribute("group", 1),
        deformable_group=node.get_attribute("offset_group", 1),
        bilinear_interpolation_pad=True,
    )
    if "bias" in operands:
        bias = opset8.reshape(operands["bias"], [1, -1, 1, 1], special_zero=False)
        output = opset8.add(output, bias)
    return [output.output(0)]
