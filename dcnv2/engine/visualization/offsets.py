# SPDX-License-Identifier: BSD-3-Clause
"""The pixels that an output of a trained network samples, with and without its offsets.

A few outputs of deformable convolutions are followed back to the image: three layers of 3x3 taps
make 729 samples of each. The layers between them (norms, shortcuts) move no samples and are
left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from dcnv2.data.whole_files import make_folder, replacing
from dcnv2.engine.evaluation.detections import predict
from dcnv2.models.detector import Detector
from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack

COLOURS = ("#ff9f1c", "#e71d36", "#2ec4b6")
DEPTH = 3


@dataclass(frozen=True)
class Sampling:
    """Where one layer has sampled for one image.

    `offset` [2*K, Ho, Wo] in (y, x) pairs and `mask` [K, Ho, Wo], of the first deform group; the
    geometry; and `scale`, image pixels a pixel of the layer's input.
    """

    offset: Tensor
    mask: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    scale: float

    def places(self, at: Tensor, deformed: bool) -> tuple[Tensor, Tensor]:
        """Samples behind outputs.

        Args:
            at: outputs, whole (y, x) inside the map: [P, 2].
            deformed: with the offsets and masks, or as a regular convolution.

        Returns:
            Their places in the input [P, K, 2] and their modulation [P, K].
        """
        y, x = at.long().unbind(1)
        (kh, kw), taps = self.kernel, self.kernel[0] * self.kernel[1]
        grid = torch.cartesian_prod(torch.arange(kh), torch.arange(kw)) * torch.tensor(
            self.dilation
        )
        start = at * torch.tensor(self.stride) - torch.tensor(self.padding)
        places = start.unsqueeze(1) + grid.unsqueeze(0).float()
        if not deformed:
            return places, torch.ones(len(at), taps)
        moved = self.offset[:, y, x].T.reshape(-1, taps, 2)
        return places + moved, self.mask[:, y, x].T


def trace(layers: Sequence[Sampling], at: tuple[int, int], deformed: bool) -> tuple[Tensor, Tensor]:
    """Follow one output of the last layer back to the input of the first.

    A sample between pixels of a layer in the middle is followed through the nearest pixel.

    Returns:
        Places (y, x) in the first layer's input [P, 2], and the product of the modulations [P].
    """
    places, weights = torch.tensor([at], dtype=torch.float32), torch.ones(1)
    for layer in reversed(layers):
        size = torch.tensor(layer.offset.shape[1:])
        nearest = places.round()
        inside = ((nearest >= 0) & (nearest < size)).all(1)
        found, modulation = layer.places(nearest[inside], deformed)
        places = found.flatten(0, 1)
        weights = (weights[inside].unsqueeze(1) * modulation).flatten()
    return places, weights


@torch.no_grad()
def record(
    model: Detector, image: Tensor, layer: str | None = None, depth: int = DEPTH
) -> tuple[list[Sampling], dict[str, Tensor]]:
    """Detect objects in a uint8 image [3, H, W], and keep how deformable layers sampled it.

    Args:
        model: a detector on the CPU.
        image: the picture.
        layer: name of the last layer that is kept, by default the backbone's last.
        depth: how many are kept, of those that end with it; at least 1.

    Returns:
        The layers in the order in which they ran, and the detections.

    Raises:
        ValueError: there is no such layer; the message lists those that there are. Or `depth` is
            less than 1.
    """
    if depth < 1:
        raise ValueError(f"depth: wanted at least 1 layer, got {depth}")
    kept: dict[str, Sampling] = {}
    inner: dict[str, tuple[int, ...]] = {}

    def remember(_transform: nn.Module, _inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        inner["batch"], inner["image"] = output[0].tensors.shape, output[0].image_sizes[0]

    def keep(name: str) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        def look(pack: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            taps = pack.kernel_size[0] * pack.kernel_size[1]
            offset, mask = pack.predict(inputs[0][:1])
            mask = offset.new_ones(1, taps, *offset.shape[2:]) if mask is None else mask
            geometry = (pack.kernel_size, pack.stride, pack.padding, pack.dilation)
            # From the map to the net's image, and from there to the picture as it was given.
            scale = inner["batch"][-1] / inputs[0].shape[-1] * image.shape[-1] / inner["image"][-1]
            kept[name] = Sampling(offset[0, : 2 * taps], mask[0, :taps], *geometry, scale)

        return look

    handles = [model.transform.register_forward_hook(remember)]
    for name, module in model.backbone.named_modules(prefix="backbone"):
        if isinstance(module, DeformConv2dPack | ModulatedDeformConv2dPack):
            handles.append(module.register_forward_hook(keep(name)))
    try:
        detections = predict(model, [image], torch.device("cpu"))[0]
    finally:
        for handle in handles:
            handle.remove()
    names = list(kept)
    if not names:
        raise ValueError("the model has no deformable convolution in its backbone")
    if layer is not None and layer not in kept:
        raise ValueError(f"{layer} is no deformable layer; there are {', '.join(names)}")
    end = len(names) if layer is None else names.index(layer) + 1
    return [kept[name] for name in names[max(end - depth, 0) : end]], detections


def choose_points(
    detections: dict[str, Tensor], size: tuple[int, int]
) -> list[tuple[float, float]]:
    """Centres (y, x) of the two surest objects, and the place farthest from every sure box."""
    sure = detections["boxes"][detections["scores"] > 0.5]
    centres = (sure[:, [1, 0]] + sure[:, [3, 2]]) / 2
    points = [tuple(centre.tolist()) for centre in centres[:2]]
    step = max(max(size) // 16, 1)
    rows, columns = (
        torch.arange(step, side - step, step) if side > 2 * step else torch.tensor([side // 2])
        for side in size
    )
    grid = torch.cartesian_prod(rows, columns).float()
    if len(sure):
        low, high = sure[:, [1, 0]], sure[:, [3, 2]]
        gap = torch.maximum(low - grid.unsqueeze(1), grid.unsqueeze(1) - high).clamp(min=0)
        grid = grid[gap.norm(dim=2).amin(1).argmax()].unsqueeze(0)
    points.append(tuple(grid[len(grid) // 2].tolist()))
    return points


def draw_offsets(
    model: Detector,
    images: Sequence[Tensor],
    path: Path,
    points: Sequence[tuple[float, float]] | None = None,
    layer: str | None = None,
    depth: int = DEPTH,
) -> None:
    """Write a picture: a row for each uint8 image [3, H, W], plain to the left, deformed right.

    Args:
        model: a detector on the CPU.
        images: the pictures.
        path: where to write it, a PNG unless the name ends as another format does.
        points: places (y, x) in pixels whose outputs are followed, by default two objects and the
            background.
        layer: see `record`, as for `depth`.
        depth: how many layers are followed.

    Raises:
        ValueError: as `record`, or a point is outside a picture.
        OSError: the file cannot be written.
    """
    figure = Figure(figsize=(7, 3.6 * len(images)), layout="constrained")
    panels = figure.subplots(len(images), 2, squeeze=False)
    for row, image in zip(panels, images, strict=True):
        _check_points(points or (), image)
        layers, detections = record(model, image, layer, depth)
        chosen = points or choose_points(detections, (image.shape[1], image.shape[2]))
        for panel, deformed in zip(row, (False, True), strict=True):
            _draw_panel(panel, image, layers, chosen, deformed)
    panels[0][0].set_title(f"regular sampling points, {len(layers)} layers", fontsize=10)
    panels[0][1].set_title("with learned offsets and masks", fontsize=10)
    make_folder(path.parent)
    with replacing(path) as aside:
        figure.savefig(aside, dpi=130, format=path.suffix[1:] or "png")


def _check_points(points: Sequence[tuple[float, float]], image: Tensor) -> None:
    height, width = image.shape[1:]
    for y, x in points:
        if not (0 <= y < height and 0 <= x < width):
            raise ValueError(f"point {x:g},{y:g}: outside the picture of {width} x {height} pixels")


def _draw_panel(
    panel: Axes,
    image: Tensor,
    layers: Sequence[Sampling],
    points: Sequence[tuple[float, float]],
    deformed: bool,
) -> None:
    panel.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    panel.set_axis_off()
    first, last = layers[0], layers[-1]
    size = last.offset.shape[1:]
    out_scale = last.scale * last.stride[0]
    for point, colour in zip(points, itertools.cycle(COLOURS), strict=False):
        row, column = (min(int(c / out_scale), n - 1) for c, n in zip(point, size, strict=True))
        at = (row, column)
        places, weights = trace(layers, at, deformed)
        y, x = ((places + 0.5) * first.scale - 0.5).numpy().T
        alpha: Any = (weights / weights.max()).clamp(0.08, 1).numpy()  # one a point
        panel.scatter(x, y, s=5, c=colour, alpha=alpha, linewidths=0)
        centre = [(c + 0.5) * out_scale - 0.5 for c in at]
        panel.plot(centre[1], centre[0], "o", color=colour, markersize=7, markeredgecolor="white")
    panel.set_xlim(-0.5, image.shape[2] - 0.5)
    panel.set_ylim(image.shape[1] - 0.5, -0.5)
