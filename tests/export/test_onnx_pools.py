# SPDX-License-Identifier: BSD-3-Clause
"""RoI poolings in ONNX as standard operators, and a whole Mask R-CNN with them."""

import pytest
import torch
from onnx_runs import EXPORTERS, export_onnx, operators, runner
from torch import nn

from dcnv2.models import (
    BackboneConfig,
    BoxHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolConfig,
    RPNConfig,
    build_model,
)
from dcnv2.nn import (
    DeformPSRoIPoolPack,
    DeformRoIPoolPack,
    ModulatedDeformPSRoIPoolPack,
    ModulatedDeformRoIPoolPack,
)
from dcnv2.ops import checks, deform_psroi_pool, deform_roi_pool, multiscale_roi_align

NAN, INF = float("nan"), float("inf")
# The last three are upside down, of no image, and not finite.
ROIS = torch.tensor(
    [[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16], [0, 2.2, 1, 20, 14],
     [1, 9, 9, 3, 3], [7, 1, 1, 3, 3], [0, NAN, 1, 3, 3]]
)  # fmt: skip
AXES = {"x": [0, 2, 3], "rois": [0], "offset": [0], "mask": [0]}


class _RoIPool(nn.Module):
    def forward(self, x, rois, offset, mask):
        return deform_roi_pool(x, rois, offset, mask, (3, 4), 0.5, 2, 0.2)

    def operands(self, images, size, rois):
        offset = torch.randn(rois, 2, 3, 4)
        if rois:
            offset[0, 0, 1, 1], offset[0, 1, 0, 0] = INF, NAN
        mask = torch.rand(rois, 1, 3, 4)
        return torch.randn(images, 12, *size), ROIS[:rois], offset, mask


class _PSRoIPool(nn.Module):
    def forward(self, x, rois, offset, mask):
        return deform_psroi_pool(x, rois, offset, mask, 3, 0.5, 2, 2, 3, 0.2)

    def operands(self, images, size, rois):
        operands = torch.randn(rois, 6, 2, 2), torch.rand(rois, 1, 3, 3)
        return torch.randn(images, 12, *size), ROIS[:rois], *operands


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "opset"), [EXPORTERS[0], EXPORTERS[2]])
@pytest.mark.parametrize("pool", [_RoIPool, _PSRoIPool])
def test_pools_accept_any_number_of_boxes(tmp_path, monkeypatch, pool, exporter, opset):
    torch.manual_seed(0)
    model, path = pool().eval(), tmp_path / "pool.onnx"
    export_onnx(model, model.operands(2, (9, 11), 4), AXES, path, exporter, opset)
    operators(path, opset)
    run = runner(path)
    monkeypatch.setattr(checks, "check_batch_index", lambda *_: None)  # as on other devices
    for images, size, rois in ((2, (9, 11), 6), (3, (8, 7), 2), (2, (5, 6), 0)):
        operands = model.operands(images, size, rois)
        wanted = model(*operands)
        torch.testing.assert_close(run(*operands)[0], wanted, rtol=1e-4, atol=1e-5, equal_nan=True)
        assert rois < 6 or wanted[4:].isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("pool", [_RoIPool, _PSRoIPool])
def test_an_export_to_opset_18_writes_nothing(tmp_path, pool):
    model, path = pool().eval(), tmp_path / "pool.onnx"
    with pytest.raises(Exception, match="opset_version must be 19 or later"):
        export_onnx(model, model.operands(2, (9, 11), 4), AXES, path, "dynamo", 18)
    assert not path.exists()


class _Branches(nn.Module):
    """The modules, which pool without offsets first."""

    def __init__(self, roi, psroi):
        super().__init__()
        torch.manual_seed(0)
        self.one = roi(3, 4, 0.5, 2, hidden_channels=8)
        self.other = psroi(3, 4, 0.5, hidden_channels=8)
        for pack in (self.one, self.other):
            nn.init.normal_(pack.offset_fc[-1].weight, std=50.0)

    def forward(self, x, rois):
        return self.one(x, rois) + self.other(x, rois)


