# SPDX-License-Identifier: BSD-3-Clause
"""dcnv2.compat: code and checkpoints written for another project give what they gave there."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision
from peer_layers import basicsr, dcn_v2, detectron2, mmcv
from torch import nn

from dcnv2 import compat
from dcnv2.compat.arguments import GROUP_NAMES
from dcnv2.ops import deform_psroi_pool, deform_roi_pool

ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16], [0, 2.2, 1, 20, 14]])
# By position: in, out, kernel, stride, padding, dilation, groups, deform groups.
FULL = (6, 8, (3, 2), (2, 1), (1, 2), (2, 1), 2, 3)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _operands():
    x, weight, bias = torch.randn(2, 6, 9, 8), torch.randn(8, 3, 3, 2), torch.randn(8)
    return x, torch.randn(2, 36, 4, 11), torch.rand(2, 18, 4, 11), weight, bias


def _expected(x, offset, mask, weight, bias):
    options = ((2, 1), (1, 2), (2, 1))
    return torchvision.ops.deform_conv2d(x, offset, weight, bias, *options, mask)


def _copied(ours, theirs):
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours


PACKS = [
    (compat.mmcv.DeformConv2dPack, mmcv.DeformConv2dPack),
    (compat.mmcv.ModulatedDeformConv2dPack, mmcv.ModulatedDeformConv2dPack),
    (compat.basicsr.ModulatedDeformConvPack, basicsr.ModulatedDeformConvPack),
]


@pytest.mark.parametrize(("ours", "theirs"), PACKS)
def test_packs_accept_positional_arguments_and_checkpoints(ours, theirs):
    x, theirs = torch.randn(2, 6, 9, 8), theirs(*FULL)
    torch.testing.assert_close(_copied(ours(*FULL), theirs)(x), theirs(x))


def test_a_pack_predicts_offsets_from_other_features():
    x, feat, theirs = torch.randn(2, 6, 9, 8), torch.randn(2, 6, 9, 8), basicsr.DCNv2Pack(*FULL)
    ours = _copied(compat.basicsr.DCNv2Pack(*FULL), theirs)
    torch.testing.assert_close(ours(x, feat), theirs(x, feat))


def test_charlesshangs_layers_accept_positional_arguments_and_checkpoints():
    # in, out, kernel, stride, padding, dilation, deformable groups: no groups between
    x, arguments = torch.randn(2, 6, 9, 8), (6, 8, 3, 2, 1, 1, 3)
    theirs = dcn_v2.DCN(*arguments)
    torch.testing.assert_close(_copied(compat.dcnv2_pytorch.DCN(*arguments), theirs)(x), theirs(x))
    bare = dcn_v2.DCNv2(*arguments)
    offset, mask = torch.randn(2, 54, 5, 4), torch.rand(2, 27, 5, 4)
    ours = _copied(compat.dcnv2_pytorch.DCNv2(*arguments), bare)
    torch.testing.assert_close(ours(x, offset, mask), bare(x, offset, mask))
    with pytest.raises(TypeError, match="stride"):
        compat.dcnv2_pytorch.DCN(6, 8, 3)


def test_charlesshangs_layer_applies_its_dilation():
    layer = compat.dcnv2_pytorch.DCN(6, 8, 3, 1, 2, 2)
    plain = nn.functional.conv2d(torch.ones(1, 6, 7, 9), layer.weight, None, 1, 2, 2)
    torch.testing.assert_close(layer(torch.ones(1, 6, 7, 9)), 0.5 * plain)


@pytest.mark.parametrize("modulated", [True, False])
def test_detectron2s_layers_apply_norm_and_activation(modulated):
    name = "ModulatedDeformConv" if modulated else "DeformConv"
    x, offset, mask, _, _ = _operands()
    options = {"bias": False, "activation": torch.relu}
    theirs = getattr(detectron2, name)(*FULL, norm=nn.BatchNorm2d(8), **options)
    ours = getattr(compat.detectron2, name)(*FULL, norm=nn.BatchNorm2d(8), **options)
    operands = (x, offset, mask) if modulated else (x, offset)
    torch.testing.assert_close(_copied(ours, theirs)(*operands), theirs(*operands))
    assert "norm.running_mean" in ours.state_dict()


def test_functions_have_each_projects_argument_order():
    x, offset, mask, weight, bias = operands = _operands()
    geometry = ((2, 1), (1, 2), (2, 1), 2, 3)
    wanted, plain = _expected(*operands), _expected(x, offset, None, weight, None)
    for function in (
        compat.mmcv.modulated_deform_conv2d,
        compat.basicsr.modulated_deform_conv,
        compat.detectron2.modulated_deform_conv,
    ):
        torch.testing.assert_close(function(*operands, *geometry), wanted)
    for function in (
        compat.mmcv.deform_conv2d,
        compat.basicsr.deform_conv,
        compat.detectron2.deform_conv,
    ):
        torch.testing.assert_close(function(x, offset, weight, *geometry), plain)
    ungrouped = (x, offset, mask, torch.randn(8, 6, 3, 2), bias)
    out = compat.dcnv2_pytorch.dcn_v2_conv(*ungrouped, (2, 1), (1, 2), (2, 1), 3)
    torch.testing.assert_close(out, _expected(*ungrouped))
    out = compat.torchvision.deform_conv2d(
        x, offset, weight, bias, (2, 1), (1, 2), (2, 1), mask=mask
    )
    torch.testing.assert_close(out, wanted)
    with pytest.raises(ValueError, match="bias must be False"):
        compat.mmcv.deform_conv2d(x, offset, weight, *geometry, bias=True)


@pytest.mark.parametrize("name", GROUP_NAMES)
def test_every_name_of_deform_groups_is_accepted(name):
    options = {"stride": 1, "padding": 1, name: 3}
    for kind in (
        compat.mmcv.DeformConv2dPack,
        compat.mmcv.ModulatedDeformConv2d,
        compat.basicsr.DCNv2Pack,
        compat.detectron2.DeformConv,
        compat.detectron2.ModulatedDeformConv,
        compat.dcnv2_pytorch.DCN,
    ):
        assert kind(6, 8, 3, **options).deform_groups == 3
    x, offset, mask, weight, bias = _operands()
    shared = {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1), "groups": 2, name: 3}
    compat.basicsr.modulated_deform_conv(x, offset, mask, weight, bias, **shared)
    with pytest.raises(TypeError, match="deform_groups was given twice: also as"):
        compat.mmcv.DeformConv2d(6, 8, 3, deform_groups=1, offset_groups=1)


def test_group_counts_that_contradict_the_shapes_are_errors():
    x, offset, mask, weight, bias = _operands()
    with pytest.raises(ValueError, match="= 24 channels for G = 2 deform groups, got 36"):
        compat.mmcv.modulated_deform_conv2d(x, offset, mask, weight, bias, (2, 1), (1, 2), 1, 2, 2)
    with pytest.raises(ValueError, match=r"groups = 1 .* need an input of 3 channels, got 6"):
        compat.mmcv.modulated_deform_conv2d(x, offset, mask, weight, bias, (2, 1), (1, 2), 1, 1, 3)
    layer = compat.basicsr.ModulatedDeformConv(6, 8, (3, 2), deformable_groups=2)
    with pytest.raises(ValueError, match="for G = 2 deform groups"):
        layer(x, offset, mask)


def test_a_bias_starts_at_zero():
    for kind in (compat.mmcv.ModulatedDeformConv2d, compat.basicsr.DCNv2Pack):
        assert not kind(6, 8, 3).bias.any()


# ---- RoI pooling


def test_mmcvs_pools_equal_ours():
    x, offset = torch.randn(2, 5, 9, 11), torch.randn(3, 2, 3, 4)
    options = ((3, 4), 0.5, 2, 0.2)
    wanted = deform_roi_pool(x, ROIS, offset, None, *options)
    torch.testing.assert_close(compat.mmcv.DeformRoIPool(*options)(x, ROIS, offset), wanted)
    plain = deform_roi_pool(x, ROIS, None, None, *options)
    out = compat.mmcv.deform_roi_pool(x, ROIS, x.new_empty(0), *options)
    torch.testing.assert_close(out, plain)
    # output size, channels, hidden channels, scale, samples, gamma: not the order of dcnv2.nn
    pack = compat.mmcv.DeformRoIPoolPack((3, 4), 5, 16, 0.5, 2, 0.2)
    torch.testing.assert_close(pack(x, ROIS), plain)
    modulated = compat.mmcv.ModulatedDeformRoIPoolPack((3, 4), 5, 16, 0.5, 2, 0.2)
    torch.testing.assert_close(modulated(x, ROIS), 0.5 * plain)
    names = [f"{part}_fc.{i}.{n}" for part, last in (("offset", 5), ("mask", 3))
             for i in range(0, last, 2) for n in ("weight", "bias")]  # fmt: skip
    assert list(modulated.state_dict()) == names
    nn.init.normal_(modulated.offset_fc[4].weight)
    nn.init.normal_(modulated.mask_fc[2].weight)
    seen = plain.flatten(1)
    offset = modulated.offset_fc(seen).view(3, 2, 3, 4)
    mask = modulated.mask_fc(seen).view(3, 1, 3, 4)
    wanted = deform_roi_pool(x, ROIS, offset, None, *options) * mask
    torch.testing.assert_close(modulated(x, ROIS), wanted)


def test_charlesshangs_pools_equal_ours():
    x, offset = torch.randn(2, 8, 9, 11), torch.randn(3, 2, 3, 3)
    wanted = deform_psroi_pool(x, ROIS, offset, None, 3, 0.5, 2, 3, 3, 0.2)
    options = (0.5, 3, 2, False, 2, 3, 3, 0.2)
    pool = compat.dcnv2_pytorch.DCNv2Pooling(*options)
    torch.testing.assert_close(pool(x, ROIS, offset), wanted)
    pack = compat.dcnv2_pytorch.DCNPooling(*options, deform_fc_dim=16)
    plain = deform_psroi_pool(x, ROIS, None, None, 3, 0.5, 2, 3, 3, 0.2)
    torch.testing.assert_close(pack(x, ROIS), 0.5 * plain)
    untrans = compat.dcnv2_pytorch.DCNPooling(0.5, 3, 2, True, 2, 3, 3, 0.2)
    torch.testing.assert_close(untrans(x, ROIS), plain)
    assert not untrans.state_dict()
    with pytest.raises(ValueError, match=r"output_dim \* group_size\^2 = 12 channels, got 8"):
        compat.dcnv2_pytorch.dcn_v2_pooling(x, ROIS, offset, 0.5, 3, 3, False, 2)


# ---- registry


class _Registry:
    def __init__(self):
        self.found = {}

    def register_module(self, name, force, module):
        if name in self.found and not force:
            raise KeyError(f"{name} is already registered")
        self.found[name] = module


@pytest.mark.parametrize("home", ["mmengine.registry", "mmcv.cnn"])
def test_registry_names_build_our_layers(monkeypatch, home):
    registry = _Registry()
    attribute = "MODELS" if home == "mmengine.registry" else "CONV_LAYERS"
    monkeypatch.setitem(sys.modules, "mmengine", None if home == "mmcv.cnn" else SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mmcv", SimpleNamespace())
    monkeypatch.setitem(sys.modules, home, SimpleNamespace(**{attribute: registry}))
    compat.mmcv.register()
    layer = registry.found["DCNv2"](6, 8, 3, stride=1, padding=1, deformable_groups=2, bias=False)
    assert layer(torch.randn(1, 6, 7, 9)).shape == (1, 8, 7, 9)
    assert registry.found["DCN"] is compat.mmcv.DeformConv2dPack


def test_mmcv_may_be_imported_after_our_layers_are_registered(monkeypatch, tmp_path):
    registry = _Registry()
    monkeypatch.setitem(sys.modules, "mmengine", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mmengine.registry", SimpleNamespace(MODELS=registry))
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv/__init__.py").touch()
    (tmp_path / "mmcv/ops.py").write_text(
        "import sys\n"
        "models = sys.modules['mmengine.registry'].MODELS\n"
        "models.register_module(name='DCNv2', force=False, module=object)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mmcv", "mmcv.ops"):
        monkeypatch.setitem(sys.modules, name, None)  # to be as it was, afterwards
        del sys.modules[name]
    compat.mmcv.register()
    importlib.import_module("mmcv.ops")
    assert registry.found["DCNv2"] is compat.mmcv.ModulatedDeformConv2dPack
