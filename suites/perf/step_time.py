# SPDX-License-Identifier: BSD-3-Clause
"""Times of whole detectors: steps of training, and inference.

`python -m suites.perf.step_time` writes reports/step_time.*, on a GPU in the folder of its model.
The sets `detectors` and `inference` measure torchvision's Mask R-CNN and ours at 800 x 1216 pixels.
The set `operators` takes one detector, a Mask R-CNN with FPN and ResNet-50, at the same size and
batch 8, with modulated deformable convolutions in conv3 to conv5 on each operator, and with regular
ones. The set `configs` resizes images of 480 x 640 to the paper's shorter side of 1000 pixels,
whatever the size in a configuration. All run in channels_last, by default under bfloat16 autocast;
training is forward, backward and the optimiser's update. The report names the cases that did not
fit into the time or the memory; `--add` measures those that had no time and keeps the others.

Exits with 1 if two operators disagree on a detector's loss, or if a case failed for another reason
than lack of time or memory.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dcnv2.engine.runtime.device import pick_device
from suites.perf.device_timer import DeviceTimer
from suites.perf.step_case import StepCase
from suites.perf.step_sets import (
    CONFIGS,
    OPERATOR_BATCH,
    OPERATOR_SIDE,
    config_cases,
    detector_cases,
    inference_cases,
    operator_cases,
)
from suites.perf.step_tables import MEASURED, config_table, detector_table, operator_table
from suites.perf.timed_step import time_step
from suites.reporting.folders import report_dir
from suites.reporting.provenance import PROVENANCE, provenance, read_provenance
from suites.reporting.report import write_report

NAME = "step_time"
SETS = ("detectors", "inference", "operators", "configs")
# Status of a case that was not measured; an error has its own text.
NO_TIME, NO_MEMORY = "no time left", "out of memory"
# Largest relative difference of the loss: bfloat16 may change the choice of a few proposals.
SAME_LOSS = 0.05

_ABOUT = """\
A step of training is forward, backward and update; of inference, detections with masks pasted into
the images. Six steps in a row, whose losses are read one step late, are timed by the host's clock
between two synchronizes. Weights are random, offsets have a standard deviation of 1.5 pixels. In
training, proposals include as many near the objects as a trained RPN finds; in inference, 300 of
1000 proposals have the score of an object. Reading images is not part of a step. `input` is the
size of the padded batch, `GiB` the peak of allocated memory. `GPU at work` is the share of the time
in which a kernel or a copy runs, `launches` counts kernels and graphs that the host starts in a
step, and `waits` how often it waits for the GPU."""


def measure(
    cases: Sequence[StepCase],
    device: torch.device,
    seconds: float,
    until: float,
    activity: bool = False,
) -> list[dict]:
    """Time cases in order.

    Args:
        cases: What to time.
        device: Where to run.
        seconds: Duration of the timed steps of a case.
        until: No case begins after this reading of `time.monotonic`.
        activity: Whether to profile a GPU, too.

    Returns:
        A row per case; `status` is `measured`, or the reason why it was not.
    """
    timer = DeviceTimer(str(device))
    rows = []
    for case in cases:
        row = {"config": case.config, "operator": case.operator, "precision": case.precision}
        row |= {"batch": case.batch, "side": case.side, "status": MEASURED}
        if time.monotonic() > until:
            rows.append({**row, "status": NO_TIME})
            continue
        try:
            row |= time_step(case, timer, seconds, activity)
        except torch.OutOfMemoryError:
            row["status"] = NO_MEMORY
        except (RuntimeError, ArithmeticError) as error:
            # The other rows are still reported. Some libraries raise this for lack of memory, too.
            row["status"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        gc.collect()
        took = f"{row['p50_ms']:.1f} ms" if row["status"] == MEASURED else row["status"]
        print(f"{_name(row)}: {took}", flush=True)
        rows.append(row)
    return rows


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['config']} on {row['operator']}, batch {row['batch']}"


def earlier_rows(path: Path) -> tuple[pd.DataFrame, str]:
    """Rows of an existing report on the same sources, machine and torch.

    Returns:
        The rows without those that had no time or failed, and the commit of the report.

    Raises:
        ValueError: The report has another provenance.
    """
    before, now = read_provenance(path), provenance()
    alike = ("csrc_digest", "cpu" if now["gpu"] == "none" else "gpu", "torch", "torchvision")
    other = [key for key in alike if before.get(key) != now[key]]
    if other:
        raise ValueError(f"{path}: cannot add rows, it has another {' and '.join(other)}")
    rows = pd.read_csv(path).drop(columns=list(PROVENANCE))
    return rows[rows["status"].isin([MEASURED, NO_MEMORY])], before["commit"]


def without_earlier(cases: Sequence[StepCase], rows: pd.DataFrame, name: str) -> list[StepCase]:
    """The cases of a set that an earlier report does not have."""
    keys = ["config", "operator", "precision", "batch", "side"]
    of_set = rows[rows["set"] == name] if len(rows) else rows
    known = set(of_set[keys].itertuples(index=False, name=None)) if len(of_set) else set()
    return [case for case in cases if tuple(getattr(case, key) for key in keys) not in known]


def disagreements(rows: pd.DataFrame) -> list[str]:
    """A sentence if the loss on torchvision's operator differs from the loss on ours."""
    loss = rows[rows["status"] == MEASURED].set_index("operator")["loss"]
    if not {"dcnv2", "torchvision"} <= set(loss.index):
        return []
    ours, theirs = loss["dcnv2"], loss["torchvision"]
    if abs(ours - theirs) <= SAME_LOSS * abs(theirs):
        return []
    return [f"loss: {ours:.4g} on dcnv2, {theirs:.4g} on torchvision"]


