# SPDX-License-Identifier: BSD-3-Clause
"""Trains several configurations on two ranks in one launch; see test_distributed.py."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from rerun import Rerun
from toy_runs import rank_runs

from dcnv2.engine.runtime.distributed import init_distributed
from dcnv2.engine.runtime.signals import RunStoppedError
from dcnv2.engine.training import trainer as trainer_module
from dcnv2.engine.training.nonfinite import NonFiniteLossError
from dcnv2.engine.training.train_step import TrainStep
from dcnv2.engine.training.trainer import RunFailedError, Trainer
from dcnv2.models import graphs


def main(root: Path, output: Path) -> None:
    """Trains the runs, and writes what happened on each rank."""
    notes = {}
    with init_distributed("cpu", timeout_minutes=1) as comm:
        for name, config in rank_runs(root, output).items():
            with recording(name == "recorded"):
                trainer = Trainer(config, comm=comm)
            spoil(trainer, name)
            try:
                row = trainer.run()
                notes[name] = {"images": int(row["images"].item())}
            except (NonFiniteLossError, RunFailedError, RunStoppedError, OSError) as error:
                notes[name] = {"error": type(error).__name__, "text": str(error)}
            notes[name]["step"] = trainer.step
            steps = trainer.train_step.graphs
            notes[name]["recordings"] = 0 if steps is None else len(steps._cache._kept)
            total = sum(p.detach().double().abs().sum() for p in trainer.model.parameters())
            notes[name]["weights"] = float(total)
        (output / f"rank_{comm.rank}.json").write_text(json.dumps(notes))


@contextlib.contextmanager
def recording(wanted: bool) -> Iterator[None]:
    """Has trainers that are made meanwhile record their steps, as on a GPU, from the first one."""
    real = TrainStep._recorder
    if wanted:
        graphs.EAGER_RUNS = 0
        TrainStep._recorder = lambda _: Rerun
    yield
    TrainStep._recorder = real


def spoil(trainer: Trainer, name: str) -> None:
    """Has something go wrong on rank 1 alone."""
    if trainer.comm.rank == 0:
        return
    update = trainer.train_step.update

    def troubled(images, targets):
        if trainer.step == 1 and name in ("stop", "skip"):
            images = [image * float("nan") for image in images]
        if trainer.step == 1 and name == "lost":
            trainer_module._load = lambda _: (None, 0.0, OSError("data are lost"))
        if trainer.step == 1 and name == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        return update(images, targets)

    trainer.train_step.update = troubled


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
