# SPDX-License-Identifier: BSD-3-Clause
"""Initial weights: from a run, a file of detectron2 or mmdetection, or of maskrcnn-benchmark.

Old checkpoints are pickles; they are read with `weights_only`, which runs no code. Their names are
those of maskrcnn-benchmark and of projects that build on it. Its detectors take BGR in 0 to 255
minus a mean, so the first kernel's channels are reversed; with `model.image_mean: [0.4815, 0.4547,
0.4038]` and `model.image_std: [0.003922, 0.003922, 0.003922]` the input is then the same. Its boxes
have a width of x2 - x1 + 1, so results are close to the old ones but not equal.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from torch import Tensor, nn

from dcnv2.convert.detectors.foreign import ForeignDetector
from dcnv2.convert.detectors.renaming import Rules, apply_rules, shift
from dcnv2.engine.config import pretrained
from dcnv2.engine.runtime.checkpoint import as_checkpoint, last_checkpoint
from dcnv2.engine.runtime.checkpoint_files import AVERAGE, WEIGHTS, damage
from dcnv2.engine.runtime.foreign import open_foreign, report
from dcnv2.engine.runtime.foreign_init import differences, fit_foreign
from dcnv2.models import ModelConfig

log = logging.getLogger("dcnv2")

# maskrcnn-benchmark's names as ours.
MASKRCNN_BENCHMARK: Rules = (
    (r"^module\.", ""),
    (r"^backbone\.body\.stem\.", "backbone.body."),
    (r"(layer\d\.\d+\.conv2)\.conv\.", r"\1."),
    (r"(layer\d\.\d+\.conv2)\.(?:offset|conv_offset_mask)\.", r"\1.conv_offset."),
    (r"^rpn\.head\.conv\.(?=weight|bias)", "rpn.head.conv.0.0."),
    (r"^roi_heads\.box\.feature_extractor\.head\.", "roi_heads.box_head."),
    (r"^roi_heads\.box\.feature_extractor\.", "roi_heads.box_head."),
    (r"^roi_heads\.box\.predictor\.", "roi_heads.box_predictor."),
    (r"^roi_heads\.mask\.predictor\.", "roi_heads.mask_predictor."),
    (r"^backbone\.fpn\.fpn_inner(\d)\.", shift("backbone.fpn.inner_blocks.{0}.0.", 1)),
    (r"^backbone\.fpn\.fpn_layer(\d)\.", shift("backbone.fpn.layer_blocks.{0}.0.", 1)),
    (
        r"^roi_heads\.mask\.feature_extractor\.mask_fcn(\d)\.",
        shift("roi_heads.mask_head.{0}.0.", 1),
    ),
)
# Buffers that our modules compute.
DROPPED = re.compile(r"anchor_generator\.cell_anchors|num_batches_tracked$")


def rename(name: str) -> str:
    """Returns our name for one of maskrcnn-benchmark's."""
    return apply_rules(name, [MASKRCNN_BENCHMARK])


def read_weights(path: Path) -> ForeignDetector | dict[str, Tensor]:
    """Reads weights under our names.

    Args:
        path: a run folder, a checkpoint folder, the name of a model of the package, a
            `.safetensors` file, an old `.pth`, or a file of detectron2 or mmdetection.

    Returns:
        The weights; of detectron2's or mmdetection's file with what else is known of them.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the file is damaged, holds no weights, values that are not finite, or objects
            besides weights and plain values.
    """
    if not path.is_file():
        path = _weights_of_checkpoint(path)
    found = open_foreign(path)
    if isinstance(found, ForeignDetector) or path.suffix == ".safetensors":
        return found
    named = {rename(key): value for key, value in found.items() if not DROPPED.search(key)}
    if any(".stem." in key for key in found):
        named["backbone.body.conv1.weight"] = named["backbone.body.conv1.weight"].flip(1)
    return named


def _weights_of_checkpoint(place: Path) -> Path:
    """The file of weights of a checkpoint, or of a run's or a packaged model's newest."""
    if not place.exists() and str(place) not in pretrained():
        raise FileNotFoundError(f"{place}: no such file of weights")
    folder = last_checkpoint(place / "checkpoints") or as_checkpoint(place)
    files = [folder / name for name in (AVERAGE, WEIGHTS) if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(f"{place}: holds no intact checkpoint")
    fault = damage(folder)
    if fault is not None:
        raise ValueError(f"{folder}: {fault}")
    return files[0]


def load_init_weights(
    path: str | Path, model: nn.Module, config: ModelConfig | None = None
) -> tuple[list[str], list[str]]:
    """Loads the weights whose names and shapes match the model's, and logs the others.

    Files of detectron2 and mmdetection are fitted to the pixel scale of the model, and a table of
    their tensors and conventions is logged, with a warning of options that differ from what the
    weights were trained with.

    Args:
        path: see `read_weights`.
        model: takes the weights.
        config: of the model.

    Returns:
        Names of the model's tensors that were not loaded, and of the file's that were not used.

    Raises:
        ValueError: no tensor fits. See `read_weights` for others.
    """
    path, own = Path(path), model.state_dict()
    found = read_weights(path)
    if isinstance(found, ForeignDetector):
        weights = fit_foreign(found, own, config or ModelConfig())
    else:
        weights = found
    fitting = {
        key: value for key, value in weights.items() if key in own and own[key].shape == value.shape
    }
    if not fitting:
        raise ValueError(f"{path}: none of its {len(weights)} tensors fits this model")
    missing, unused = sorted(own.keys() - fitting.keys()), sorted(weights.keys() - fitting.keys())
    model.load_state_dict(fitting, strict=False)
    log.info("%s: loaded %d of %d tensors", path, len(fitting), len(own))
    if isinstance(found, ForeignDetector):
        log.info("%s", report(found, path, own))
        for text in differences(found, config or ModelConfig()):
            log.warning("%s: %s", path, text)
        return missing, unused
    for text, names in (("not loaded", missing), ("not used", unused)):
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            log.info("%d tensors are %s: %s", len(names), text, shown)
    return missing, unused