@pytest.mark.slow
@pytest.mark.parametrize(
    "packs",
    [
        (DeformRoIPoolPack, DeformPSRoIPoolPack),
        (ModulatedDeformRoIPoolPack, ModulatedDeformPSRoIPoolPack),
    ],
    ids=["plain", "modulated"],
)
def test_pooling_modules_export(tmp_path, packs):
    model, path = _Branches(*packs).eval(), tmp_path / "modules.onnx"
    axes = {"x": [0, 2, 3], "rois": [0]}
    export_onnx(model, (torch.randn(2, 4, 9, 11), ROIS[:4]), axes, path, "trace", 19)
    operands = torch.randn(2, 4, 8, 7), ROIS[:3]
    torch.testing.assert_close(runner(path)(*operands)[0], model(*operands), rtol=1e-4, atol=1e-5)


class _Adaptive(nn.Module):
    def forward(self, x, rois):
        return deform_roi_pool(x, rois)


def test_adaptive_sampling_is_an_error(tmp_path):
    with pytest.raises(Exception, match="ONNX export needs a fixed sampling_ratio"):
        export_onnx(
            _Adaptive(), (torch.randn(2, 4, 9, 11), ROIS[:2]), {"x": [], "rois": [0]},
            tmp_path / "adaptive.onnx", "trace", 19,
        )  # fmt: skip


class _Pyramid(nn.Module):
    def __init__(self, *options):
        super().__init__()
        self.options = options

    def forward(self, x, y, rois, levels=None):
        return multiscale_roi_align([x, y], rois, [0.5, 0.25], (3, 2), *self.options, levels)


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "opset"), [EXPORTERS[0], EXPORTERS[2]])
@pytest.mark.parametrize(("samples", "aligned", "given"), [(2, True, True), (0, False, False)])
def test_roi_align_of_several_maps(tmp_path, exporter, opset, samples, aligned, given):
    """Padding, a map without RoIs, and no RoIs at all, too."""
    torch.manual_seed(0)
    model, path = _Pyramid(samples, aligned), tmp_path / "pyramid.onnx"

    def operands(*levels):
        rois = ROIS[: len(levels)] * torch.tensor([1, 30, 20, 10, 30.0])
        maps = torch.randn(2, 4, 9, 11), torch.randn(2, 4, 5, 6)
        return (*maps, rois, torch.tensor(levels).long()) if given else (*maps, rois)

    example = operands(0, 1, -1)
    axes = dict(zip(("x", "y", "rois", "levels"), ([2, 3], [2, 3], [0], [0]), strict=True))
    axes = {name: axes[name] for name in list(axes)[: len(example)]}
    export_onnx(model, example, axes, path, exporter, opset)
    assert operators(path, opset).count("RoiAlign") == 2
    run = runner(path)
    for levels in ((0, 1, -1), (1, 1), ()):
        inputs = operands(*levels)
        torch.testing.assert_close(run(*inputs)[0], model(*inputs), rtol=1e-4, atol=1e-5)


def _detector():
    pool = PoolConfig(kind="mdpool", hidden_channels=8)
    config = ModelConfig(
        num_classes=3,
        min_size=[64],
        max_size=80,
        backbone=BackboneConfig(
            arch="small", norm="group", channels=16, convs=("plain", "dcnv2", "dcnv2", "dcnv2")
        ),
        rpn=RPNConfig(anchor_sizes=[[16, 32]], pre_nms_test=50, post_nms_test=20),
        box=BoxHeadConfig(pool=pool, hidden_channels=16, score_threshold=0.0),
        mask=MaskHeadConfig(pool=pool, convs=(16,), deconv_channels=16),
    )
    torch.manual_seed(0)
    model = build_model(config).eval()
    for name, parameter in model.named_parameters():
        if "conv_offset" in name or "offset_fc.4" in name:
            nn.init.normal_(parameter, std=0.05)
    return model


class _OneImage(nn.Module):
    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, image):
        return tuple(self.detector([image])[0].values())


@pytest.mark.slow
def test_a_mask_rcnn_returns_the_same_boxes(tmp_path):
    model, path = _OneImage(_detector()).eval(), tmp_path / "mask_rcnn.onnx"
    export_onnx(model, (torch.rand(3, 64, 48),), {"image": [1, 2]}, path, "trace", 19)
    assert "DeformConv" in operators(path, 19)
    run, counts = runner(path), set()
    for size in ((3, 64, 48), (3, 72, 50), (3, 48, 70)):
        image = torch.rand(size)
        wanted = model(image)
        counts.add(len(wanted[0]))
        for got, value in zip(run(image), wanted, strict=True):
            torch.testing.assert_close(got, value, rtol=1e-3, atol=1e-3)
    assert len(counts) > 1  # how many objects there are is not that of the example
