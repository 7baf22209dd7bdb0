# SPDX-License-Identifier: BSD-3-Clause
"""Detects objects with a checkpoint: in images from Python, and in files for the command line."""

from __future__ import annotations

import glob
import itertools
import json
import logging
import re
import reprlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from dcnv2.data import video
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.images import SUFFIXES, BadImageError, array_to_rgb, read_rgb, to_rgb
from dcnv2.data.whole_files import make_folder, write_table
from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.detections import coco_results, predict
from dcnv2.engine.runtime.device import pick_device
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.runtime.foreign import load_or_convert, restore_any
from dcnv2.engine.visualization.draw import draw, write_picture

log = logging.getLogger("dcnv2")

T = TypeVar("T")
# Threads that read images, and that draw, and how many images they may be ahead or behind.
THREADS, AHEAD = 4, 8


class Predictor:
    """A trained detector, ready to be called.

        predictor = Predictor("runs/smoke_dcnv2")
        result = predictor("street.jpg")[0]
        print(result["boxes"], [predictor.names[label - 1] for label in result["labels"]])

    Args:
        source: a run folder, the name of one of the package's models, a configuration, whose
            `eval` may ask for tiles, flips and scales, or a file of weights of detectron2 or
            mmdetection, whose conventions are taken over.
        checkpoint: `best`, `last` (the default), a folder, or a file of weights of another project.
        threshold: minimum score of returned detections, also below the one that the model was
            evaluated with, `model.box.score_threshold`. An image has at most
            `model.box.detections_per_image` detections, the best.
        device: such as `cuda`, or `auto`.

    Raises:
        ValueError: `threshold` is not from 0 to 1; see `restore` for others.

    Attributes:
        names: names of the classes 1, 2, ...
        category_ids: their ids in the data set of the training; 1, 2, ... if the checkpoint
            has none.
    """

    def __init__(
        self,
        source: str | Path | RunConfig,
        checkpoint: str | Path | None = None,
        threshold: float = 0.5,
        device: str = "auto",
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold: wanted a score from 0 to 1, got {threshold}")
        self.device, self.threshold = pick_device(device), threshold
        config = source
        if not isinstance(config, RunConfig):
            config, checkpoint = load_or_convert(config, (), checkpoint)
        self.model, meta = restore_any(config, checkpoint, self.device)
        self.model.record_detections()
        self.options = config.eval
        self.names: list[str] = meta["classes"]
        self.category_ids: list[int] = meta.get("category_ids") or [*range(1, len(self.names) + 1)]
        if (heads := self.model.roi_heads) is not None:
            heads.score_thresh = min(heads.score_thresh, threshold)

    def __call__(
        self, images: str | Path | Image.Image | np.ndarray | Tensor | Sequence[Any]
    ) -> list[dict[str, Tensor]]:
        """Detects objects in one image or in a batch of images.

        Args:
            images: files, Pillow images, arrays [H, W] or [H, W, C], or tensors [C, H, W], with 1
                to 4 channels: grey, grey and alpha, RGB, RGB and alpha. Values that are not bytes
                are reduced as those of files: see `dcnv2.data.images.to_rgb`.

        Returns:
            One dict per image with `boxes` [K, 4] (x1, y1, x2, y2 in pixels), `labels` [K] from 1,
            `scores` [K] and, from a model with masks, `masks` bool [K, H, W]; best first.
        """
        if not isinstance(images, list | tuple):
            images = [images]
        if not images:
            return []
        results = self.detect([as_tensor(image) for image in images])
        for result in results:
            if "masks" in result:
                result["masks"] = result["masks"].dense().bool()
        return results

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Detects objects in uint8 tensors [3, H, W]; masks are `RunLengthMasks` [K, H, W]."""
        results = predict(self.model, images, self.device, self.options)
        kept = [result["scores"] >= self.threshold for result in results]
        return [
            {key: value[keep] for key, value in result.items()}
            for result, keep in zip(results, kept, strict=True)
        ]


def as_tensor(image: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Converts any kind of image that `Predictor` accepts to uint8 [3, H, W].

    Files and Pillow images become the same pixels, as `dcnv2.data.images.to_rgb` says: upright by
    their EXIF orientation, and of any mode.

    Raises:
        BadImageError: a file is missing or damaged, or an image has no pixels.
        ValueError: an array or tensor has another shape, or it is something else.
    """
    if isinstance(image, str | Path):
        image = read_rgb(image)
    elif isinstance(image, Image.Image):
        image = to_rgb(image)
    if isinstance(image, Tensor):
        if image.ndim != 3 or not 1 <= image.shape[0] <= 4:
            shape = list(image.shape)
            raise ValueError(f"image: wanted a tensor [C, H, W] with 1 to 4 channels, got {shape}")
        image = image.detach().cpu()
        image = image.float() if image.dtype == torch.bfloat16 else image
        image = image.permute(1, 2, 0).numpy()
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image: wanted a file, image, array or tensor, got {reprlib.repr(image)}")
    # Pillow's arrays are read-only, which torch warns of.
    pixels = np.require(array_to_rgb(image), requirements="W")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def prediction_sheet(
    model: nn.Module,
    dataset: DetectionDataset,
    indices: Sequence[int],
    config: RunConfig,
    device: torch.device,
) -> tuple[list[Tensor], list[Tensor]]:
    """Draws images of a data set with predictions, and with the ground truth: uint8 [3, H, W]."""
    images = [dataset.image(index) for index in indices]
    results = [predict(model, [image], device, config.eval)[0] for image in images]
    threshold = config.eval.draw_threshold
    predicted = [
        draw(image, result, dataset.names, threshold)
        for image, result in zip(images, results, strict=True)
    ]
    truth = [
        draw(image, dataset.target(index), dataset.names, threshold)
        for image, index in zip(images, indices, strict=True)
    ]
    return predicted, truth


def find_images(sources: Sequence[str | Path], videos: bool = False) -> list[Path]:
    """Returns the image files of files, folders and glob patterns, and the videos if wanted.

    The files of a folder or pattern are sorted by name, numbers by value. Hidden files are left
    out, such as the `._*.jpg` that macOS writes.

    Raises:
        FileNotFoundError: a folder or pattern has no images.
    """
    found: list[Path] = []
    suffixes = (*SUFFIXES, *video.SUFFIXES) if videos else SUFFIXES
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matches = list(path.iterdir())
        elif not path.exists() and glob.has_magic(str(source)):
            matches = [Path(name) for name in glob.glob(str(source), recursive=True)]
        else:
            found.append(path)
            continue
        images = [p for p in matches if p.suffix.lower() in suffixes and p.name[0] != "."]
        if not images:
            known = ", ".join(sorted(suffixes))
            raise FileNotFoundError(
                f"{source}: no images found (names that end in {known}); a pattern such as "
                "'folder/**/*.jpg' also finds those in folders below"
            )
        found += sorted(images, key=_by_number)
    return found


def _by_number(path: Path) -> list[Any]:
    """Sort key that puts frame_9 before frame_10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def predict_files(
    config: RunConfig,
    sources: Sequence[str | Path],
    out: Path,
    checkpoint: str | Path | None = None,
    overlays: bool = True,
) -> Iterator[tuple[Path, str]]:
    """Detects objects in image files, and in the frames of video files.

    Writes `<name>.png` with the detections of at least `eval.draw_threshold`; repeated names, and
    those of inputs in the same folder, get a number. Frames are `<name>_000001.png` and so on, and
    `<file>#1` in the tables. At the end writes `detections.json`, in COCO's
    format with images, categories with the ids of the training data and scored annotations, and
    `detections.csv`, one row per detection. Each file is written completely or not at all.

    Args:
        config: the run; `eval.batch_size` images are predicted at a time.
        sources: files, folders and patterns.
        out: folder to write to; it is created if missing.
        checkpoint: `best`, `last` (the default) or a folder.
        overlays: write pictures.

    Yields:
        For each image the path of its picture (of the image itself without overlays), and a summary
        of the detections.

    Raises:
        FileNotFoundError: a source has no images.
        BadImageError: in the end, if files were missing or damaged; the message lists them. The
            results of the others are written.
        OSError: a file could not be written; the message names it.
    """
    files = find_images(sources, videos=True)
    make_folder(out)
    threshold = config.eval.draw_threshold
    predictor = Predictor(config, checkpoint, threshold, config.device)
    document = _document(predictor)
    written = {out / file.name for file in files if file.parent.resolve() == out.resolve()}
    skipped: list[str] = []

    def drawn(image: Tensor, result: dict[str, Any], picture: Path) -> None:
        write_picture(picture, draw(image, result, predictor.names, threshold))

    # Threads read the next images and draw the last ones while the detector works.
    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as painters:
        shown: deque[tuple[Path, str, Future[None] | None]] = deque()
        read = _loaded(_ahead(_items(files, readers, skipped), AHEAD), skipped)
        while batch := list(itertools.islice(read, config.eval.batch_size)):
            results = predictor.detect([image for *_, image in batch])
            for (name, stem, image), result in zip(batch, results, strict=True):
                _add_result(document, name, image, result)
                picture, done = Path(name), None
                if overlays:
                    picture = _unused(out / f"{stem}.png", written)
                    done = painters.submit(drawn, image, result, picture)
                counts = Counter(predictor.names[label - 1] for label in result["labels"].tolist())
                words = ", ".join(f"{count} {name}" for name, count in counts.most_common())
                nothing = f"nothing with a score of at least {threshold:g}"
                shown.append((picture, words or nothing, done))
            yield from _finished(shown, AHEAD)
        yield from _finished(shown, 0)
    rest = "nothing was detected"
    if document["images"]:
        rest = f"{out / 'detections.json'} has the others"
        write_atomically(out / "detections.json", json.dumps(document))
        write_table(out / "detections.csv", _table(document))
    if skipped:
        lines = "".join(f"\n  {reason}" for reason in skipped)
        raise BadImageError(f"{len(skipped)} of {len(files)} files were skipped; {rest}:{lines}")


def _items(
    files: Sequence[Path], readers: Executor, skipped: list[str]
) -> Iterator[tuple[str, str, Future[Tensor]]]:
    """Yields name, stem and pixels to come of images and frames, see `_loaded`."""
    for file in files:
        if file.suffix.lower() not in video.SUFFIXES:
            yield str(file), file.stem, readers.submit(as_tensor, file)
            continue
        try:
            for number, frame in enumerate(video.read_frames(file), start=1):
                pixels = readers.submit(as_tensor, frame)
                yield f"{file}#{number}", f"{file.stem}_{number:06d}", pixels
        except BadImageError as error:
            _skip(error, skipped)


def _ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """Yields items, each when `count` more of them have been begun."""
    begun = deque(itertools.islice(items, count))
    while begun:
        begun.extend(itertools.islice(items, 1))
        yield begun.popleft()


def _loaded(
    items: Iterable[tuple[str, str, Future[Tensor]]], skipped: list[str]
) -> Iterator[tuple[str, str, Tensor]]:
    """Yields name, stem and pixels; adds a line to `skipped` for each damaged file."""
    for name, stem, pixels in items:
        try:
            yield name, stem, pixels.result()
        except BadImageError as error:
            _skip(error, skipped)


def _skip(error: BadImageError, skipped: list[str]) -> None:
    log.warning("skipped %s", error)
    skipped.append(str(error))


def _finished(
    shown: deque[tuple[Path, str, Future[None] | None]], pending: int
) -> Iterator[tuple[Path, str]]:
    """Yields the oldest pictures and their summaries until `pending` are left.

    Raises:
        OSError: a picture could not be written.
    """
    while len(shown) > pending:
        picture, words, done = shown.popleft()
        if done is not None:
            done.result()
        yield picture, words


def _document(predictor: Predictor) -> dict[str, Any]:
    pairs = zip(predictor.category_ids, predictor.names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in pairs]
    return {"images": [], "categories": categories, "annotations": []}


def _add_result(
    document: dict[str, Any], name: str, image: Tensor, result: dict[str, Tensor]
) -> None:
    """Adds an image and its detections to a COCO document."""
    image_id = len(document["images"]) + 1
    height, width = image.shape[1:]
    document["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
    ids = [category["id"] for category in document["categories"]]
    for entry in coco_results(image_id, result, ids):
        number = len(document["annotations"]) + 1
        extra = {"id": number, "iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3]}
        document["annotations"].append({**extra, **entry})


def _table(document: dict[str, Any]) -> pd.DataFrame:
    """Returns one row per detection: file, class, score, and the box's corners in pixels."""
    files = {image["id"]: image["file_name"] for image in document["images"]}
    names = {category["id"]: category["name"] for category in document["categories"]}
    rows = [
        {
            "file": files[entry["image_id"]],
            "class": names[entry["category_id"]],
            "score": entry["score"],
            **dict(zip(("x1", "y1"), entry["bbox"][:2], strict=True)),
            "x2": entry["bbox"][0] + entry["bbox"][2],
            "y2": entry["bbox"][1] + entry["bbox"][3],
        }
        for entry in document["annotations"]
    ]
    return pd.DataFrame(rows, columns=["file", "class", "score", "x1", "y1", "x2", "y2"])


def _unused(path: Path, written: set[Path]) -> Path:
    """Returns the path, with a number if it was used before, and adds it to `written`."""
    name, number = path, 1
    while name in written:
        number += 1
        name = path.with_stem(f"{path.stem}_{number}")
    written.add(name)
    return name
