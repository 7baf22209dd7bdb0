# SPDX-License-Identifier: BSD-3-Clause
"""Exports a run in a form small enough to share: the model, and the records of its training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dcnv2.engine.config import RunConfig, to_yaml
from dcnv2.engine.runtime.checkpoint import checkpoint_name, restore
from dcnv2.engine.runtime.checkpoint_files import META, WEIGHTS, write_checksums
from dcnv2.engine.runtime.run_folder import describe

RECORDS = ("log.txt", "metrics.csv", "eval.csv", "eval_classes.csv")


def export_run(config: RunConfig, out: Path, checkpoint: str | Path | None = None) -> Path:
    """Writes a run folder with one checkpoint in half precision, for inference only.

    A tensor with values beyond the range of half precision stays as it is.

    Args:
        config: the run.
        out: folder to write, which must not exist. Its name becomes the run's name.
        checkpoint: `best`, `last` (the default) or a folder. Averaged weights are preferred.

    Returns:
        `out`.

    Raises:
        FileExistsError: `out` exists.
        OSError: the folder could not be written, for example on a full disk; nothing is left of it.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists: choose another folder")
    model, meta = restore(config, checkpoint, torch.device("cpu"))
    aside = out.with_name(f".{out.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write(aside, out, config, model, meta)
        aside.rename(out)
    except (OSError, SafetensorError) as error:  # safetensors has a type of its own
        raise OSError(f"{out}: not written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def _write(
    folder: Path, out: Path, config: RunConfig, model: nn.Module, meta: dict[str, Any]
) -> None:
    """Writes the files to a folder that will be renamed to `out`."""
    target = folder / "checkpoints" / checkpoint_name(meta["step"])
    target.mkdir(parents=True)
    weights = {key: _halved(value).contiguous() for key, value in model.state_dict().items()}
    save_file(weights, target / WEIGHTS)
    meta.pop("meter", None)
    (target / META).write_text(json.dumps(meta, indent=1))
    write_checksums(target)
    for name in RECORDS:
        if (config.folder / name).is_file():
            shutil.copyfile(config.folder / name, folder / name)
    results = folder / "eval.csv"
    row = pd.read_csv(results).tail(1) if results.is_file() else None
    config.output, config.name = str(out.parent), out.name
    contents = ("config.yaml", "checkpoints/", *RECORDS)
    (folder / "README.md").write_text(describe(config, row, contents), encoding="utf-8")
    config.output = "runs"
    config.eval.expected = {}  # users will evaluate it on other data
    (folder / "config.yaml").write_text(to_yaml(config))


def _halved(value: Tensor) -> Tensor:
    """Returns floating-point values as float16 where that has them all."""
    if not value.is_floating_point() or (value.abs() > torch.finfo(torch.half).max).any():
        return value
    return value.half()
