# SPDX-License-Identifier: BSD-3-Clause
"""Detectors of detectron2 and mmdetection as runs of ours."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tabulate import tabulate
from torch import Tensor

from dcnv2.convert.detectors.foreign import ForeignDetector, read_detector
from dcnv2.convert.detectors.origins import origin_of
from dcnv2.data import coco_names
from dcnv2.data.formats import voc
from dcnv2.engine.config import RunConfig, load_config, parse_values, to_yaml
from dcnv2.engine.config.loading import CONFIGS, is_weights_file, merge, pretrained, read_yaml
from dcnv2.engine.config.yaml_file import load_yaml
from dcnv2.engine.runtime.checkpoint import restore, save_checkpoint
from dcnv2.engine.runtime.checkpoint_files import check_finite
from dcnv2.engine.runtime.foreign_init import differences, fit_foreign
from dcnv2.engine.runtime.run_folder import describe
from dcnv2.models import build_model
from dcnv2.models.detector import Detector

log = logging.getLogger("dcnv2")

CONTENTS = ("config.yaml", "log.txt", "checkpoints/")


def convert_detector(source: Path, folder: Path) -> str:
    """Writes a run folder from a detector of another project.

    Args:
        source: a file of weights; detectron2's `config.yaml` next to it is read too.
        folder: the run folder to write, which must not exist.

    Returns:
        The table of tensors and conventions, which is also the run's `log.txt`.

    Raises:
        FileNotFoundError: the source or the folder above the target does not exist.
        FileExistsError: the target exists.
        ValueError: the source is no such detector; the message names what it is.
        OSError: the run could not be written; nothing is left of it.
    """
    _check_source(source)
    if folder.exists():
        raise FileExistsError(f"{folder} exists: choose another folder")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder.parent} is not a folder: create it, then convert again")
    detector = open_detector(source)
    config = run_config(detector, folder)
    model, meta = build(detector, config, source)
    text = report(detector, source)
    aside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        save_checkpoint(aside / "checkpoints", 0, model, {}, meta)
        config.output = "runs"  # wherever the folder is moved to
        (aside / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        (aside / "log.txt").write_text(f"{text}\n", encoding="utf-8")
        (aside / "README.md").write_text(describe(config, contents=CONTENTS), encoding="utf-8")
        aside.rename(folder)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{folder}: not written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return text


def _check_source(source: Path) -> None:
    """Raises an error for what is no file, and names runs and models of ours."""
    if source.is_file():
        return
    if str(source) in pretrained() or (source / "config.yaml").is_file():
        raise ValueError(f"{source} is a run already; `dcnv2 export-run` copies one")
    if source.is_dir():
        raise ValueError(f"{source} is a folder: wanted a file of weights in it")
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file of weights")
    raise ValueError(f"{source} is not a regular file")


def open_detector(path: Path) -> ForeignDetector:
    """Reads a whole detector of another project; see `open_foreign`.

    Raises:
        ValueError: also if the file has another origin, which the message names.
    """
    found = open_foreign(path)
    if isinstance(found, ForeignDetector) and found.whole:
        return found
    names = found.source_names.values() if isinstance(found, ForeignDetector) else found.keys()
    origin = origin_of(names)
    if origin is not None:
        raise ValueError(f"{path}: it looks like {origin.text}: {origin.taken}")
    raise ValueError(
        f"{path}: by its names, such as {min(names)}, no detector of detectron2 or mmdetection; "
        "`dcnv2 convert FILE NEW.safetensors` renames deformable layers in any file"
    )


def open_foreign(path: Path) -> ForeignDetector | dict[str, Tensor]:
    """Reads a file of weights, and converts a detector or backbone of another project.

    detectron2's `config.yaml` next to it, if there is one, is read too.

    Returns:
        The detector, or the tensors as they are if the file is of no such project.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: see `read_detector`; or a weight is not finite.
    """
    found = read_detector(path, _config_beside(path))
    check_finite(found.tensors if isinstance(found, ForeignDetector) else found, path)
    return found


def _config_beside(path: Path) -> dict[str, Any] | None:
    """The configuration that detectron2 wrote next to weights."""
    beside = path.parent / "config.yaml"
    found = load_yaml(beside) if beside.is_file() else {}
    if "MODEL" not in found:
        return None
    if "_BASE_" in found:
        raise ValueError(
            f"{beside}: builds on {found['_BASE_']}: put the complete file, which detectron2 "
            "writes to OUTPUT_DIR, next to the weights, or remove this one"
        )
    return found


def run_config(detector: ForeignDetector, folder: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Returns the configuration of a run of a whole detector, with our schedule for COCO."""
    topology = detector.options["backbone.topology"]
    values = read_yaml(CONFIGS / "base" / f"coco_{topology}.yaml")
    options = {**detector.options, "backbone.weights": None}
    values = merge(values, {"model": _nested(options)})
    values |= {"name": folder.name, "output": str(folder.parent)}
    return parse_values(values, overrides, detector.origin.text)