def main(words: Sequence[str] | None = None) -> int:
    """Measure and write the report; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m suites.perf.step_time", description=__doc__)
    parser.add_argument("--set", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=(2, 8), help="for configs")
    parser.add_argument("--operator-batch", type=int, default=OPERATOR_BATCH)
    parser.add_argument("--side", type=int, help="in pixels (default: 800, configs: 1000)")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=0.7, help="of timed steps per case")
    parser.add_argument("--budget", type=float, default=200.0, help="seconds to begin cases in")
    parser.add_argument(
        "--reports",
        type=Path,
        help="default: reports/, or the GPU's folder in it",
    )
    parser.add_argument("--add", action="store_true", help="add to the existing report")
    options = parser.parse_args(words)
    device, until = pick_device(options.device), time.monotonic() + options.budget

    side, precision = options.side or OPERATOR_SIDE, options.precision
    cases = {
        "detectors": detector_cases(side, precision),
        "inference": inference_cases(side, precision),
        "operators": operator_cases(options.operator_batch, side, precision),
        "configs": config_cases(options.configs, options.batches, options.side or 1000, precision),
    }
    directory = options.reports or report_dir(str(device))
    parts, commits = [pd.DataFrame()], [provenance()["commit"]]
    report = directory / f"{NAME}.csv"
    if options.add and report.is_file():
        parts[0], commit = earlier_rows(report)
        commits = list(dict.fromkeys([commit, *commits]))
    for name in options.set:
        missing = without_earlier(cases[name], parts[0], name)
        measured = measure(missing, device, options.seconds, until, activity=name != "configs")
        parts.append(pd.DataFrame(measured))
        parts[-1]["set"] = name
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True)
    faults = [
        f"{_name(row)}: {row['status']}"
        for row in rows.to_dict("records")
        if row["status"] not in (MEASURED, NO_MEMORY, NO_TIME)
    ]
    if (rows["status"] == MEASURED).any():
        write(rows, directory, provenance() | {"commit": " + ".join(commits)})
    else:
        faults.append("nothing was measured")
    operators = rows[rows["set"] == "operators"]
    faults += disagreements(operators) if (operators["status"] == MEASURED).any() else []
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def write(rows: pd.DataFrame, directory: Path, origin: Mapping[str, str]) -> None:
    """Write the report."""
    sections: dict[str, pd.DataFrame | str] = {}
    detectors, inference, operators, configs = (rows[rows["set"] == name] for name in SETS)
    for title, of_set, table in (
        ("Training, beside torchvision's Mask R-CNN", detectors, detector_table),
        ("Inference, beside torchvision's Mask R-CNN", inference, detector_table),
        ("One detector on several operators", operators, operator_table),
    ):
        if (of_set["status"] == MEASURED).any():
            sections[title] = table(of_set)
    if len(configs):
        side = configs["side"].iloc[0]
        sections[f"Configurations at {side} pixels"] = config_table(configs)
    headline = next(iter(sections.values()))
    sections["How it was measured"] = _ABOUT
    left_out = rows[rows["status"] != MEASURED].to_dict("records")
    if left_out:
        sections["Not measured"] = "\n".join(f"- {_name(row)}: {row['status']}" for row in left_out)
    write_report(
        NAME,
        rows,
        title="Whole detectors",
        headline=headline,
        sections=sections,
        directory=directory,
        origin=origin,
    )


if __name__ == "__main__":
    sys.exit(main())
