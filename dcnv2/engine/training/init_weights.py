# SPDX-License-Identifier: BSD-3-Clause
"""Initial weights: from a run, or from an old checkpoint in maskrcnn-benchmark's format.

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

from dcnv2.convert.weight_files import load_weights
from dcnv2.engine.runtime.checkpoint import last_checkpoint
from dcnv2.engine.runtime.checkpoint_files import AVERAGE, WEIGHTS, check_finite, damage

log = logging.getLogger("dcnv2")

# Patterns of old names and their replacements, applied in this order.
RENAMES = (
    (r"^module\.", ""),
    (r"^backbone\.body\.stem\.", "backbone.body."),
    (r"(layer\d\.\d+\.conv2)\.conv\.", r"\1."),
    (r"(layer\d\.\d+\.conv2)\.(?:offset|conv_offset_mask)\.", r"\1.conv_offset."),
    (r"^rpn\.head\.conv\.(?=weight|bias)", "rpn.head.conv.0.0."),
    (r"^roi_heads\.box\.feature_extractor\.head\.", "roi_heads.box_head."),
    (r"^roi_heads\.box\.feature_extractor\.", "roi_heads.box_head."),
    (r"^roi_heads\.box\.predictor\.", "roi_heads.box_predictor."),
    (r"^roi_heads\.mask\.predictor\.", "roi_heads.mask_predictor."),
)
COUNTED = (
    (r"^backbone\.fpn\.fpn_inner(\d)\.", "backbone.fpn.inner_blocks.{}.0."),
    (r"^backbone\.fpn\.fpn_layer(\d)\.", "backbone.fpn.layer_blocks.{}.0."),
    (r"^roi_heads\.mask\.feature_extractor\.mask_fcn(\d)\.", "roi_heads.mask_head.{}.0."),
)
# Buffers that our modules compute.
DROPPED = re.compile(r"anchor_generator\.cell_anchors|num_batches_tracked$")


def rename(name: str) -> str:
    """Returns our name for one of maskrcnn-benchmark's."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    for pattern, template in COUNTED:
        found = re.search(pattern, name)
        if found:
            name = re.sub(pattern, template.format(int(found[1]) - 1), name)
    return name


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads weights under our names.

    Args:
        path: a run folder, a checkpoint folder, a `.safetensors` file, or an old `.pth`.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the file is damaged, holds no weights, values that are not finite, or objects
            besides weights and plain values.
    """
    if path.is_dir():
        folder = last_checkpoint(path / "checkpoints") or path
        files = [folder / name for name in (AVERAGE, WEIGHTS) if (folder / name).is_file()]
        if not files:
            raise FileNotFoundError(f"{path}: holds no intact checkpoint")
        fault = damage(folder)
        if fault is not None:
            raise ValueError(f"{folder}: {fault}")
        path = files[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    old = load_weights(path)
    check_finite(old, path)
    if path.suffix == ".safetensors":
        return old
    named = {rename(key): value for key, value in old.items() if not DROPPED.search(key)}
    if any(".stem." in key for key in old):
        named["backbone.body.conv1.weight"] = named["backbone.body.conv1.weight"].flip(1)
    return named


def load_init_weights(path: str | Path, model: nn.Module) -> tuple[list[str], list[str]]:
    """Loads the weights whose names and shapes match the model's, and logs the others.

    Returns:
        Names of the model's tensors that were not loaded, and of the file's that were not used.

    Raises:
        ValueError: no tensor fits. See `read_weights` for others.
    """
    weights, own = read_weights(Path(path)), model.state_dict()
    fitting = {
        key: value for key, value in weights.items() if key in own and own[key].shape == value.shape
    }
    if not fitting:
        raise ValueError(f"{path}: none of its {len(weights)} tensors fits this model")
    missing, unused = sorted(own.keys() - fitting.keys()), sorted(weights.keys() - fitting.keys())
    model.load_state_dict(fitting, strict=False)
    log.info("%s: loaded %d of %d tensors", path, len(fitting), len(own))
    for text, names in (("not loaded", missing), ("not used", unused)):
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            log.info("%d tensors are %s: %s", len(names), text, shown)
    return missing, unused
