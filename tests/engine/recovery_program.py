# SPDX-License-Identifier: BSD-3-Clause
"""Trains in children that are killed at random moments; see test_recovery.py.

Children are forked from a process that has imported everything, and has run nothing yet: a fresh
Python for each of them would spend most of its time on imports.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from toy_runs import killed_runs

from dcnv2 import doctor
from dcnv2.engine.runtime import checkpoint, checkpoint_files
from dcnv2.engine.training.train_step import TrainStep
from dcnv2.engine.training.trainer import train

MOMENTS = 10


def in_child(work: Callable[[], None], kill_after_s: float | None = None) -> int:
    """Forks and works in the child; kills it that long after its first update began, if at all.

    Returns:
        The child's exit status, negative for a signal.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        tell_when_updating(writing)
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    os.close(writing)
    if kill_after_s is not None:
        os.read(reading, 1)
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tell_when_updating(pipe: int) -> None:
    """Has the first update write to a pipe."""
    update = TrainStep.update

    def telling(self, *batch):
        TrainStep.update = update
        os.write(pipe, b".")
        return update(self, *batch)

    TrainStep.update = telling


def deadly_checkpoints(calls: int) -> None:
    """Kills this process at the given call of what writes, syncs or renames a checkpoint."""
    left = [calls]

    def deadly(function):
        def called(*operands, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*operands, **options)

        return called

    for module, name in (
        (checkpoint, "_save_weights"),
        (checkpoint, "_sync"),
        (checkpoint_files, "_digest"),
    ):
        setattr(module, name, deadly(getattr(module, name)))
    checkpoint.torch.save = deadly(torch.save)
    Path.rename = deadly(Path.rename)
    checkpoint.shutil.rmtree = deadly(checkpoint.shutil.rmtree)


def main(root: Path, output: Path) -> None:
    """Trains once without and once with interruptions, and notes what happened."""
    torch.set_num_threads(1)
    doctor.report()  # reads the sources of csrc/ once, for all children
    whole, cut = killed_runs(root, output)
    began = time.monotonic()
    assert in_child(lambda: train(whole)) == 0
    duration_s = time.monotonic() - began

    draw = random.Random(0)
    statuses, newest = [], []
    for moment in range(2 * MOMENTS):
        if moment % 2:
            after_s = draw.uniform(0, 3 * duration_s / whole.train.steps)
            statuses.append(in_child(lambda: train(cut, "auto"), after_s))
        else:
            calls = draw.randint(1, 30)

            def work(calls=calls):
                deadly_checkpoints(calls)
                train(cut, "auto")

            statuses.append(in_child(work))
        found = checkpoint.last_checkpoint(cut.folder / "checkpoints")
        newest.append(found.name if found else None)
    last = in_child(lambda: train(cut, "auto"))
    notes = {"statuses": statuses, "newest": newest, "last": last}
    (output / "notes.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
