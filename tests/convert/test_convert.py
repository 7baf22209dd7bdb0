# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints of every family, in its own names: after conversion our layers compute the same.

The expected result is that of torchvision's operator with the original weights, with the
family's order of channels turned into torchvision's here, not by the code under test.
"""

import argparse

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

import dcnv2
from dcnv2 import cli, compat
from dcnv2.convert import checkpoints as convert_weights
from dcnv2.convert import weight_files
from dcnv2.nn import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    ModulatedDeformPSRoIPoolPack,
)

TAPS, GROUPS = 9, 2
OPTIONS = {"kernel_size": 3, "stride": (2, 1), "padding": 1}


def _kernel():
    return {"weight": torch.randn(6, 4, 3, 3) * 0.3, "bias": torch.randn(6)}


def _branch(fields, groups=GROUPS):
    channels = fields * groups * TAPS
    return torch.randn(channels, 4, 3, 3) * 0.2, torch.randn(channels) * 0.2


def _expected(x, kernel, places, logits):
    """torchvision's output; `places` and `logits` are (weight, bias) of branches in its order."""

    def conv(part):
        return nn.functional.conv2d(x, *part, OPTIONS["stride"], 1)

    mask = None if logits is None else conv(logits).sigmoid()
    return torchvision.ops.deform_conv2d(
        x, conv(places), kernel["weight"], kernel.get("bias"), OPTIONS["stride"], 1, 1, mask
    )


def _split(branch):
    places = branch[0].shape[0] // 3 * 2
    return tuple(t[:places] for t in branch), tuple(t[places:] for t in branch)


def _named(prefix, pair):
    return {f"{prefix}.weight": pair[0], f"{prefix}.bias": pair[1]}


class _Net(nn.Module):
    """Layers by the names that checkpoints have."""

    def __init__(self, name, layer):
        super().__init__()
        self.add_module(name, layer)

    def load(self, state):
        self.load_state_dict(state, strict=True)
        return next(self.children())


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 4, 9, 8)


BRANCH_NAMES = {
    "mmcv": ("conv2.conv_offset", "dcnv2"),
    "basicsr": ("conv2.conv_offset", "dcnv2"),
    "charlesshang": ("conv2.conv_offset_mask", "charlesshang"),
    "chengdazhi": ("conv2.conv_offset_mask", "charlesshang"),
    "detectron2": ("conv2_offset", "detectron2"),
    "old mmdetection": ("conv2_offset", "detectron2"),
}


@pytest.mark.parametrize("family", BRANCH_NAMES)
@pytest.mark.parametrize("fields", [2, 3])
@pytest.mark.parametrize("groups", [1, GROUPS])
@pytest.mark.parametrize("converted", [True, False], ids=["converted", "as it is"])
def test_families_that_differ_in_names(x, family, fields, groups, converted):
    name, source = BRANCH_NAMES[family]
    kernel, branch = _kernel(), _branch(fields, groups)
    state = {f"conv2.{key}": value for key, value in kernel.items()} | _named(name, branch)
    places, logits = _split(branch) if fields == 3 else (branch, None)
    kind = ModulatedDeformConv2dPack if fields == 3 else DeformConv2dPack
    net = _Net("conv2", kind(4, 6, deform_groups=groups, **OPTIONS))
    assert convert_weights.sources_of(state) == [source]
    if source == "detectron2" and not converted:  # a branch beside the layer is out of its sight
        with pytest.raises(RuntimeError, match=r'Unexpected key.*"conv2_offset\.weight"'):
            net.load(state)
        return
    layer = net.load(dcnv2.convert_state_dict(state) if converted else state)
    torch.testing.assert_close(layer(x), _expected(x, kernel, places, logits))


def test_torchvision(x):
    kernel, places, logits = _kernel(), *_split(_branch(3))
    state = {f"conv2.{key}": value for key, value in kernel.items()}
    assert convert_weights.sources_of(state) == []
    layer = _Net("conv2", DeformConv2d(4, 6, **OPTIONS)).load(dcnv2.convert_state_dict(state))
    offset = nn.functional.conv2d(x, *places, OPTIONS["stride"], 1)
    mask = nn.functional.conv2d(x, *logits, OPTIONS["stride"], 1).sigmoid()
    torch.testing.assert_close(layer(x, offset, mask), _expected(x, kernel, places, logits))


