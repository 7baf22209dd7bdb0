# SPDX-License-Identifier: BSD-3-Clause
"""Sets that nothing can be learnt from stop a training, and the check of the data names them."""

import numpy as np
import pytest
from coco_folders import HEIGHT, WIDTH, annotation, document, image_entry, write_coco
from PIL import Image

from dcnv2 import cli
from dcnv2.data.coco import CocoDataset
from dcnv2.data.set_checks import set_problems
from dcnv2.engine.config import DataConfig
from dcnv2.engine.runtime.datasets import open_train, open_val

CORNERS = np.array(
    [[2, 3, 30, 20], [20, 5, 39, 29], [25, 15, 38, 28], [1, 1, 12, 9], [9, 9, 35, 25]]
)
XYWH = np.concatenate([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]], axis=1)
CENTRES = np.concatenate([(CORNERS[:, :2] + CORNERS[:, 2:]) / 2, XYWH[:, 2:]], axis=1)
SHARES = XYWH / [WIDTH, HEIGHT, WIDTH, HEIGHT]


def _rows(boxes, **changes):
    return [
        annotation(k, 9, bbox=np.array(box).tolist(), **changes)
        for k, box in enumerate(boxes, start=1)
    ]


def _one(rows):
    return document([image_entry(9, "9.jpg")], rows)


CORNER_AREAS = [
    annotation(1, 9, bbox=[2, 3, 12, 10], area=70),
    annotation(2, 9, bbox=[4, 4, 10, 14], area=60),
]
USELESS = {
    "no image": (document([], []), "no images"),
    "no annotation": (_one([]), "no objects"),
    "crowd regions only": (_one(_rows(XYWH, iscrowd=1)), "no objects"),
    "zero-area boxes only": (_one(_rows(XYWH * [1, 1, 0, 1])), "no objects"),
    "boxes outside only": (_one(_rows(np.add(XYWH, [WIDTH, 0, 0, 0]))), "no objects"),
    "unknown categories only": (_one(_rows(XYWH, category_id=7)), "no objects"),
    "every image missing": (document([image_entry(9, "../9.jpg")], _rows(XYWH)), "no images"),
    "shares": (_one(_rows(SHARES)), "boxes not in pixels"),
    "shares from the centre": (
        _one(_rows(CENTRES / [WIDTH, HEIGHT, WIDTH, HEIGHT])),
        "boxes not in pixels",
    ),
    "corners": (_one(_rows(CORNERS)), "boxes not x, y, width, height"),
    "centres": (_one(_rows(CENTRES)), "boxes not x, y, width, height"),
    "few corners, with their area": (_one(CORNER_AREAS), "boxes not x, y, width, height"),
}


def _write(root, content):
    root = write_coco(root, content)
    if any(".." in entry["file_name"] for entry in content["images"]):
        (root / "9.jpg").unlink()
    return root


@pytest.mark.parametrize("name", USELESS)
def test_useless_sets_stop_a_training_and_are_named_by_the_check(tmp_path, name, capsys):
    content, kind = USELESS[name]
    root = _write(tmp_path, content)
    config = DataConfig(root=str(root), train="val2017", val="val2017", on_bad="skip")
    with pytest.raises(ValueError, match=f"{kind}: .*instances_val2017.json: "):
        open_train(config, masks=False)
    assert cli.main(["data", "check", str(root), "--no-masks"]) == 1
    assert f"val2017: {kind}: " in capsys.readouterr().out
    if kind == "no objects":  # as of COCO's test sets
        assert len(open_val(config, masks=False)) == 1
    else:
        with pytest.raises(ValueError, match=kind):
            open_val(config, masks=False)


@pytest.mark.parametrize("box", [[5, 4, 25, 20], [15, 12, 20, 16]])
def test_masks_show_the_format_of_a_single_box(tmp_path, box):
    """The mask's bounds are 5, 4 to 25, 20, and each box lies inside the image in any format."""
    root = write_coco(tmp_path, _one(_rows([box], area=None)))
    (problem,) = set_problems(CocoDataset(root, "val2017"))
    assert problem.kind == "boxes not x, y, width, height"
    assert ("corners" if box[0] == 5 else "centre") in problem.what
    assert not set_problems(CocoDataset(root, "val2017", masks=False))


@pytest.mark.parametrize("box", [[5, 4, 20, 16], [2, 1, 30, 25], [6, 5, 22, 17]])
def test_masks_do_not_doubt_sound_boxes(tmp_path, box):
    root = write_coco(tmp_path, _one(_rows([box])))
    assert not set_problems(CocoDataset(root, "val2017"))


@pytest.mark.parametrize(
    "rows",
    [
        _rows(XYWH),
        _rows(XYWH[:1]),
        _rows(np.add(XYWH, [0, 0, 9, 9])),
        _rows([[0, 0, WIDTH, HEIGHT]] * 5),
        _rows([[0, 0, WIDTH + 1, HEIGHT + 1]] * 5),
        _rows([[30, 20, 20, 20], *([[5, 4, 20, 16]] * 30)]),
        _rows([[0, 0, 1, 1], [5, 4, 20, 16]]),
        [*_rows(XYWH), annotation(9, 9, bbox=[1, 1, 5, 5], iscrowd=1)],
    ],
)
def test_sound_boxes_are_not_doubted(tmp_path, rows):
    root = write_coco(tmp_path, _one(rows))
    assert not set_problems(CocoDataset(root, "val2017", masks=False))


@pytest.mark.parametrize("side", [1, 2, 8])
def test_images_of_few_pixels_have_boxes_of_few_pixels(tmp_path, side):
    content = _one(_rows([[0, 0, 1, 1]] * 4, area=1))
    for size, kinds in ((side, []), (9, ["boxes not in pixels"])):
        content["images"][0] |= {"width": size, "height": size}
        root = write_coco(tmp_path, content)
        Image.new("RGB", (size, size)).save(root / "val2017" / "9.jpg")
        problems = set_problems(CocoDataset(root, "val2017", masks=False))
        assert [problem.kind for problem in problems] == kinds


def test_parts_of_a_training_set_may_have_no_objects_but_sound_boxes(tmp_path):
    first = write_coco(tmp_path / "a", _one(_rows(XYWH)))
    second = write_coco(tmp_path / "b", _one([]))
    third = write_coco(tmp_path / "c", _one(_rows(CORNERS)))
    config = DataConfig(root=str(first), train=["val2017", f"{second}::val2017"])
    assert len(open_train(config, masks=False)) == 2
    config.train = ["val2017", f"{third}::val2017"]
    with pytest.raises(ValueError, match=f"width, height: {third}"):
        open_train(config, masks=False)


def test_categories_without_objects_are_noted(tmp_path, caplog, capsys):
    root = write_coco(tmp_path, _one(_rows(XYWH)))
    open_train(DataConfig(root=str(root), train="val2017"), masks=False)
    assert "no object of person, bottle" in caplog.text
    assert cli.main(["data", "check", str(root), "--no-masks"]) == 0
    assert "val2017: note: no object of person, bottle" in capsys.readouterr().out


def test_one_unreadable_split_does_not_hide_the_others(tmp_path, capsys):
    root = write_coco(tmp_path, _one(_rows(XYWH, iscrowd=1)))
    (root / "annotations" / "instances_train2017.json").write_text("{")
    (root / "train2017").mkdir()
    assert cli.main(["data", "check", str(root), "--no-masks"]) == 1
    output = capsys.readouterr()
    assert "val2017: no objects" in output.out
    assert "instances_train2017.json: not a JSON file" in output.err
