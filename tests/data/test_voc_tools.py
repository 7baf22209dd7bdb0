# SPDX-License-Identifier: BSD-3-Clause
"""VOC's XML with what tools add to it, or leave out."""

import pytest
from format_folders import NAMES, OBJECTS, labelimg_voc, picture, text, voc_xml

from dcnv2.data.annotations import BadDataError
from dcnv2.data.folders import open_dataset


def _write(root, objects):
    picture(root / "a.png")
    size = "<size><width>40</width><height>30</height></size>"
    rows = "".join(f"<object><name>cat</name>{entry}</object>" for entry in objects)
    text(root / "a.xml", f"<annotation><filename>a.png</filename>{size}{rows}</annotation>")


@pytest.mark.parametrize("missing", [True, False])
def test_a_size_that_is_missing_or_zero_is_that_of_the_picture(tmp_path, missing):
    labelimg_voc(tmp_path)
    for path in tmp_path.glob("*.xml"):
        found = path.read_text()
        size = found[found.index("<size>") : found.index("</size>") + len("</size>")]
        zero = "<size><width>0</width><height>0</height></size>"
        path.write_text(found.replace(size, "" if missing else zero))
    dataset = open_dataset(tmp_path, "all", masks=False)
    assert dataset.table.sizes.tolist() == [[40, 30]] * len(OBJECTS)
    (tmp_path / "a.png").unlink()
    with pytest.raises(BadDataError, match=r"image a: .*no such image file"):
        open_dataset(tmp_path, "all", masks=False)


def test_a_negative_size_stays_a_problem(tmp_path):
    labelimg_voc(tmp_path)
    broken = voc_xml("a.png", OBJECTS["a.png"]).replace("<width>40<", "<width>-40<")
    text(tmp_path / "a.xml", broken)
    with pytest.raises(BadDataError, match="size is -40 x 30"):
        open_dataset(tmp_path, "all", masks=False)


def test_pictures_without_xml_are_noted(tmp_path):
    labelimg_voc(tmp_path)
    picture(tmp_path / "c.png")
    dataset = open_dataset(tmp_path, "all", masks=False)
    assert dataset.notes == ["1 picture, such as c.png, without an XML file: left out"]
    assert dataset.names == NAMES


def test_turned_boxes_of_rolabelimg_are_polygons(tmp_path):
    box = "<cx>20</cx><cy>15</cy><w>10</w><h>4</h><angle>1.5707963</angle>"
    _write(tmp_path, [f"<type>robndbox</type><robndbox>{box}</robndbox>"])
    dataset = open_dataset(tmp_path, "all")
    assert dataset.table.boxes[0].tolist() == pytest.approx([18, 10, 4, 10], abs=1e-4)
    assert dataset.target(0)["masks"].dense().sum() == 40


@pytest.mark.parametrize("angle", [90, -270.0])
def test_turned_boxes_of_cvat_are_polygons(tmp_path, angle):
    corners = "<xmin>16</xmin><ymin>14</ymin><xmax>25</xmax><ymax>17</ymax>"
    row = f"<attribute><name>rotation</name><value>{angle}</value></attribute>"
    _write(tmp_path, [f"<bndbox>{corners}</bndbox><attributes>{row}</attributes>"])
    dataset = open_dataset(tmp_path, "all")
    assert dataset.table.boxes[0].tolist() == pytest.approx([18, 10, 4, 10], abs=1e-4)
    assert dataset.target(0)["masks"].dense().sum() == 40


def test_polygons_of_roboflow_are_masks(tmp_path):
    corners = "<xmin>6</xmin><ymin>5</ymin><xmax>25</xmax><ymax>20</ymax>"
    points = ((5, 4), (25, 4), (5, 20))
    rows = "".join(f"<x{k}>{x}</x{k}><y{k}>{y}</y{k}>" for k, (x, y) in enumerate(points, 1))
    _write(tmp_path, [f"<bndbox>{corners}</bndbox><polygon>{rows}</polygon>"])
    dataset = open_dataset(tmp_path, "all")
    assert dataset.table.boxes[0].tolist() == [5, 4, 20, 16]
    assert dataset.target(0)["masks"].dense().sum() == pytest.approx(160, rel=0.1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a box of four finite numbers"),
        ("<robndbox><cx>x</cx></robndbox>", "a robndbox of finite numbers"),
        ("<polygon><x1>x</x1></polygon>", "a box of four finite numbers"),
    ],
)
def test_bad_shapes_are_named(tmp_path, content, message):
    _write(tmp_path, [content])
    with pytest.raises(BadDataError, match=message):
        open_dataset(tmp_path, "all", masks=False)
