# SPDX-License-Identifier: BSD-3-Clause
"""Handles one picture of 1000 objects, and fails if that takes more than some megabytes.

    python large_picture_program.py FOLDER train|turn|evaluate MEGABYTES

The peak of memory is that of a process, hence a process for each stage.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dcnv2.data.coco import CocoDataset
from dcnv2.data.transforms import eval_transforms, train_transforms
from dcnv2.engine.evaluation.detections import coco_results, paste_masks
from dcnv2.engine.visualization.draw import draw
from dcnv2.models.mask_targets import pack_masks

WIDTH, HEIGHT, OBJECTS = 2000, 1500, 1000


def peak_megabytes() -> float:
    """Returns the peak of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def write_set(root: Path) -> None:
    """Writes a COCO folder of one picture; one object in ten covers a quarter of it."""
    for folder in ("annotations", "val"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "val" / "1.png")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(OBJECTS):
        radius = 400 if number % 10 == 0 else rng.uniform(20, 60)
        turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        outline = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        outline *= radius * rng.uniform(0.6, 1, (40, 1))
        outline += rng.uniform(radius, [WIDTH - radius, HEIGHT - radius])
        low, high = outline.min(axis=0), outline.max(axis=0)
        rows.append(
            {
                "id": number + 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "segmentation": [outline.ravel().tolist()],
            }
        )
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "disc"}],
        "annotations": rows,
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(document))


def train(root: Path, *augment: dict) -> None:
    """Loads an item for training, and cuts the mask targets of 512 RoIs."""
    dataset = CocoDataset(root, "val", train_transforms(1.0, augment))
    _, target = dataset[0]
    assert len(target["masks"]) > OBJECTS / 2
    index = torch.arange(512)
    masks = pack_masks([target["masks"]], [(1.0, 1.0)], len(target["masks"]))
    masks.crop(target["boxes"][index], torch.zeros_like(index), index, 28)


def turn(root: Path) -> None:
    """Does the same with a rotation."""
    train(root, {"RandomRotation": {"degrees": [30, 30]}})


def evaluate(root: Path) -> None:
    """Loads an item, encodes a detection for each object, and draws all."""
    image, target = CocoDataset(root, "val", eval_transforms())[0]
    boxes = target["boxes"]
    found = {
        "boxes": boxes,
        "labels": target["labels"],
        "scores": torch.ones(len(boxes)),
        "masks": paste_masks(torch.rand(len(boxes), 1, 28, 28), boxes, (HEIGHT, WIDTH)),
    }
    assert len(coco_results(1, found, [1])) == OBJECTS
    draw(image, found, ["disc"], 0.5)


def main() -> None:
    """Runs a stage after the set was written, which takes memory too."""
    root, stage, limit = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    torch.set_num_threads(1)
    write_set(root)
    before = peak_megabytes()
    {"train": train, "turn": turn, "evaluate": evaluate}[stage](root)
    taken = peak_megabytes() - before
    print(f"{stage}: {taken:.0f} MB")
    assert taken < limit, f"{stage}: {taken:.0f} MB, more than {limit:g}"


if __name__ == "__main__":
    main()