def _nested(options: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in options.items():
        *parents, leaf = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return nested


def build(
    detector: ForeignDetector, config: RunConfig, path: Path
) -> tuple[Detector, dict[str, Any]]:
    """Builds the model of a detector with its weights, and the metadata of a checkpoint of it.

    Raises:
        ValueError: a tensor is missing, of another size, or more than the model has.
    """
    model = build_model(config.model, pretrained=False)
    own = model.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    for name in sorted(own.keys() - counters | detector.tensors.keys()):
        theirs = detector.source_names.get(name, name)
        if name not in detector.tensors:
            raise ValueError(f"{path}: lacks {name} of {detector.origin.text}")
        if name not in own:
            raise ValueError(f"{path}: has {theirs}, which the model here lacks")
        shape, wanted = detector.tensors[name].shape, own[name].shape
        if shape != wanted:
            raise ValueError(f"{path}: {theirs} is {list(shape)}, wanted {list(wanted)}")
    model.load_state_dict(detector.tensors, strict=False)
    names = class_names(detector, config.model.num_classes)
    coco = tuple(names) == coco_names.NAMES
    ids = [*coco_names.IDS] if coco else [*range(1, len(names) + 1)]
    return model, {"classes": names, "category_ids": ids}


def class_names(detector: ForeignDetector, count: int) -> list[str]:
    """Returns the classes that the file names, else those of the set with as many, or numbers."""
    if detector.classes is not None and len(detector.classes) == count:
        return detector.classes
    known: dict[int, Sequence[str]] = {80: coco_names.NAMES, 20: voc.CLASSES}
    return list(known.get(count, [f"class_{number}" for number in range(1, count + 1)]))


def load_or_convert(
    source: str | Path, overrides: Sequence[str] = (), checkpoint: str | Path | None = None
) -> tuple[RunConfig, str | Path | None]:
    """Returns a configuration and its checkpoint, for `restore_any`.

    Args:
        source: as of `load_config`; or a detector's file of weights of another project, which is
            the checkpoint then, and whose conventions are the configuration.
        overrides: as of `load_config`.
        checkpoint: as of `restore`.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: see `open_detector` and `load_config`.
    """
    if not is_weights_file(source):
        return load_config(source, overrides), checkpoint
    if checkpoint is not None:
        raise ValueError(f"checkpoint: {source} is a file of weights, so it has no others")
    path = Path(source)
    return run_config(open_detector(path), path.with_suffix(""), overrides), path


def restore_any(
    config: RunConfig, checkpoint: str | Path | None, device: torch.device
) -> tuple[Detector, dict[str, Any]]:
    """Does what `restore` does, also for a detector's file of weights of another project.

    A warning names each option that is not as the weights were trained with.
    """
    if checkpoint is None or not is_weights_file(checkpoint):
        return restore(config, checkpoint, device)
    path = Path(checkpoint)
    detector = open_detector(path)
    for text in differences(detector, config.model):
        log.warning("%s: %s", path, text)
    fit_foreign(detector, {}, config.model)
    model, meta = build(detector, config, path)
    return model.to(device).eval(), {"step": 0, **meta}


def report(detector: ForeignDetector, path: Path, own: dict[str, Tensor] | None = None) -> str:
    """Returns a table of what was loaded, renamed and left out, and of the conventions.

    Args:
        detector: what was read.
        path: its file.
        own: the tensors of the model that it went into, where not all may fit.
    """
    rows = []
    for name, value in sorted(detector.tensors.items()):
        theirs, shape = detector.source_names.get(name), f"{list(value.shape)}"
        fits = own is None or (name in own and own[name].shape == value.shape)
        if theirs is None:
            rows.append(("added", "", f"{name} {shape}"))
        elif fits:
            rows.append(("loaded" if theirs == name else "renamed", theirs, f"{name} {shape}"))
        else:
            rows.append(("left out: does not fit", theirs, f"{name} {shape}"))
    rows += [("left out: not used here", name, "") for name in detector.left_out]
    missing = sorted((own or {}).keys() - detector.tensors.keys())
    rows += [("not in the file", "", name) for name in missing]
    rows += [(f"convention: {topic}", theirs, ours) for topic, theirs, ours in detector.conventions]
    table = tabulate(
        rows, ("what", "in the file", "here"), tablefmt="github", disable_numparse=True
    )
    return f"{path}: {detector.origin.text}\n{table}"