@pytest.mark.parametrize("modulated", [True, False])
def test_4uiiurz1s_planes_are_interleaved(x, modulated):
    kernel = {"weight": torch.randn(6, 4, 3, 3)}
    planar = torch.randn(2 * TAPS, 4, 3, 3) * 0.2, torch.randn(2 * TAPS) * 0.2
    logits = (torch.randn(TAPS, 4, 3, 3), torch.randn(TAPS)) if modulated else None
    state = {"body.0.conv.weight": kernel["weight"]} | _named("body.0.p_conv", planar)
    if modulated:
        state |= _named("body.0.m_conv", logits)
    order = [channel for tap in range(TAPS) for channel in (tap, TAPS + tap)]
    places = tuple(t[order] for t in planar)
    kind = ModulatedDeformConv2dPack if modulated else DeformConv2dPack
    layer = kind(4, 6, bias=False, **OPTIONS)
    nn.ModuleDict({"body": nn.Sequential(layer)}).load_state_dict(dcnv2.convert_state_dict(state))
    torch.testing.assert_close(layer(x), _expected(x, kernel, places, logits))
    assert convert_weights.sources_of(state) == ["4uiiurz1"]


def test_charlesshangs_pooling():
    theirs = compat.dcnv2_pytorch.DCNPooling(
        0.5, 3, 8, False, 1, sample_per_part=3, trans_std=0.2, deform_fc_dim=16
    )
    nn.init.normal_(theirs.offset_mask_fc[4].weight)
    ours = ModulatedDeformPSRoIPoolPack(
        3, 8, 0.5, sample_per_part=3, trans_std=0.2, hidden_channels=16
    )
    ours.load_state_dict(dcnv2.convert_state_dict(theirs.state_dict()))
    rois = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16]])
    features = torch.randn(2, 8, 9, 11)
    torch.testing.assert_close(ours(features, rois), theirs(features, rois))


def test_other_entries_and_wrappings():
    kernel, branch = _kernel(), _branch(3)
    layer = {f"ida.0.{key}": value for key, value in kernel.items()}
    state = layer | _named("ida.0.conv_offset_mask", branch) | {"fc_offset.weight": torch.ones(2)}
    wrapped = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    plain = dcnv2.convert_state_dict(state)
    assert dcnv2.convert_state_dict(wrapped).keys() == plain.keys()
    assert plain["fc_offset.weight"] is state["fc_offset.weight"]
    assert set(plain) - set(state) == {"ida.0.conv_offset.weight", "ida.0.conv_offset.bias"}
    assert dcnv2.convert_state_dict(plain).keys() == plain.keys()
    assert dcnv2.convert_state_dict(state, "detectron2").keys() == state.keys()


def test_what_cannot_be_converted_is_refused():
    with pytest.raises(ValueError, match="source must be one of dcnv2, charlesshang"):
        dcnv2.convert_state_dict({"a": torch.ones(1)}, "mxnet")
    with pytest.raises(ValueError, match="no tensors in the checkpoint; its entries are: epoch"):
        dcnv2.convert_state_dict({"epoch": 3})
    v4 = {"dcn.value_proj.weight": torch.ones(2, 2), "dcn.offset_mask.weight": torch.ones(8, 2)}
    with pytest.raises(ValueError, match=r"dcn\. is DCNv4's"):
        dcnv2.convert_state_dict(v4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_the_command_converts_files(tmp_path, capsys, suffix):
    kernel, branch = _kernel(), _branch(3)
    state = {f"dcn.{k}": v for k, v in kernel.items()} | _named("dcn.conv_offset_mask", branch)
    source, target = tmp_path / "in.pth", tmp_path / f"out{suffix}"
    torch.save({"state_dict": state, "epoch": 7}, source)
    assert cli.main(["convert", str(source), str(target)]) == 0
    printed = capsys.readouterr().out
    assert "4 tensors, charlesshang" in printed
    assert "2 new names\n  dcn.conv_offset.weight\n  dcn.conv_offset.bias" in printed
    found = weight_files.load_weights(target)
    torch.testing.assert_close(found, dcnv2.convert_state_dict(state), rtol=0, atol=0)
    if suffix == ".safetensors":
        assert safetensors.torch.load_file(target).keys() == found.keys()


def test_no_code_of_a_checkpoint_is_run(tmp_path, capsys):
    source = tmp_path / "in.pth"
    torch.save({"state_dict": _kernel(), "args": argparse.Namespace(lr=0.1)}, source)
    assert cli.main(["convert", str(source), str(tmp_path / "out.pth")]) == 1
    assert "holds more than tensors and is not read" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()
