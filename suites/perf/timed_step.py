# SPDX-License-Identifier: BSD-3-Clause
"""Times a step of training or inference, many steps in a row as a training loop makes them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dcnv2.models.graphs import EAGER_RUNS
from suites.perf.device_activity import device_activity
from suites.perf.device_timer import DeviceTimer, percentiles
from suites.perf.inference_step import InferenceStep
from suites.perf.step_case import INFERENCE, StepCase
from suites.perf.training_step import TrainingStep

WARM_UP_STEPS, FEWEST_RUNS = EAGER_RUNS + 2, 3
# Without a wait between them, as the host's work for a step may overlap the device's for the last.
STEPS_IN_A_ROW = 6


def time_step(
    case: StepCase, timer: DeviceTimer, seconds: float, activity: bool = False
) -> dict[str, Any]:
    """Build the step of a case and time it.

    Args:
        case: What to time.
        timer: The clock of the device to run on.
        seconds: Approximate duration of all timed steps.
        activity: Whether to profile a GPU, too.

    Returns:
        A row: the case, its loss (in inference the sum of the scores), p20, p50 and p80 of a step
        in ms by the host's clock, images per second, and on a GPU the peak of memory in GiB and
        what `device_activity` returns, with `gpu_share`, the share of the time that the GPU works.

    Raises:
        FloatingPointError: A loss is not finite.
    """
    device = torch.device(timer.device)
    if timer.gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    step = (InferenceStep if case.mode == INFERENCE else TrainingStep)(case, device)
    losses = [step().item() for _ in range(WARM_UP_STEPS)]
    times, runs = timer.wall_times_ms(lambda: _in_a_row(step), seconds, FEWEST_RUNS)
    losses += [loss for run in runs for loss in run]
    if not all(map(math.isfinite, losses)):
        raise FloatingPointError(f"{case}: losses are {losses}")
    p20, p50, p80 = percentiles([time / STEPS_IN_A_ROW for time in times])
    peak_gib = torch.cuda.max_memory_allocated(device) / 2**30 if timer.gpu else math.nan
    row = {
        "config": case.config,
        "operator": case.operator,
        "precision": case.precision,
        "batch": case.batch,
        **step.facts,
        "loss": losses[0],
        "steps": len(times) * STEPS_IN_A_ROW,
        "p20_ms": p20,
        "p50_ms": p50,
        "p80_ms": p80,
        "images_s": 1e3 * case.batch / p50,
        "peak_GiB": peak_gib,
    }
    if activity and timer.gpu:
        row |= device_activity(step, STEPS_IN_A_ROW)
        row["gpu_share"] = row["gpu_ms"] / p50
    return row


def _in_a_row(step: TrainingStep | InferenceStep) -> list[float]:
    """Run steps, reading each loss one step late."""
    before: Tensor | None = None
    losses = []
    for _ in range(STEPS_IN_A_ROW):
        loss = step()
        if before is not None:
            losses.append(before.item())
        before = loss
    assert before is not None
    return [*losses, before.item()]
