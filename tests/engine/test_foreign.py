# SPDX-License-Identifier: BSD-3-Clause
"""Detectors of detectron2 and mmdetection detect here what their definitions say."""

import json
import pickle

import pytest
import torch
import yaml
from peer_detector import Peer

from dcnv2 import cli
from dcnv2.convert.detectors import layout
from dcnv2.engine.config import load_config
from dcnv2.engine.inference import Predictor
from dcnv2.engine.runtime.foreign import (
    class_names,
    load_or_convert,
    open_detector,
    open_foreign,
    run_config,
)
from dcnv2.engine.runtime.foreign_init import differences
from dcnv2.engine.training.init_weights import load_init_weights
from dcnv2.engine.visualization.draw import write_picture
from dcnv2.models import build_model, resnet

SIZE = (96, 131)
SHALLOW = (1, 1, 1, 1)


@pytest.fixture
def shallow(monkeypatch):
    """One block a stage, for speed."""
    monkeypatch.setattr(resnet, "ARCHS", {n: (SHALLOW, *a[1:]) for n, a in resnet.ARCHS.items()})
    short = {(SHALLOW, *shape[1:]): n for shape, n in layout._ARCHS.items() if n != "resnet101"}
    monkeypatch.setattr(layout, "_ARCHS", short)


def _image():
    rough = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(2))
    image = torch.nn.functional.interpolate(rough, SIZE, mode="bicubic").clamp(0, 1)[0]
    return (255 * image).to(torch.uint8)


def _write(peer, folder):
    """The file of weights, with the configuration where the project puts it."""
    rpn = {"pre": 60 if peer.c4 else 20, "post": 30}
    if peer.detectron2:
        config = {
            "MODEL": {
                "RPN": {"PRE_NMS_TOPK_TEST": rpn["pre"], "POST_NMS_TOPK_TEST": rpn["post"]},
                "RESNETS": {"STRIDE_IN_1X1": peer.caffe},
                "PIXEL_MEAN": [103.53, 116.28, 123.675],
                "ANCHOR_GENERATOR": {"OFFSET": 0.0},
            },
            "INPUT": {"FORMAT": "BGR", "MIN_SIZE_TEST": SIZE[0], "MAX_SIZE_TEST": SIZE[1]},
        }
        if not peer.caffe:
            config["MODEL"] |= {"PIXEL_MEAN": [123.675, 116.28, 103.53]}
            config["MODEL"] |= {"PIXEL_STD": [58.395, 57.12, 57.375]}
            config["INPUT"]["FORMAT"] = "RGB"
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        arrays = {name: value.numpy() for name, value in peer.state.items()}
        path = folder / "model_final.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test"}, protocol=2))
        return path
    pixels = "mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False"
    if not peer.caffe:
        pixels = "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True"
    text = f"""
stds = [0.1, 0.1, 0.2, 0.2]
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict({pixels}, pad_size_divisor=32),
    backbone=dict(type='ResNet', style={"caffe" if peer.caffe else "pytorch"!r}),
    roi_head=dict(bbox_head=dict(bbox_coder=dict(target_stds=stds))),
    test_cfg=dict(rpn=dict(nms_pre={rpn["pre"]}, max_per_img={rpn["post"]})))
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale={SIZE[::-1]}, keep_ratio=True)]
hooks = [print("not run")]
"""
    names = tuple(f"thing {number}" for number in range(peer.classes))
    meta = {"cfg": text, "dataset_meta": {"classes": names}}
    torch.save({"meta": meta, "state_dict": peer.state}, folder / "epoch_12.pth")
    return folder / "epoch_12.pth"


def _compare(peer, folder):
    image = _image()
    boxes, scores, labels, masks = peer.detect(image)
    assert len(boxes) > 10
    assert labels.unique().numel() > 1
    found = Predictor(_write(peer, folder), threshold=0.05, device="cpu")(image)[0]
    assert found["labels"].tolist() == (labels + 1).tolist()
    torch.testing.assert_close(found["scores"], scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found["boxes"], boxes, atol=2e-2, rtol=0)
    assert ("masks" in found) == peer.masks
    if peer.masks:
        assert 0.05 < masks.float().mean() < 0.95
        assert (found["masks"] != masks).float().mean() < 1e-4


