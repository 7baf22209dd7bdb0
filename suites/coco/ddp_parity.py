# SPDX-License-Identifier: BSD-3-Clause
"""Parity of distributed training: two ranks with half of every batch each, and one with all of it.

`python -m suites.coco.ddp_parity CONFIG --key=value ...`, by itself or under torchrun, is
`dcnv2 train` in float64. Rounding in float64 is too small to change the choice of a proposal, so
the two runs must agree step by step; in float32, sums in another order would let them diverge.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from dcnv2.data.shapes import CLASSES
from dcnv2.engine.config import load_config
from dcnv2.engine.runtime.distributed import init_distributed
from dcnv2.engine.training.trainer import Trainer
from suites.coco.runs import Launch, compare_runs

# Without masks: their loss is a mean over the positive boxes, whose number differs by rank.
WORDS = {
    "model.num_classes": len(CLASSES),
    "model.mask.enabled": "false",
    "optim.name": "sgd",
    "optim.lr": 0.01,
    "optim.warmup_steps": 0,
    "train.log_every": 1,
}
BATCH = 8
# Largest relative difference of the loss at any step.
SAME_LOSS = 1e-6


def parity_run(options: argparse.Namespace, config: str) -> dict[str, float | bool]:
    """Train on one rank and, at the same time, on two; return their differences.

    Args:
        options: Have `parity_steps`, the `folder` with the data set, the `device` and `seconds`.
        config: Name of a configuration.

    Raises:
        RuntimeError: A run failed; the message has the end of its output.
    """
    words = {
        **WORDS,
        "data.root": options.folder / "resumed",
        "train.steps": options.parity_steps,
        "train.batch_size": BATCH,
    }
    program = "suites.coco.ddp_parity"
    one = Launch(options, config, {**words, "name": "one"}, program=(program,))
    two = Launch(options, config, {**words, "name": "two"}, ranks=2, program=(program,))
    process = one.start()
    try:
        two.run()
        one.finish(process)
    finally:
        process.kill()
    return {"steps": options.parity_steps, "batch": BATCH, **compare_runs(one.folder, two.folder)}


def main(words: Sequence[str] | None = None) -> None:
    """Train as configured, in float64."""
    source, *overrides = sys.argv[1:] if words is None else words
    config = load_config(source, overrides)
    torch.set_default_dtype(torch.float64)
    with init_distributed(config.device, config.train.timeout_minutes) as comm:
        trainer = Trainer(config, comm=comm)
        trainer.model.register_forward_pre_hook(
            lambda _, inputs: ([image.double() for image in inputs[0]], *inputs[1:])
        )
        trainer.run()


if __name__ == "__main__":
    main()
