# SPDX-License-Identifier: BSD-3-Clause
"""CVAT's tracks: frames by number or by name, ends of tracks, and what is missing."""

import pytest
from format_folders import HEIGHT, WIDTH, cvat_video_xml, picture, text

from dcnv2.data.annotations import BadDataError
from dcnv2.data.folders import open_dataset


def _box(frame, outside=0, xtl=0):
    corners = f'xtl="{xtl}" ytl="0" xbr="20" ybr="20"'
    return f'<box frame="{frame}" outside="{outside}" {corners}/>'


def _write(root, *boxes, names=("frame_000000.PNG", "frame_000001.PNG", "frame_000002.PNG"), **xml):
    for name in names:
        picture(root / "images" / name)
    text(root / "annotations.xml", cvat_video_xml(("cat", "".join(boxes)), **xml))


def _counts(dataset):
    owners = dataset.table.owners().tolist()
    return [owners.count(place) for place in range(len(dataset))]


def test_each_picture_is_an_image_with_the_shapes_of_its_frame(tmp_path):
    _write(tmp_path, _box(0), _box(1, xtl=5), _box(2, outside=1))
    dataset = open_dataset(tmp_path, "default", masks=False)
    assert _counts(dataset) == [1, 1, 0]
    assert dataset.table.boxes.tolist() == [[0, 0, 20, 20], [5, 0, 15, 20]]
    assert dataset.table.sizes.tolist() == [[WIDTH, HEIGHT]] * 3


def test_numbers_in_names_are_frames(tmp_path):
    _write(tmp_path, _box(5), names=("frame_000000.png", "frame_000005.png"))
    assert _counts(open_dataset(tmp_path, "default", masks=False)) == [0, 1]


def test_pictures_with_other_names_are_frames_by_order(tmp_path):
    _write(tmp_path, _box(1), names=("b.jpg", "a.jpg", "c.jpg"), size=False)
    dataset = open_dataset(tmp_path, "default", masks=False)
    assert _counts(dataset) == [0, 1, 0]
    assert dataset.table.files[1].endswith("b.jpg")


def test_a_frame_without_a_picture_is_named(tmp_path):
    _write(tmp_path, _box(3))
    with pytest.raises(BadDataError, match=r"frame_000003\.png: no such image file"):
        open_dataset(tmp_path, "default", masks=False)


def test_a_track_that_is_not_interpolated_is_named(tmp_path):
    _write(tmp_path, _box(0), _box(2))
    with pytest.raises(BadDataError, match=r"track 0: .*no shape in frames 1 to 1"):
        open_dataset(tmp_path, "default", masks=False)


def test_tracks_without_pictures_name_the_way_out(tmp_path):
    _write(tmp_path, _box(0), names=())
    with pytest.raises(ValueError, match="'Save images', or write them with `ffmpeg"):
        open_dataset(tmp_path, "default", masks=False)


def test_tracks_of_a_project_are_refused(tmp_path):
    _write(tmp_path, _box(0), kind="project")
    with pytest.raises(ValueError, match="export the tasks"):
        open_dataset(tmp_path, "default", masks=False)


def test_a_frame_that_is_no_number_is_named(tmp_path):
    _write(tmp_path, _box("x"))
    with pytest.raises(ValueError, match=r"frame: wanted a whole number, got 'x'"):
        open_dataset(tmp_path, "default", masks=False)