@pytest.mark.parametrize("detectron2", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_modulated_pyramid_detects_the_same(tmp_path, shallow, detectron2):
    _compare(Peer(detectron2, planes=3, deform_groups=2), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("detectron2", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"c4": True},
        {"planes": 2, "caffe": False, "seed": 6},
        {"agnostic": True},
        {"masks": False, "groups": 64, "planes": 3, "caffe": False},
        {"blocks": (3, 4, 6, 3), "planes": 3, "seed": 6},
    ],
    ids=str,
)
def test_other_detectors_detect_the_same(tmp_path, request, detectron2, changes):
    if "blocks" not in changes:
        request.getfixturevalue("shallow")
    _compare(Peer(detectron2, **changes), tmp_path)


def _saved(tmp_path, **changes):
    """A detector in detectron2's layout, and its file."""
    peer = Peer(True, **changes)
    peer.detect(_image())
    return peer, _write(peer, tmp_path)


@pytest.mark.slow
def test_a_converted_run_is_what_the_file_is(tmp_path, shallow, capsys):
    peer, path = _saved(tmp_path)
    run = tmp_path / "run"
    assert cli.main(["convert", str(path), str(run)]) == 0
    screen = capsys.readouterr().out
    log = (run / "log.txt").read_text()
    assert log in screen
    for name in peer.state:
        assert f" {name} " in log
    for text in ("B, G, R", "the last class", "model.backbone.stride_in_1x1: true", "rows ordered"):
        assert (text in log) == (text != "rows ordered"), text
    assert "model.geometry: detectron2" in log
    assert log.count("| renamed ") + log.count("| loaded ") == len(peer.state)
    image = _image()
    first, second = (Predictor(place, threshold=0.05)(image)[0] for place in (run, path))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert load_config(run).model.backbone.weights is None
    assert cli.main(["convert", str(path), str(run)]) == 1
    assert "exists: choose another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_commands_take_the_file_as_it_is(tmp_path, shallow, capsys, monkeypatch, caplog):
    _, path = _saved(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "a.png", _image())
    words = ["predict", str(path), "a.png", "--device=cpu"]
    assert cli.main([*words, "--threshold=0.05"]) == 0
    found = json.loads((tmp_path / "predictions/detections.json").read_text())["annotations"]
    wanted = Predictor(path, threshold=0.05, device="cpu")("a.png")[0]
    assert [entry["score"] for entry in found] == pytest.approx(wanted["scores"].tolist())
    assert not caplog.records
    assert cli.main([*words, "--checkpoint=best"]) == 1
    assert "is a file of weights, so it has no others" in capsys.readouterr().err
    assert cli.main([*words, "--model.backbone.stride_in_1x1=false"]) == 0
    assert "--model.backbone.stride_in_1x1=true follows them" in caplog.text
    config, checkpoint = load_or_convert(path, ["--model.image_std=[0.5,0.5,0.5]"])
    scaled = Predictor(config, checkpoint, threshold=0.05, device="cpu")("a.png")[0]
    torch.testing.assert_close(scaled["scores"], wanted["scores"], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_names_decide_between_a_run_and_a_file(tmp_path, shallow, capsys):
    _, path = _saved(tmp_path)
    assert cli.main(["convert", str(path), str(tmp_path / "r50.v2")]) == 0
    assert (tmp_path / "r50.v2/config.yaml").is_file()
    capsys.readouterr()
    assert cli.main(["convert", str(path), str(tmp_path / "new.pth")]) == 1
    error = capsys.readouterr().err
    assert f"for a run give a folder: `dcnv2 convert {path} {tmp_path / 'new'}`" in error
    assert not (tmp_path / "new.pth").exists()


@pytest.mark.slow
def test_a_failed_conversion_leaves_nothing(tmp_path, shallow, capsys):
    peer, path = _saved(tmp_path)
    peer.state["roi_heads.box_head.fc1.bias"] = torch.full((24,), float("nan"))
    for state, message in (
        (peer.state, "fc6.bias has NaN or infinite values"),
        ({n: v for n, v in peer.state.items() if "fc2.b" not in n}, "lacks roi_heads.box_head.fc7"),
        (peer.state | {"roi_heads.extra.weight": torch.ones(1)}, "has roi_heads.extra.weight"),
        (peer.state | {"roi_heads.keypoint_head.a": torch.ones(1)}, "a Keypoint R-CNN"),
        ({n: v[:-1] if "cls_score" in n else v for n, v in peer.state.items()}, "rows: wanted"),
    ):
        if message[:3] != "fc6":
            state["roi_heads.box_head.fc1.bias"] = torch.zeros(24)
        torch.save({"model": state}, path.with_suffix(".pth"))
        assert cli.main(["convert", str(path.with_suffix(".pth")), str(tmp_path / "run")]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert {p.name for p in tmp_path.iterdir()} == {
            *("config.yaml", "model_final.pkl", "model_final.pth")
        }


@pytest.mark.slow
def test_the_zoo_of_detectron2_has_its_conventions_by_architecture(tmp_path, shallow):
    for groups, std, first in ((1, 1.0, True), (64, 57.375, False)):
        _, path = _saved(tmp_path, groups=groups, caffe=groups == 1)
        (tmp_path / "config.yaml").unlink()
        model = run_config(open_detector(path), tmp_path / "run").model
        assert model.backbone.stride_in_1x1 == first
        assert model.image_std[2] == pytest.approx(std / 255)
        assert model.image_mean == pytest.approx([0.485, 0.456, 0.406])
        assert model.min_size == [800]
        assert model.box.pool.sampling_ratio == 0


@pytest.mark.slow
def test_what_the_file_itself_says_comes_before_the_zoo(tmp_path, shallow):
    """Old files of detectron2 hold the mean of pixels and the anchors."""
    peer, _ = _saved(tmp_path)
    (tmp_path / "config.yaml").unlink()
    cells = "proposal_generator.anchor_generator.cell_anchors"
    peer.state["pixel_mean"] = torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)
    peer.state["pixel_std"] = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    for level, size in enumerate((24, 48, 96, 192, 384)):
        sides = torch.tensor([[size / r**0.5, size * r**0.5] for r in (0.5, 1.0, 2.0)])
        peer.state[f"{cells}.{level}"] = torch.cat([-sides, sides], dim=1) / 2
    torch.save({"model": peer.state}, tmp_path / "old.pth")
    model = run_config(open_detector(tmp_path / "old.pth"), tmp_path / "run").model
    assert model.image_mean == pytest.approx([30 / 255, 20 / 255, 10 / 255])
    assert model.image_std == pytest.approx([4 / 255, 2 / 255, 1 / 255])
    assert model.rpn.anchor_sizes == [[24], [48], [96], [192], [384]]
    assert model.rpn.aspect_ratios == [0.5, 1.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MODEL": {"ROI_HEADS": {"NAME": "CascadeROIHeads"}}}, "MODEL.ROI_HEADS.NAME is Cascade"),
        ({"MODEL": {"FPN": {"FUSE_TYPE": "avg"}}}, "here it has to be sum"),
        ({"MODEL": {}, "_BASE_": "x.yaml"}, "put the complete file"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(tmp_path, shallow, change, message):
    _, path = _saved(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(change))
    with pytest.raises(ValueError, match=message):
        open_detector(path)


@pytest.mark.slow
def test_scaled_box_deltas_are_folded_into_the_weights(tmp_path, shallow):
    """Weights of 20, 20, 10, 10 halve what the layer predicts."""
    _, path = _saved(tmp_path)
    plain = open_detector(path).tensors
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["MODEL"]["ROI_BOX_HEAD"] = {"BBOX_REG_WEIGHTS": [20.0, 20.0, 10.0, 10.0]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    scaled = open_detector(path).tensors
    for part in ("weight", "bias"):
        name = f"roi_heads.box_predictor.bbox_pred.{part}"
        torch.testing.assert_close(2 * scaled.pop(name), plain.pop(name))
    assert all(torch.equal(value, plain[name]) for name, value in scaled.items())


@pytest.mark.slow
def test_classes_are_named_by_the_file_or_the_set_with_as_many(tmp_path, shallow):
    _, path = _saved(tmp_path)
    assert Predictor(path).names == ["class_1", "class_2", "class_3"]
    detector = open_detector(path)
    assert class_names(detector, 80)[79] == "toothbrush"
    assert class_names(detector, 20)[14] == "person"
    detector.classes = ["a", "b"]
    assert class_names(detector, 2) == ["a", "b"]


@pytest.mark.slow
def test_training_starts_from_it_whatever_the_scale_of_pixels(tmp_path, shallow, caplog):
    """With torchvision's scale of pixels the first kernel is scaled; other options are named."""
    caplog.set_level("INFO", logger="dcnv2")
    peer, path = _saved(tmp_path, planes=3)
    words = ["--model.num_classes=5", "--model.backbone.channels=16", "--model.mask.convs=[16]"]
    words += ["--model.box.hidden_channels=24", "--model.mask.deconv_channels=8"]
    config = load_config("mask_rcnn/r50_fpn_mdconv_c3-c5", words).model
    model = build_model(config, pretrained=False)
    missing, unused = load_init_weights(path, model, config)
    ends = ("cls_score", "bbox_pred", "mask_fcn_logits")
    others = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert {name.split(".")[-2] for name in others} == set(ends)
    assert sorted(others) == unused
    pixels = _image()[None].float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.image_mean, config.image_std))
    ours = model.backbone.body.conv1((pixels / 255 - mean) / std)
    caffe = pixels.flip(1) - torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    stem = peer.state["backbone.bottom_up.stem.conv1.weight"]
    theirs = torch.nn.functional.conv2d(caffe, stem, None, 2, 3)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    warned = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert any("--model.backbone.stride_in_1x1=true follows them" in text for text in warned)
    assert any("--model.geometry=detectron2 follows them" in text for text in warned)
    assert not any("image" in text or "mask_scale" in text for text in warned)
    assert "left out: does not fit" in caplog.text
    options = ["--model.backbone.mask_scale=2.0"]
    scaled = load_config("mask_rcnn/r50_fpn_mdconv_c3-c5", options).model
    assert any("mask_scale 1.0" in text for text in differences(open_foreign(path), scaled))


def _caffe2_name(name):
    """Names of an ImageNet body that Caffe2 trained, written on their own."""
    name = name.removeprefix("backbone.bottom_up.").replace(".norm.weight", "_bn_s")
    name = name.replace(".norm.bias", "_bn_b").replace(".weight", "_w")
    name = name.replace("stem.conv1_bn", "res_conv1_bn").replace("stem.", "")
    for part, old in (("shortcut", "1"), ("conv1", "2a"), ("conv2", "2b"), ("conv3", "2c")):
        if name.startswith("res") and not name.startswith("res_"):
            name = name.replace(part, f"branch{old}")
    return name.replace(".", "_")


@pytest.mark.slow
def test_training_starts_from_an_imagenet_body_with_caffe2_names(tmp_path, shallow):
    """Its norms have only a scale and a shift; C4 has conv5 in the heads."""
    peer, _ = _saved(tmp_path)
    (tmp_path / "config.yaml").unlink()
    body = {n: v for n, v in peer.state.items() if "bottom_up" in n and "running" not in n}
    arrays = {_caffe2_name(name): value.numpy() for name, value in body.items()}
    arrays |= {"fc1000_w": arrays["conv1_w"][0], "conv1_b": arrays["res_conv1_bn_b"]}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=2))
    for name, conv5 in (
        ("mask_rcnn/r50_fpn", "backbone.body.layer4"),
        ("mask_rcnn/r50_c4", "roi_heads.box_head.layer4"),
    ):
        config = load_config(name, ["--model.num_classes=2"]).model
        model = build_model(config, pretrained=False)
        _, unused = load_init_weights(path, model, config)
        assert unused == []
        state = model.state_dict()
        old = body["backbone.bottom_up.res5.0.conv2.weight"]
        assert torch.equal(state[f"{conv5}.0.conv2.weight"], old)
        norm = f"{conv5}.0.bn2"
        scale = state[f"{norm}.weight"] * (state[f"{norm}.running_var"] + 1e-5).rsqrt()
        torch.testing.assert_close(scale, body["backbone.bottom_up.res5.0.conv2.norm.weight"])
        assert not state[f"{norm}.running_mean"].any()
    config.backbone.weights = str(path)
    with pytest.raises(ValueError, match=r"an ImageNet ResNet with Caffe2's names, .*--train.init"):
        build_model(config)
