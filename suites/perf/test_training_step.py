# SPDX-License-Identifier: BSD-3-Clause
"""What the operators cost where they are used: a whole training step of a detector."""

import pytest
import torch

pytest.importorskip("jsonargparse", reason="detectors need the extra 'detection'")

from suites.perf.step_case import WARM_UP_STEPS, build_step

ROUNDS = 10


def test_step(benchmark, training_step, gauge, rows):
    step, facts = build_step(training_step, torch.device(gauge.device))

    def to_the_end() -> float:
        loss = step()
        gauge.synchronize()
        return loss

    benchmark.group = "training step"
    loss = benchmark.pedantic(to_the_end, warmup_rounds=WARM_UP_STEPS, rounds=ROUNDS)
    assert loss - loss == 0, "the loss is finite"
    row = {"config": training_step.config, "operator": training_step.operator}
    row |= {"batch": training_step.batch, **facts, "p50_ms": 1e3 * benchmark.stats.stats.median}
    benchmark.extra_info.update(row)
    rows.steps.append(row)
