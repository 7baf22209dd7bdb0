# SPDX-License-Identifier: BSD-3-Clause
"""dcnv2.deformable: nets of other projects get deformable layers and compute what they did."""

import pytest
import timm
import torch
import torchvision
from torch import nn

import dcnv2
from dcnv2.nn import ModulatedDeformConv2dPack


def _deformed(model):
    return [n for n, m in model.named_modules() if isinstance(m, ModulatedDeformConv2dPack)]


def _unchanged(model, run, layers, count, **options):
    """Make layers deformable; the output stays, and afterwards offsets matter and learn."""
    torch.manual_seed(0)
    for module in model.eval().modules():
        if isinstance(module, nn.BatchNorm2d):  # some nets begin with zeros
            nn.init.uniform_(module.weight, 0.5, 1.5)
    with torch.no_grad():
        wanted = run(model)
    parameters = dict(model.named_parameters())
    assert dcnv2.deformable(model, layers, report=None, **options) is model
    assert len(_deformed(model)) == count
    assert parameters.items() <= dict(model.named_parameters()).items()
    with torch.no_grad():
        torch.testing.assert_close(run(model), wanted, rtol=1e-3, atol=1e-4)
    for name in _deformed(model):
        nn.init.normal_(model.get_submodule(name).conv_offset.bias)
    moved = run(model)
    assert (moved - wanted).abs().max() > 1e-2 * wanted.abs().max()
    moved.square().sum().backward()
    for name in _deformed(model):
        assert model.get_submodule(name).conv_offset.weight.grad.any(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers", "count"),
    [
        ("resnet10t", ["layer3.*", "layer4.*"], 4),
        ("regnetx_002", "s4.*.conv2.conv", 7),  # grouped
        ("mobilenetv3_small_050", lambda name, conv: conv.groups > 1 and "blocks.4.1" in name, 1),
        ("efficientnet_b0", lambda name, conv: conv.kernel_size == (5, 5) and "5.0" in name, 1),
    ],
)
def test_nets_of_timm(name, layers, count):
    model = timm.create_model(name, pretrained=False, num_classes=5)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    _unchanged(model, lambda m: m(x), layers, count)


@pytest.mark.slow
def test_a_segmentation_net_with_dilated_layers():
    model = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=3
    )
    x = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    _unchanged(model, lambda m: m(x)["out"], "backbone.layer4.*.conv2", 3, deform_groups=4)


@pytest.mark.slow
def test_a_detector():
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=64, max_size=96
    )
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    _unchanged(model, lambda m: m.backbone(x)["0"], "backbone.body.1[0-9].block.1.0", 3)
    assert set(model(list(x))[0]) == {"boxes", "labels", "scores"}


class _ConvNormAct(nn.Module):
    """The block that YOLO's nets are made of; its names are those of that family."""

    def __init__(self, cin, cout, size=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class _SmallYolo(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            _ConvNormAct(3, 8, 3, 2), _ConvNormAct(8, 16, 3, 2), _ConvNormAct(16, 16, 3)
        )
        self.cv1, self.cv2 = _ConvNormAct(16, 8), _ConvNormAct(8, 16, 3)
        self.detect = nn.Conv2d(16, 3 * 7, 1)

    def forward(self, x):
        x = self.model(x)
        return self.detect(x + self.cv2(self.cv1(x)))


def test_a_small_yolo():
    x = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    _unchanged(_SmallYolo(), lambda m: m(x), ["model.[12].conv", "cv2.conv"], 3, max_offset=8.0)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same", "dilation": (2, 1)},
        {"padding": "valid", "stride": 2},
        {"padding": (1, 2), "groups": 2, "bias": False},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_options_and_dtypes_of_convolutions(options, dtype):
    model = nn.Sequential(nn.Conv2d(4, 6, 3, **options)).to(dtype).eval()
    x = torch.randn(2, 4, 9, 11, dtype=dtype)
    wanted = model(x)
    dcnv2.deformable(model, "0", report=None)
    assert model[0].conv_offset.weight.dtype == dtype
    assert not model[0].training
    torch.testing.assert_close(model(x), wanted)


def test_what_cannot_be_deformed_is_said():
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=1),
        timm.layers.Conv2dSame(4, 4, 3),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
    )
    text = []
    dcnv2.deformable(model, "*", report=text.append)
    assert _deformed(model) == ["1"]
    with pytest.raises(ValueError, match="none of the chosen"):
        dcnv2.deformable(model, "*")  # and not the new layer's own branch
    assert text[0].split("\n")[:2] == [
        "dcnv2.deformable: 1 convolutions made deformable",
        "  1: 4 to 4 channels",
    ]
    assert "0: padding mode reflect" in text[0]
    assert "2: Conv2dSame does more than nn.Conv2d" in text[0]
    assert "3: its weight is computed" in text[0]
    with pytest.raises(ValueError, match="none of the chosen convolutions can be"):
        dcnv2.deformable(model, "0")
    with pytest.raises(ValueError, match=r"'head.\*' chooses no convolution; .* 0, 2, 3"):
        dcnv2.deformable(model, "head.*")
    with pytest.raises(ValueError, match="deform_groups = 3 does not divide its 4 channels"):
        dcnv2.deformable(nn.Sequential(nn.Conv2d(4, 4, 3)), "0", deform_groups=3)


def test_a_shared_convolution_stays_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    dcnv2.deformable(model, ["0", "2"], report=None)
    assert model[0] is model[2]
