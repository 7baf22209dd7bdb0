# SPDX-License-Identifier: BSD-3-Clause
"""Whatever a COCO file holds, it is read or rejected with its name, the entry and the reason."""

import json
import re

import pandas as pd
import pytest
from coco_folders import document, image_entry, write_coco
from spoiled_coco import ENTRIES, FILES, READABLE, changed, plain

from dcnv2 import cli
from dcnv2.data import concat
from dcnv2.data.annotations import BadDataError
from dcnv2.data.coco import CocoDataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    images = [image_entry(9, "9.jpg"), image_entry(4, "4.jpg")]
    return write_coco(tmp_path_factory.mktemp("coco"), document(images, []))


def _write(folder, content):
    path = folder / "annotations" / "instances_val2017.json"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_named(folder, name):
    content, words = FILES[name]
    path = _write(folder, content)
    for on_bad in ("raise", "skip"):
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{words}") as caught:
            CocoDataset(folder, "val2017", on_bad=on_bad)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_cannot_be_used_is_named_or_skipped(folder, name):
    content, kind, words = ENTRIES[name]
    path = _write(folder, content)
    with pytest.raises(BadDataError) as caught:
        CocoDataset(folder, "val2017")
    (problem,) = (problem for problem in caught.value.problems if problem.kind == kind)
    assert re.search(words, str(problem))
    assert re.match(r"images?[ \[]\d+|annotations?[ \[]\d+", problem.where)
    assert str(path) in str(caught.value)
    assert len(str(problem)) < 300
    dataset = CocoDataset(folder, "val2017", on_bad="skip")
    assert dataset.skipped[kind] == 1
    is_image = problem.where.startswith("image")
    # Without the id of its image, an annotation is one of an unknown image.
    assert set(dataset.skipped) - {kind} <= ({"unknown image"} if is_image else set())
    expected = ([4], 2) if is_image else ([4, 9], 3)
    assert (dataset.image_ids.tolist(), len(dataset.table.ids)) == expected


def test_annotations_of_an_image_with_an_invalid_entry_are_no_further_problems(folder):
    _write(folder, changed("images.0.width", "40"))
    assert CocoDataset(folder, "val2017", on_bad="skip").skipped == {"invalid image entry": 1}


def test_the_check_lists_problems_of_entries_without_usable_ids(folder, tmp_path, capsys):
    content = plain()
    content["annotations"] += [None, {"id": 2**70}, {"id": "7", "image_id": [9]}, {"id": 2**63 - 1}]
    content["images"] += ["9.jpg", {"id": -(2**70)}, {"id": -(2**62)}]
    _write(folder, json.dumps(content).encode())
    assert cli.main(["data", "check", str(folder), "--csv", str(tmp_path / "bad.csv")]) == 1
    output = capsys.readouterr()
    assert "7 problems" in output.err
    for name in ("annotations[4]", "annotations[6]", "annotation 9223372036854775807", "images[2]"):
        assert f": {name}: " in output.out
    assert len(pd.read_csv(tmp_path / "bad.csv")) == 7


def test_minival_needs_no_valid_entries_but_its_own(tmp_path, monkeypatch):
    root = write_coco(tmp_path, plain(), "val2014", "instances_val2014")
    content = plain()
    content["images"] += [None, {"id": "9"}]
    content["annotations"] += [None, {"image_id": [4]}]
    path = root / "annotations" / "instances_val2014.json"
    path.write_text(json.dumps(content))
    (tmp_path / "chosen.txt").write_text("9")
    monkeypatch.setattr(concat, "MINIVAL", tmp_path / "chosen.txt")
    inside, outside = (json.loads(file.read_text()) for file in concat.write_minival(root))
    assert (len(inside["images"]), len(inside["annotations"])) == (1, 2)
    assert (len(outside["images"]), len(outside["annotations"])) == (3, 4)


@pytest.mark.parametrize("name", READABLE)
def test_unusual_files_with_the_same_meaning_are_read(folder, name):
    _write(folder, READABLE[name])
    dataset = CocoDataset(folder, "val2017")
    assert dataset.image_ids.tolist() == [4, 9]
    assert len(dataset.table.ids) == 4
    assert dataset.table.areas.min() >= 0
    assert not dataset.table.crowd.any()
