# SPDX-License-Identifier: BSD-3-Clause
"""From a checkpoint and an image file to a picture with boxes, masks and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.io import write_png
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.images import probe, read_rgb
from dcnv2.engine.checkpoint import restore
from dcnv2.engine.config import RunConfig
from dcnv2.engine.device import pick_device
from dcnv2.engine.evaluate import MASK_THRESHOLD

# Pictures are enlarged as long as their longer side stays within that many pixels.
READABLE_SIDE = 256
# Ten colours that stay apart on most backgrounds (matplotlib's tab10).
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)


@torch.no_grad()
def predict(model: nn.Module, images: Sequence[Tensor], device: torch.device) -> list[dict]:
    """Detections of uint8 images [3, H, W], on the CPU, best first.

    Returns:
        One dict an image: `boxes` [K, 4], `labels` [K], `scores` [K] and, from a model with masks,
        `masks` bool [K, H, W].
    """
    training = model.training
    model.eval()
    outputs = model([image.to(device).float() / 255 for image in images])
    model.train(training)
    results = []
    for output in outputs:
        result = {key: value.cpu() for key, value in output.items()}
        if "masks" in result:
            result["masks"] = result["masks"][:, 0] > MASK_THRESHOLD
        results.append(result)
    return results


def draw(
    image: Tensor, result: dict[str, Tensor], names: Sequence[str], threshold: float
) -> Tensor:
    """Draws detections from `threshold` on over a uint8 image [3, H, W].

    Args:
        image: the picture; a small one is enlarged in whole steps, so that labels can be read.
        result: as `predict` returns it; ground truth without `scores` is drawn whole.
        names: names of the classes 1, 2, ...
        threshold: least score.
    """
    times = max(1, READABLE_SIDE // max(image.shape[1:]))
    image = _enlarge(image, times)
    labels = result["labels"].tolist()
    scores = result["scores"].tolist() if "scores" in result else [None] * len(labels)
    chosen = [i for i, score in enumerate(scores) if score is None or score >= threshold]
    if not chosen:
        return image
    colours = [COLOURS[(labels[i] - 1) % len(COLOURS)] for i in chosen]
    texts = [
        names[labels[i] - 1] + ("" if scores[i] is None else f" {scores[i]:.2f}") for i in chosen
    ]
    if "masks" in result:
        masks = _enlarge(result["masks"][chosen].bool(), times)
        image = draw_segmentation_masks(image, masks, alpha=0.45, colors=colours)
    boxes = result["boxes"][chosen] * times
    return draw_bounding_boxes(
        image, boxes, texts, colors=colours, label_colors="white", fill_labels=True
    )


def _enlarge(planes: Tensor, times: int) -> Tensor:
    """[K, H, W] -> [K, times H, times W]."""
    return planes.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)


def prediction_sheet(
    model: nn.Module,
    dataset: DetectionDataset,
    indices: Sequence[int],
    config: RunConfig,
    device: torch.device,
) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures of a data set with predictions, and with the truth: uint8 [3, H, W] each."""
    files = [dataset.table.files[index] for index in indices]
    images = [torch.from_numpy(read_rgb(file)).permute(2, 0, 1) for file in files]
    results = [predict(model, [image], device)[0] for image in images]
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


def predict_files(
    config: RunConfig, files: Sequence[Path], out: Path, checkpoint: Path | None = None
) -> Iterator[tuple[Path, str]]:
    """Draws detections on image files.

    Args:
        config: the run.
        files: images; all are looked at before the first prediction.
        out: folder for `<name>.png`, made if missing; a name that recurs gets a number.
        checkpoint: by default the run's newest.

    Yields:
        The picture written, and what is on it in words.

    Raises:
        BadImageError: a file is missing or broken.
    """
    for file in files:
        probe(file)
    device = pick_device(config.device)
    model, meta = restore(config, checkpoint, device)
    out.mkdir(parents=True, exist_ok=True)
    written: set[Path] = set()
    for file in files:
        image = torch.from_numpy(read_rgb(file)).permute(2, 0, 1).contiguous()
        result = predict(model, [image], device)[0]
        threshold = config.eval.draw_threshold
        picture, number = out / f"{file.stem}.png", 1
        while picture in written:
            number += 1
            picture = out / f"{file.stem}_{number}.png"
        written.add(picture)
        write_png(draw(image, result, meta["classes"], threshold), str(picture))
        kept = [int(label) for label in result["labels"][result["scores"] >= threshold]]
        counts = Counter(meta["classes"][label - 1] for label in kept)
        words = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        yield picture, words or f"nothing scored {threshold:g} or more"
