# SPDX-License-Identifier: BSD-3-Clause
"""Files of other projects: read without running code, named by what they look like."""

import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch

from dcnv2 import cli
from dcnv2.convert.array_pickles import load_arrays
from dcnv2.convert.detectors.origins import MMDETECTION, MMDETECTION1, origin_of
from dcnv2.convert.detectors.renaming import CAFFE2, DETECTRON2, renamed
from dcnv2.convert.detectors.renaming import MMDETECTION as OF_MMDETECTION
from dcnv2.convert.detectors.settings import Settings, literal_settings
from dcnv2.convert.weight_files import load_checkpoint, load_weights

ARRAYS = {
    "swapped": np.arange(6, dtype=">f4").reshape(2, 3),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "none": np.zeros((0, 4), "f2"),
    "one": np.array(7, "i8"),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_arrays_become_tensors(tmp_path, protocol):
    content = OrderedDict(model=ARRAYS, scalar=np.float32(3), words=["a", ("b", None)])
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = load_weights(path)
    assert read.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert read[name].numpy().tolist() == value.tolist()
    assert load_checkpoint(path)["words"] == ["a", ("b", None)]


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saved_is_read_under_the_name_too(tmp_path, legacy):
    path = tmp_path / "model.pkl"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=not legacy)
    assert load_weights(path)["w"].tolist() == [1, 1]


class _Call:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "call",
    [
        _Call(print, ("code ran",)),
        _Call(eval, ("print('code ran')",)),
        _Call(getattr, (dict, "get")),
        _Call(np.load, ("x.npy",)),
        _Call(np.fromfile, ("x",)),
        _Call(__import__("_codecs").encode, ("x", "rot13")),
        _Call(torch.load, ("x",)),
        _Call(np.random.default_rng, ()),
    ],
    ids=lambda call: call.reduced[0].__name__,
)
def test_a_pickle_of_anything_else_is_refused(tmp_path, capsys, call):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": {"w": np.ones(1), "x": call}}, protocol=2))
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        load_arrays(path)
    with pytest.raises(ValueError, match="holds more than tensors and is not read"):
        load_weights(path)
    assert cli.main(["convert", str(path), str(tmp_path / "run")]) == 1
    shown = capsys.readouterr()
    assert "ran" not in shown.out
    assert shown.err.count("\n") == 1


def test_histories_of_mmengine_are_left_out(tmp_path, monkeypatch):
    """mmengine's checkpoints hold objects of its own, with arrays and methods in them."""
    history = type("HistoryBuffer", (), {"__module__": "mmengine.logging.history_buffer"})
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = history
    parts = module.__name__.split(".")
    for count in range(1, 3):
        package = ".".join(parts[:count])
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = history()
    entry.values, entry.method = np.arange(3.0), {}.get
    hub = {"loss": entry, "number": np.float64(2)}
    path = tmp_path / "epoch_1.pth"
    torch.save({"state_dict": {"w": torch.ones(2)}, "message_hub": hub, "meta": {"a": 1}}, path)
    read = load_checkpoint(path)
    assert read["meta"] == {"a": 1}
    assert load_weights(path)["w"].tolist() == [1, 1]
    assert not isinstance(read["message_hub"]["loss"], history)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("roi_head.bbox_head.0.fc_cls.weight", "a Cascade R-CNN"),
        ("roi_heads.box_predictor.1.cls_score.weight", "a Cascade R-CNN"),
        ("bbox_head.retina_cls.weight", "a RetinaNet"),
        ("head.cls_subnet.0.weight", "a RetinaNet"),
        ("roi_head.mask_iou_head.fcs.0.weight", "a Mask Scoring R-CNN"),
        ("roi_heads.keypoint_head.conv_fcn1.weight", "a Keypoint R-CNN"),
        ("transformer.encoder.layers.0.norm1.bias", "a DETR"),
        ("model.0.conv.weight", "a YOLO of Ultralytics"),
    ],
)
def test_other_heads_are_named(tmp_path, capsys, name, text):
    torch.save({"state_dict": {name: torch.ones(1)}}, tmp_path / "a.pth")
    assert cli.main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "run")]) == 1
    assert f"it looks like {text}: dcnv2 has no such head" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer1.0.conv1.weight", "an ImageNet ResNet of torchvision: model.backbone.weights"),
        ("roi_heads.box.predictor.cls_score.bias", "maskrcnn-benchmark: --train.init takes it"),
        ("roi_heads.box_predictor.cls_score.bias", "torchvision's names: --train.init takes it"),
        ("anything.weight", "no detector of detectron2 or mmdetection"),
    ],
)
def test_a_file_for_another_option_is_named(tmp_path, capsys, name, message):
    torch.save({name: torch.ones(1)}, tmp_path / "a.pth")
    assert cli.main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"<html>", "a web page"),
        ("a.pkl", b"version https://git-lfs.github.com/spec/v1", "`git lfs pull` fetches"),
        ("a.pth", b'{"images": []}', "`dcnv2 data check` takes their folder"),
        ("a.png", b"\x89PNG\r\n", "`dcnv2 predict` takes it"),
        ("a.yaml", b"model:\n", "`dcnv2 train` takes it"),
        ("a.onnx", b"\x08\x07", "an ONNX program"),
        ("a.h5", b"\x89HDF\r\n", "HDF5"),
        ("a.pth", b"\x1f\x8b\x08", "a compressed file"),
    ],
)
def test_what_holds_no_weights_is_named(tmp_path, capsys, name, content, message):
    (tmp_path / name).write_bytes(content)
    for target in ("run", "out.safetensors"):
        assert cli.main(["convert", str(tmp_path / name), str(tmp_path / target)]) == 1
        error = capsys.readouterr().err
        assert f"{name} is no file of weights: it looks like " in error
        assert message in error


