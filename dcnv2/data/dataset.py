# SPDX-License-Identifier: BSD-3-Clause
"""Detection data sets: images and targets from a Table, in torchvision's format."""

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from torchvision import tv_tensors

from dcnv2.data.annotations import BadDataError, DataProblem, Table, count_text
from dcnv2.data.images import read_rgb
from dcnv2.data.run_lengths import decode


class DetectionDataset(torch.utils.data.Dataset[Any]):
    """Images with boxes, labels and masks. Images without objects are included.

    An item is `(image, target)`: a tv_tensors.Image uint8 [3, H, W], and a dict of
        boxes: tv_tensors.BoundingBoxes float32 [N, 4], x1, y1, x2, y2 clipped to the image;
        labels: int64 [N], 1 to the number of categories;
        masks: RunLengthMasks [N, H, W], if `masks` is true; `masks.dense()` is a uint8 tensor;
        area: float32 [N], as annotated;
        iscrowd: uint8 [N], all 0 unless `crowd` is true;
        image_id: int.

    Attributes:
        names: Names of the categories in label order; label k is names[k - 1].
        category_ids: Their ids in the file, in the same order.
        image_ids: Id of each image, int64 [I].
        problems: What was skipped, and why.
        skipped: Number of problems by kind.
        source: Origin of the data set, for messages.
        notes: What its reader found that is no problem but worth knowing.

    Args:
        table: The images and annotations.
        problems: Problems of the images and annotations that the table does not contain.
        source: Named in messages.
        transforms: Called as `transforms(image, target)`. Those of torchvision.transforms.v2
            transform the masks too.
        crowd: Include crowd regions.
        masks: Include masks.
        on_bad: "raise" or "skip".

    Raises:
        BadDataError: There are problems and `on_bad` is "raise".
    """

    def __init__(
        self,
        table: Table,
        problems: Sequence[DataProblem] = (),
        source: str = "data set",
        transforms: Callable[..., Any] | None = None,
        crowd: bool = False,
        masks: bool = True,
        on_bad: str = "raise",
    ) -> None:
        if on_bad not in ("raise", "skip"):
            raise ValueError(f'on_bad: wanted "raise" or "skip", got {on_bad!r}')
        if problems and on_bad == "raise":
            raise BadDataError(source, problems)
        self.table, self.problems, self.source = table, list(problems), source
        self.transforms, self.crowd, self.masks = transforms, crowd, masks
        self.names, self.category_ids = table.names, table.category_ids
        self.image_ids = table.image_ids
        self.notes: list[str] = []
        self.skipped = Counter(problem.kind for problem in problems)

    def __len__(self) -> int:
        return len(self.table.files)

    def __repr__(self) -> str:
        skipped = f", skipped {count_text(self.problems)}" if self.problems else ""
        counts = f"{len(self)} images, {len(self.table.ids)} annotations"
        return f"{type(self).__name__}({self.source}: {counts}{skipped})"

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        image, target = tv_tensors.Image(self.image(index)), self.target(index)
        return (image, target) if self.transforms is None else self.transforms(image, target)

    def image(self, index: int) -> torch.Tensor:
        """Returns an image as annotated, before any transform: uint8 [3, H, W].

        EXIF orientation is followed unless only the image as stored has the annotated size. Where
        both have it, as squares do, the data set's boxes must be those of the upright image.

        Raises:
            BadImageError: The file is missing, broken or of another size.
        """
        width, height = self.table.sizes[index].tolist()
        pixels = read_rgb(self.table.files[index], (width, height))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def target(self, index: int) -> dict[str, Any]:
        """Returns the target of an image, without reading the image."""
        table, (width, height) = self.table, self.table.sizes[index].tolist()
        rows = np.arange(len(table.ids))[table.rows(index)]
        if not self.crowd:
            rows = rows[~table.crowd[rows]]
        boxes = table.boxes[rows]
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes.clip(0, [width, height, width, height])
        target = {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(boxes).float(), format="XYXY", canvas_size=(height, width)
            ),
            "labels": torch.from_numpy(table.labels[rows]),
            "area": torch.from_numpy(table.areas[rows]).float(),
            "iscrowd": torch.from_numpy(table.crowd[rows].astype(np.uint8)),
            "image_id": int(table.image_ids[index]),
        }
        if self.masks:
            codes = [table.code(row, index)["counts"] for row in rows.tolist()]
            target["masks"] = decode(codes, (width, height))
        return target

    def aspect_ratios(self) -> np.ndarray:
        """Returns width / height of every image, float64 [I]."""
        return self.table.sizes[:, 0] / self.table.sizes[:, 1]

    def coco(self) -> COCO:
        """Returns the ground truth for pycocotools, always with crowd regions."""
        table = self.table
        annotations = []
        for index, image_id in enumerate(table.image_ids.tolist()):
            for row in range(*table.rows(index).indices(len(table.ids))):
                annotation = {
                    "id": row + 1,  # COCOeval treats id 0 as no object
                    "image_id": image_id,
                    "category_id": table.category_ids[table.labels[row] - 1],
                    "bbox": table.boxes[row].tolist(),
                    "area": float(table.areas[row]),
                    "iscrowd": int(table.crowd[row]),
                }
                if self.masks:
                    annotation["segmentation"] = table.code(row, index)
                annotations.append(annotation)
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [
                {"id": image_id, "file_name": file, "width": width, "height": height}
                for image_id, file, (width, height) in zip(
                    table.image_ids.tolist(), table.files, table.sizes.tolist(), strict=True
                )
            ],
            "categories": [
                {"id": category_id, "name": name}
                for category_id, name in zip(table.category_ids, table.names, strict=True)
            ],
            "annotations": annotations,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
        return truth
