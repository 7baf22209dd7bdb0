# SPDX-License-Identifier: BSD-3-Clause
"""The layer catalogue says what it claims."""

import pytest
import torch

from suites.perf.layers import EIGHT, SETS, Layer, find, sweep

ALL = [layer for layers in SETS.values() for layer in layers]
ODD = Layer(
    "odd", "none", 2, 6, 4, 7, 9,
    kernel=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(2, 1), groups=2, deform_groups=3,
)  # fmt: skip


def test_names_are_unique():
    assert len({layer.name for layer in ALL}) == len(ALL)


def test_eight_layers_are_the_published_ones():
    assert [layer.name for layer in EIGHT] == [
        "r50_c3_b8",
        "r50_c4_b8",
        "r50_c5_dil_b8",
        "r50_c3",
        "r50_c4",
        "r50_c5_dil",
        "edvr_dg8",
        "centernet",
    ]


def _convolved(layer):
    input, weight = (torch.empty(layer.shapes[n], device="meta") for n in ("input", "weight"))
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return torch.nn.functional.conv2d(input, weight, None, *options)


@pytest.mark.parametrize("layer", [*ALL, ODD], ids=lambda layer: layer.name)
def test_output_is_that_of_a_convolution(layer):
    assert tuple(_convolved(layer).shape) == layer.shapes["output"]
    assert layer.shapes["offset"][1] == 2 * layer.shapes["mask"][1]


def test_strided_layers_end_on_the_map_of_their_stage():
    assert find("resnet_c4_b8_s2").out_size == find("resnet_c4_b8").out_size


def test_flops_are_counted_as_multiply_adds():
    # 2 images of 4 x 3 x 8 outputs, each of 6 taps and 3 channels
    assert ODD.shapes["output"] == (2, 4, 3, 8)
    assert ODD.flops("forward") == 2 * (2 * 4 * 3 * 8) * 6 * 3
    assert ODD.flops("both") == 3 * ODD.flops("forward")


def test_bytes_count_every_tensor_once_a_pass():
    input, offset, mask, weight, bias, output = 756, 1728, 864, 72, 4, 192
    operands = input + offset + mask + weight + bias
    assert ODD.moved_bytes("forward", 4) == 4 * (operands + output)
    assert ODD.moved_bytes("backward", 4) == 4 * (2 * operands + output)
    assert ODD.moved_bytes("forward", 4, deformable=False) == 4 * (input + weight + bias + output)


@pytest.mark.parametrize("quantity", ["channels", "pixels", "batch"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_sweeps_grow_in_one_quantity(quantity, device):
    layers = sweep(quantity, device)
    assert list(layers) == sorted(layers)
    flops = [layer.flops("forward") for layer in layers.values()]
    assert flops == sorted(set(flops))


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match="no layer 'none'"):
        find("none")
    with pytest.raises(ValueError, match="got 'colour'"):
        sweep("colour")
