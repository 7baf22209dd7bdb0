# SPDX-License-Identifier: BSD-3-Clause
"""One small data set in every format in which tools export it: 2 pictures of 40 x 30, 3 objects.

`a.png` has a dog at 5, 4 to 25, 20 and a cat at 10, 10 to 30, 25; `b.jpg` a cat at 0, 0 to 40, 30.
"""

import json
from pathlib import Path

import yaml
from PIL import Image

WIDTH, HEIGHT = 40, 30
NAMES = ["cat", "dog"]
OBJECTS = {
    "a.png": [("dog", (5, 4, 25, 20)), ("cat", (10, 10, 30, 25))],
    "b.jpg": [("cat", (0, 0, 40, 30))],
}


def picture(path: Path, size=(WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 40)).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def yolo_row(name, box, names=NAMES) -> str:
    x0, y0, x1, y1 = box
    shares = ((x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT)
    return " ".join(map(str, (names.index(name), *shares)))


def polygon_row(name, box, names=NAMES) -> str:
    x0, y0, x1, y1 = box
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return " ".join([str(names.index(name)), *(f"{x / WIDTH} {y / HEIGHT}" for x, y in corners)])


def write_yolo_pairs(pictures: Path, labels: Path, row=yolo_row) -> None:
    for name, objects in OBJECTS.items():
        picture(pictures / name)
        rows = "\n".join(row(*entry) for entry in objects)
        text((labels / name).with_suffix(".txt"), rows + "\n")


def ultralytics(root, row=yolo_row, names=None):
    description = {"path": ".", "train": "images/train", "val": "images/val"}
    description["names"] = names or dict(enumerate(NAMES))
    text(root / "data.yaml", yaml.safe_dump(description))
    for split in ("train", "val"):
        write_yolo_pairs(root / "images" / split, root / "labels" / split, row)


def roboflow_yolo(root):
    description = {"train": "../train/images", "val": "../valid/images", "nc": 2, "names": NAMES}
    text(root / "data.yaml", yaml.safe_dump(description))
    for split in ("train", "valid"):
        write_yolo_pairs(root / split / "images", root / split / "labels")


def cvat_yolo(root):
    """YOLO 1.1, of Darknet."""
    text(root / "obj.names", "cat\ndog\n")
    lines = "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    text(root / "obj.data", lines)
    text(root / "train.txt", "".join(f"data/obj_train_data/{name}\n" for name in OBJECTS))
    write_yolo_pairs(root / "obj_train_data", root / "obj_train_data")


def cvat_ultralytics(root):
    description = {"path": ".", "train": "train.txt", "names": dict(enumerate(NAMES))}
    text(root / "data.yaml", yaml.safe_dump(description))
    text(root / "train.txt", "".join(f"data/images/train/{name}\n" for name in OBJECTS))
    write_yolo_pairs(root / "images" / "train", root / "labels" / "train")


def label_studio_yolo(root):
    text(root / "classes.txt", "cat\ndog\n")
    text(root / "notes.json", json.dumps({"categories": [], "info": {"version": "1.0"}}))
    write_yolo_pairs(root / "images", root / "labels")


def labelimg_yolo(root):
    text(root / "classes.txt", "cat\ndog\n")
    write_yolo_pairs(root, root)


def voc_xml(name, objects, filename=None) -> str:
    rows = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, (x0, y0, x1, y1) in objects
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    filename = name if filename is None else filename
    return f"<annotation><filename>{filename}</filename>{size}{rows}</annotation>"


def write_voc(pictures: Path, xml: Path) -> None:
    for name, objects in OBJECTS.items():
        picture(pictures / name)
        text((xml / name).with_suffix(".xml"), voc_xml(name, objects))


def cvat_voc(root):
    header = "# label:color_rgb:parts:actions\nbackground:0,0,0::\n"
    text(root / "labelmap.txt", header + "cat:1,2,3::\ndog:4,5,6::\n")
    text(root / "ImageSets/Main/default.txt", "sub/a\nsub/b\n")
    write_voc(root / "JPEGImages/sub", root / "Annotations/sub")


def roboflow_voc(root):
    for split in ("train", "valid"):
        write_voc(root / split, root / split)


def label_studio_voc(root):
    write_voc(root / "images", root / "Annotations")


def labelimg_voc(root):
    write_voc(root, root)


def coco_document(prefix="", first=0) -> dict:
    categories = [{"id": first + k, "name": name} for k, name in enumerate(NAMES)]
    images, annotations = [], []
    for image_id, (name, objects) in enumerate(OBJECTS.items()):
        entry = {"id": image_id, "width": WIDTH, "height": HEIGHT, "file_name": prefix + name}
        images.append(entry)
        for label, (x0, y0, x1, y1) in objects:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": first + NAMES.index(label),
                    "segmentation": [],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    return {"images": images, "categories": categories, "annotations": annotations}


def write_pictures(folder):
    for name in OBJECTS:
        picture(folder / name)


def cvat_coco(root):
    text(root / "annotations/instances_default.json", json.dumps(coco_document(first=1)))
    write_pictures(root / "images")


def roboflow_coco(root):
    document = coco_document(first=1)
    document["categories"] = [{"id": 0, "name": "pets", "supercategory": "none"}] + [
        {**category, "supercategory": "pets"} for category in document["categories"]
    ]
    for split in ("train", "valid"):
        text(root / split / "_annotations.coco.json", json.dumps(document))
        write_pictures(root / split)


def label_studio_coco(root):
    text(root / "result.json", json.dumps(coco_document("images\\")))
    write_pictures(root / "images")


def cvat_shapes(name, objects) -> str:
    rows = "".join(
        f'<box label="{label}" occluded="0" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"/>'
        for label, (x0, y0, x1, y1) in objects
    )
    return f'name="{name}" width="{WIDTH}" height="{HEIGHT}">{rows}</image>'


def cvat_xml(*images) -> str:
    """Each image is what follows `<image `."""
    labels = "".join(f"<label><name>{name}</name><color>#fff</color></label>" for name in NAMES)
    rows = "".join(f'<image id="{place}" {image}' for place, image in enumerate(images))
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    return f"<annotations><version>1.1</version>{meta}{rows}</annotations>"


def cvat_images(root):
    rows = [cvat_shapes(name, objects) for name, objects in OBJECTS.items()]
    text(root / "annotations.xml", cvat_xml(*rows))
    write_pictures(root / "images")


def cvat_video_xml(*tracks, size=True, kind="task") -> str:
    """Each track is its label, and what is in its element."""
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    sides = f"<width>{WIDTH}</width><height>{HEIGHT}</height>" if size else ""
    original = f"<original_size>{sides}</original_size>" if size else ""
    rows = "".join(
        f'<track id="{place}" label="{label}">{rows}</track>'
        for place, (label, rows) in enumerate(tracks)
    )
    meta = f"<meta><{kind}><labels>{labels}</labels>{original}</{kind}></meta>"
    return f"<annotations><version>1.1</version>{meta}{rows}</annotations>"


def cvat_video(root):
    tracks = [
        (label, f'<box frame="{frame}" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"/>')
        for frame, objects in enumerate(OBJECTS.values())
        for label, (x0, y0, x1, y1) in objects
    ]
    text(root / "annotations.xml", cvat_video_xml(*tracks))
    write_pictures(root / "images")


def label_studio_shapes(objects) -> list:
    return [
        {
            "x": 100 * x0 / WIDTH,
            "y": 100 * y0 / HEIGHT,
            "width": 100 * (x1 - x0) / WIDTH,
            "height": 100 * (y1 - y0) / HEIGHT,
            "rotation": 0,
            "rectanglelabels": [label],
            "original_width": WIDTH,
            "original_height": HEIGHT,
        }
        for label, (x0, y0, x1, y1) in objects
    ]


def label_studio_min(root):
    tasks = [
        {"image": f"/data/upload/3/0a1b2c3d-{name}", "id": k, "label": label_studio_shapes(objects)}
        for k, (name, objects) in enumerate(OBJECTS.items())
    ]
    text(root / "project.json", json.dumps(tasks))
    write_pictures(root / "images")


def label_studio_json(root):
    sides = ("original_width", "original_height")
    tasks = []
    for number, (name, objects) in enumerate(OBJECTS.items()):
        shapes = label_studio_shapes(objects)
        result = [{**{k: s.pop(k) for k in sides}, "value": s, "type": "x"} for s in shapes]
        data = {"image": f"/data/upload/3/{name}"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": result}]})
    text(root / "project.json", json.dumps(tasks))
    write_pictures(root)


def coco_by_folder(root):
    """As mmdetection's examples have it: the file is named as the folder of its pictures."""
    text(root / "annotations/train.json", json.dumps(coco_document()))
    write_pictures(root / "train")


# Writer of a folder -> the format that it is recognised as, and its splits.
FORMATS = {
    ultralytics: ("YOLO", ["train", "val"]),
    roboflow_yolo: ("YOLO", ["train", "val"]),
    cvat_yolo: ("YOLO", ["train"]),
    cvat_ultralytics: ("YOLO", ["train"]),
    label_studio_yolo: ("YOLO", ["all"]),
    labelimg_yolo: ("YOLO", ["all"]),
    cvat_voc: ("Pascal VOC", ["default"]),
    roboflow_voc: ("Pascal VOC", ["train", "valid"]),
    label_studio_voc: ("Pascal VOC", ["all"]),
    labelimg_voc: ("Pascal VOC", ["all"]),
    cvat_coco: ("COCO", ["default"]),
    roboflow_coco: ("COCO", ["train", "valid"]),
    label_studio_coco: ("COCO", ["result.json"]),
    coco_by_folder: ("COCO", ["annotations/train.json"]),
    cvat_images: ("CVAT", ["default"]),
    cvat_video: ("CVAT", ["default"]),
    label_studio_json: ("Label Studio", ["all"]),
    label_studio_min: ("Label Studio", ["all"]),
}
