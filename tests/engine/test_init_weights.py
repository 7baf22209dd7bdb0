# SPDX-License-Identifier: BSD-3-Clause
"""Starting from other weights: old checkpoints by their names, runs of ours, what is refused."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import toy_config, weights_of

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import load_config
from dcnv2.engine.runtime.checkpoint import find_checkpoint
from dcnv2.engine.training.init_weights import load_init_weights, read_weights, rename
from dcnv2.engine.training.trainer import Trainer, train
from dcnv2.models import build_model


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("module.backbone.body.stem.conv1.weight", "backbone.body.conv1.weight"),
        ("backbone.body.stem.bn1.running_var", "backbone.body.bn1.running_var"),
        ("backbone.body.layer3.5.conv2.conv.weight", "backbone.body.layer3.5.conv2.weight"),
        (
            "backbone.body.layer3.5.conv2.offset.bias",
            "backbone.body.layer3.5.conv2.conv_offset.bias",
        ),
        ("backbone.fpn.fpn_inner2.weight", "backbone.fpn.inner_blocks.1.0.weight"),
        ("backbone.fpn.fpn_layer4.bias", "backbone.fpn.layer_blocks.3.0.bias"),
        ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
        ("rpn.head.cls_logits.bias", "rpn.head.cls_logits.bias"),
        ("roi_heads.box.feature_extractor.fc6.weight", "roi_heads.box_head.fc6.weight"),
        (
            "roi_heads.box.feature_extractor.head.layer4.0.conv1.weight",
            "roi_heads.box_head.layer4.0.conv1.weight",
        ),
        ("roi_heads.box.predictor.cls_score.bias", "roi_heads.box_predictor.cls_score.bias"),
        ("roi_heads.mask.feature_extractor.mask_fcn1.bias", "roi_heads.mask_head.0.0.bias"),
        (
            "roi_heads.mask.predictor.mask_fcn_logits.bias",
            "roi_heads.mask_predictor.mask_fcn_logits.bias",
        ),
    ],
)
def test_names_of_maskrcnn_benchmark(old, new):
    assert rename(old) == new
    assert rename(new) == new


def _old_name(name):
    """The other way, written on its own."""
    name = re.sub(r"^backbone\.body\.(conv1|bn1)", r"backbone.body.stem.\1", name)
    name = re.sub(r"(layer[234]\.\d+\.conv2)\.weight", r"\1.conv.weight", name)
    name = name.replace("conv2.conv_offset", "conv2.offset")
    for kind in ("inner", "layer"):
        pattern = rf"fpn\.{kind}_blocks\.(\d)\.0"
        name = re.sub(pattern, lambda m, k=kind: f"fpn.fpn_{k}{int(m[1]) + 1}", name)
    name = name.replace("head.conv.0.0", "head.conv")
    name = name.replace("box_head", "box.feature_extractor").replace("box_pred", "box.pred")
    name = re.sub(
        r"mask_head\.(\d)\.0", lambda m: f"mask.feature_extractor.mask_fcn{int(m[1]) + 1}", name
    )
    return "module." + name.replace("mask_pred", "mask.pred").replace("bbox.pred", "bbox_pred")


def test_an_old_detector_comes_over_whole(tmp_path, shallow):
    """A deformable FPN Mask R-CNN, with the optimiser beside it and first kernel in BGR."""
    config = load_config("mask_rcnn/r50_fpn_mdconv_c3-c5").model
    config.backbone.channels = config.box.hidden_channels = config.mask.deconv_channels = 8
    config.mask.convs = (8, 8)
    source, model = (build_model(config, pretrained=False) for _ in range(2))
    for index, parameter in enumerate(source.parameters()):
        torch.nn.init.constant_(parameter, index + 1.0)
    stem = source.backbone.body.conv1.weight
    torch.nn.init.normal_(stem)
    state = {_old_name(key): value for key, value in source.state_dict().items()}
    state["module.backbone.body.stem.conv1.weight"] = stem.detach().flip(1)
    state["module.rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    torch.save({"model": state, "iteration": 7, "optimizer": {"lr": 0.1}}, tmp_path / "old.pth")
    assert load_init_weights(tmp_path / "old.pth", model) == ([], [])
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_what_does_not_fit_is_left_and_named(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    torch.save({"0.weight": torch.ones(3, 2), "1.weight": torch.ones(1, 4)}, tmp_path / "part.pth")
    assert load_init_weights(tmp_path / "part.pth", net) == (
        ["0.bias", "1.bias", "1.weight"],
        ["1.weight"],
    )
    assert (net[0].weight == 1).all()
    with pytest.raises(ValueError, match="none of its 2 tensors fits"):
        load_init_weights(tmp_path / "part.pth", torch.nn.Linear(7, 7))


def test_a_model_of_the_package_is_a_checkpoint_by_name():
    config = load_config("shapes")
    newest = find_checkpoint(config, None).resolve()
    assert find_checkpoint(config, "shapes").resolve() == newest
    assert find_checkpoint(config, config.folder).resolve() == newest
    weights = load_file(newest / "model.safetensors")
    assert read_weights(Path("shapes")).keys() == weights.keys()
    assert read_weights(newest).keys() == weights.keys()


class Trap:
    def __reduce__(self):
        return print, ("a checkpoint ran code",)


def test_files_that_could_run_code_are_refused(tmp_path, capsys):
    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap()))
    torch.save({"model": Trap()}, tmp_path / "trap2.pth")
    for name in ("trap.pth", "trap2.pth"):
        with pytest.raises(ValueError, match=r"trap2?\.pth (holds more than tensors|is damaged)"):
            read_weights(tmp_path / name)
    assert "ran code" not in capsys.readouterr().out
    for name in ("nowhere.pth", "."):
        with pytest.raises(FileNotFoundError):
            read_weights(tmp_path / name)


@pytest.mark.slow
def test_a_run_starts_from_another(tmp_path):
    root = write_shapes(tmp_path / "shapes", 4, 1, 64)
    first = toy_config(root, tmp_path, "first", train={"steps": 1})
    train(first)
    second = Trainer(toy_config(root, tmp_path, "second", train={"init": str(first.folder)}))
    for name, value in weights_of(first).items():
        assert torch.equal(second.model.state_dict()[name], value), name
