# SPDX-License-Identifier: BSD-3-Clause
"""The operators in use: a whole training step of a detector on each."""

import pytest
import torch

pytest.importorskip("jsonargparse", reason="detectors need the extra 'detection'")

from suites.perf.timed_step import time_step
from suites.perf.training_step import TrainingStep

SECONDS, ROUNDS = 1.0, 3


def test_step(benchmark, training_step, timer, rows):
    row = time_step(training_step, timer, SECONDS)
    step = TrainingStep(training_step, torch.device(timer.device))
    benchmark.group = "training step"
    benchmark.pedantic(step, warmup_rounds=1, rounds=ROUNDS)
    benchmark.extra_info.update(row)
    rows.steps.append(row)