def test_a_run_is_no_source(tmp_path, capsys):
    for source, message in (
        ("shapes", "is a run already; `dcnv2 export-run` copies one"),
        (str(tmp_path), "is a folder: wanted a file of weights in it"),
        ("nowhere.pkl", "nowhere.pkl: no such file of weights"),
    ):
        assert cli.main(["convert", source, str(tmp_path / "run")]) == 1
        assert message in capsys.readouterr().err


def test_weights_in_place_of_a_configuration_are_named(tmp_path, capsys):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": ARRAYS}))
    assert cli.main(["train", str(path)]) == 1
    assert "file of weights: `dcnv2 convert" in capsys.readouterr().err
    words = ["export-run", "shapes", str(tmp_path / "out"), f"--checkpoint={path}"]
    assert cli.main(words) == 1
    assert "file of weights, not a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["eval", "{}"], ["predict", "{}", "a.png"], ["eval", "shapes", "--checkpoint={}"]],
    ids=" ".join,
)
def test_files_that_are_no_detector_are_named(tmp_path, capsys, words):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": ARRAYS}))
    assert cli.main([word.format(path) for word in words]) == 1
    error = capsys.readouterr().err
    assert f"{path}: by its names, such as none, no detector of detectron2 or mmdetection" in error


def test_names_of_caffe2_are_renamed():
    names = {
        "conv1_w": "backbone.body.conv1.weight",
        "res_conv1_bn_s": "backbone.body.bn1.weight",
        "res2_0_branch1_bn_b": "backbone.body.layer1.0.downsample.1.bias",
        "res2_0_branch2a_w": "backbone.body.layer1.0.conv1.weight",
        "res4_22_branch2c_bn_s": "backbone.body.layer3.22.bn3.weight",
        "res5_2_branch2b_bn_rm": "backbone.body.layer4.2.bn2.running_mean",
        "fpn_inner_res5_2_sum_w": "backbone.fpn.inner_blocks.3.0.weight",
        "fpn_inner_res4_5_sum_lateral_b": "backbone.fpn.inner_blocks.2.0.bias",
        "fpn_res2_2_sum_w": "backbone.fpn.layer_blocks.0.0.weight",
        "conv_rpn_fpn2_w": "rpn.head.conv.0.0.weight",
        "rpn_cls_logits_fpn2_b": "rpn.head.cls_logits.bias",
        "rpn_bbox_pred_w": "rpn.head.bbox_pred.weight",
        "fc6_w": "roi_heads.box_head.fc6.weight",
        "fc7_b": "roi_heads.box_head.fc7.bias",
        "cls_score_w": "roi_heads.box_predictor.cls_score.weight",
        "bbox_pred_b": "roi_heads.box_predictor.bbox_pred.bias",
        "_[mask]_fcn4_w": "roi_heads.mask_head.3.0.weight",
        "conv5_mask_w": "roi_heads.mask_predictor.conv5_mask.weight",
        "mask_fcn_logits_w": "roi_heads.mask_predictor.mask_fcn_logits.weight",
    }
    unused = ["conv1_w_momentum", "fc1000_w", "pred_b"]
    assert renamed([*names, *unused], CAFFE2, DETECTRON2) == names


def test_a_configuration_is_read_without_running_it():
    lines = [
        "a = 3",
        "b = dict(x=a, **{})",
        "c = dict(x=a, y={'k': [-1, (2, 'z')]})",
        "d = open(a)",
    ]
    text = "\n".join(lines)
    assert literal_settings(text) == {"a": 3, "c": {"x": 3, "y": {"k": [-1, [2, "z"]]}}}
    assert literal_settings("not python (") == {}
    settings = Settings("x", {"a": {"b": 1}})
    assert (settings.get("a.b"), settings.get("a.c", 2), settings.get("a.b.c")) == (1, 2, None)
    with pytest.raises(ValueError, match=r"x: a\.b is 1: here it has to be 2 or 3"):
        settings.require({"a.b": (2, 3)})


def test_versions_of_mmdetection_are_distinguished():
    rpn = "rpn_head.rpn_cls.weight"
    for names, project in (
        ([rpn, "roi_head.bbox_head.fc_cls.weight"], MMDETECTION),
        ([rpn, "bbox_head.fc_cls.weight"], MMDETECTION1),
        (["bbox_head.rpn_cls.weight"], MMDETECTION),
    ):
        assert origin_of(names).project == project
    names = ["bbox_head.rpn_cls.bias", "backbone.layer2.0.conv2_offset.bias"]
    assert list(renamed(names, OF_MMDETECTION).values()) == [
        *("rpn.head.cls_logits.bias", "backbone.body.layer2.0.conv2.conv_offset.bias")
    ]


def test_unknown_names_have_no_form():
    assert origin_of(["a.weight"]) is None
    assert origin_of([]) is None
