# SPDX-License-Identifier: BSD-3-Clause
"""Weights of torchvision's models load by name and give torchvision's results."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from toys import toy_images

from dcnv2.models import (
    BackboneConfig,
    BoxHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolConfig,
    RPNConfig,
    build_model,
)
from dcnv2.models.backbone import load_imagenet_weights
from dcnv2.models.resnet import ResNet


@pytest.fixture(scope="module")
def imagenet():
    """A torchvision ResNet-50 in evaluation mode with random weights and statistics."""
    torch.manual_seed(0)
    net = torchvision.models.resnet50(weights=None)
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return net.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conv", "suffix"), [("plain", ".safetensors"), ("dcnv1", ".pth"), ("dcnv2", ".pth")]
)
def test_resnet50_weights_load(tmp_path, imagenet, conv, suffix):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(imagenet.state_dict(), path)
    config = BackboneConfig(
        convs=("plain", conv, conv, conv), topology="fpn", mask_scale=2.0, norm="frozen"
    )
    body = ResNet(config)
    load_imagenet_weights([body], "resnet50", str(path))
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        wanted = imagenet.maxpool(imagenet.relu(imagenet.bn1(imagenet.conv1(x))))
        for index in range(1, 5):
            wanted = getattr(imagenet, f"layer{index}")(wanted)
        got = body(x)["c5"]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_incomplete_weights_are_refused(tmp_path, imagenet):
    state = imagenet.state_dict()
    del state["layer3.2.conv2.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"layer3\.2\.conv2\.weight"):
        load_imagenet_weights([ResNet(BackboneConfig())], "resnet50", str(tmp_path / "w.pth"))


@pytest.mark.slow
def test_batch_norm_weights_are_refused_by_group_norm(tmp_path, imagenet):
    torch.save(imagenet.state_dict(), tmp_path / "w.pth")
    body = ResNet(BackboneConfig(norm="group"))
    with pytest.raises(ValueError, match="trained with BatchNorm"):
        load_imagenet_weights([body], "resnet50", str(tmp_path / "w.pth"))


def test_unknown_weights_name_the_known_ones():
    with pytest.raises(FileNotFoundError, match="IMAGENET1K_V1"):
        load_imagenet_weights([ResNet(BackboneConfig())], "resnet50", "IMAGENET1K_V9")


@pytest.mark.slow
def test_fpn_form_is_torchvisions_mask_rcnn():
    torch.manual_seed(0)
    sizes = {"min_size": 64, "max_size": 96}
    wanted = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        box_score_thresh=0.0,
        box_detections_per_img=20,
        **sizes,
    )
    pool = PoolConfig(aligned=False)
    model = build_model(
        ModelConfig(
            num_classes=3,
            min_size=[64],
            max_size=96,
            backbone=BackboneConfig(topology="fpn"),
            rpn=RPNConfig(
                anchor_sizes=[[32], [64], [128], [256], [512]],
                pre_nms_test=1000,
                post_nms_test=1000,
            ),
            box=BoxHeadConfig(pool=pool, score_threshold=0.0, detections_per_image=20),
            mask=MaskHeadConfig(pool=pool),
        )
    )
    state = {k: v for k, v in wanted.state_dict().items() if "num_batches" not in k}
    model.load_state_dict(state)
    images = toy_images()
    with torch.no_grad():
        pairs = zip(wanted.eval()(images), model.eval()(images), strict=True)
    for theirs, ours in pairs:
        assert len(theirs["boxes"]) > 0
        assert theirs["labels"].tolist() == ours["labels"].tolist()
        for key, value in theirs.items():  # RoIAlign's sums are rounded in another order
            torch.testing.assert_close(ours[key], value, rtol=5e-5, atol=5e-5)


def test_frozen_parts_get_no_gradient():
    body = ResNet(BackboneConfig(norm="batch", freeze_at=2))
    frozen = {name for name, p in body.named_parameters() if not p.requires_grad}
    wanted = {name for name, _ in body.named_parameters() if name.startswith(("conv1", "layer1"))}
    assert frozen == wanted
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in body.layer1.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in body.layer2.modules())


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_c4_form_loads_conv5_into_its_heads(tmp_path, imagenet, shared):
    torch.save(imagenet.state_dict(), tmp_path / "w.pth")
    config = ModelConfig(
        num_classes=3,
        backbone=BackboneConfig(topology="c4", weights=str(tmp_path / "w.pth")),
        box=BoxHeadConfig(pool_size=14),
        mask=MaskHeadConfig(shared=shared),
    )
    heads = build_model(config).roi_heads
    conv5 = [heads.box_head] if shared else [heads.box_head, heads.mask_head]
    for head in conv5:
        for name, value in imagenet.layer4.state_dict().items():
            if "num_batches" not in name:
                assert torch.equal(head.layer4.state_dict()[name], value), name


def test_a_net_without_published_weights_asks_for_a_file():
    with pytest.raises(FileNotFoundError, match=r"DEFAULT is no file, and .* weights of small"):
        load_imagenet_weights([], "small", "DEFAULT")
