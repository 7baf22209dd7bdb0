# SPDX-License-Identifier: BSD-3-Clause
"""Handles for fvcore and hooks for ptflops, called as these packages call them.

The wanted numbers are those of fvcore 0.1.5 and ptflops 0.7.5 for torchvision's layer and conv2d.
"""

import pytest
import torch
from torch import nn

from dcnv2.compat import dcnv2_pytorch, mmcv
from dcnv2.compat.flop_counters import fvcore_handles, ptflops_hooks
from dcnv2.nn import DeformConv2d, DeformRoIPoolPack, ModulatedDeformConv2dPack

X = torch.randn(1, 4, 8, 9)
PIXELS, SAMPLES = 72, 72 * 9
CONV = 6 * 2 * 9 * PIXELS  # products of Conv2d(4, 6, 3, groups=2)
BRANCH = 27 * 4 * 9 * PIXELS


def _by_class(module, *operands):
    """What ptflops' backend "pytorch" sums up: it does not descend into a module with a hook."""
    hooks, counted = ptflops_hooks(), []

    def hook(module):
        if type(module) in hooks:
            module.__flops__ = 0
            module.register_forward_hook(hooks[type(module)])
            counted.append(module)
            return
        for child in module.children():
            hook(child)

    hook(module)
    module(*operands)
    return sum(module.__flops__ for module in counted)


def test_ptflops_counts_a_layer_as_torchvisions():
    layer = DeformConv2d(4, 6, 3, padding=1, groups=2)
    offset, mask = torch.zeros(1, 18, 8, 9), torch.ones(1, 9, 8, 9)
    assert _by_class(layer, X, offset, mask) == CONV + 25 * SAMPLES + 6 * PIXELS
    layer = DeformConv2d(4, 6, 3, padding=1, groups=2)
    assert _by_class(layer, X, offset) == CONV + 24 * SAMPLES + 6 * PIXELS


@pytest.mark.parametrize(
    ("layer", "branch", "per_sample"),
    [
        (ModulatedDeformConv2dPack(4, 6, 3, padding=1, groups=2), BRANCH, 25),
        (mmcv.ModulatedDeformConv2dPack(4, 6, 3, padding=1, groups=2), BRANCH, 25),
        (mmcv.DeformConv2dPack(4, 6, 3, padding=1, groups=2, bias=True), BRANCH // 27 * 18, 24),
    ],
)
def test_ptflops_counts_branches(layer, branch, per_sample):
    biases = (6 + branch // (36 * PIXELS)) * PIXELS
    found = _by_class(nn.Sequential(layer), X)
    assert found == CONV + branch + biases + per_sample * SAMPLES


def test_ptflops_counts_branches_of_other_names_and_of_pools():
    products = 6 * 4 * 9 * PIXELS + BRANCH
    layer = dcnv2_pytorch.DCN(4, 6, 3, 1, 1)
    assert _by_class(layer, X) == products + (6 + 27) * PIXELS + 25 * SAMPLES
    pool = DeformRoIPoolPack(3, 4, hidden_channels=8)
    layers = 36 * 8 + 8 * 8 + 8 * 18 + (8 + 8 + 18)
    assert _by_class(pool, X, torch.tensor([[0, 0, 0, 3, 3.0]])) == layers


def test_ptflops_counts_an_operator_as_conv2d():
    hook = ptflops_hooks()[torch.ops.dcnv2.deform_conv2d]
    weight, bias = torch.empty(6, 2, 3, 3), torch.empty(6)
    operands = (X, torch.empty(1, 18, 8, 9), weight, bias, None, [1, 1], [1, 1], [1, 1])
    out = (torch.empty(1, 6, 8, 9),)
    assert hook(operands, out) == CONV + 6 * PIXELS
    assert hook((*operands[:3], None, *operands[4:]), out) == CONV


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_fvcore_counts_an_operator_as_conv2d():
    layer = ModulatedDeformConv2dPack(4, 6, 3, padding=1, groups=2)
    graph, _ = torch.jit._get_trace_graph(layer, (X,))  # as fvcore traces
    (node,) = (node for node in graph.nodes() if node.kind() in fvcore_handles())
    count = fvcore_handles()[node.kind()](list(node.inputs()), list(node.outputs()))
    assert count == CONV
