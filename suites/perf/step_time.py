# SPDX-License-Identifier: BSD-3-Clause
"""Times of whole training steps: of the configurations, and of one detector on several operators.

`python -m suites.perf.step_time` writes reports/step_time.*, on a GPU in the folder of its model.
The set `configs` resizes images of 480 x 640 to the paper's shorter side of 1000 pixels, whatever
the size in a configuration. The set `operators` takes a Mask R-CNN with FPN and ResNet-50 at
800 x 1216 pixels and batch 8, with modulated deformable convolutions in conv3 to conv5 on each
operator, and with regular ones. All run forward, backward and the optimiser's update in
channels_last, by default under bfloat16 autocast. The report names the cases that did not fit into
the time or the memory; `--add` measures those that had no time and keeps the others.

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
from suites.perf.training_step import time_step
from suites.reporting.folders import report_dir
from suites.reporting.provenance import PROVENANCE, provenance, read_provenance
from suites.reporting.report import write_report

NAME = "step_time"
SETS = ("operators", "configs")
# Status of a case; an error has its own text.
MEASURED, NO_TIME, NO_MEMORY = "measured", "no time left", "out of memory"
# The most important first, since time may run out: the ends of the paper's ablation and what users
# train, the rest of the ablation, the large backbones, all other detectors.
CONFIGS = (
    *("mask_rcnn/r50_c5", "mask_rcnn/r50_c5_mdconv_c3-c5_mdpool"),
    *("mask_rcnn/r50_c5_mdconv_c3-c5_mdpool_mimic", "mask_rcnn/r50_fpn"),
    *("mask_rcnn/r50_fpn_dconv_c3-c5", "mask_rcnn/r50_fpn_mdconv_c3-c5"),
    *("mask_rcnn/r50_c5_dconv_c5_dpool", "mask_rcnn/r50_c5_dconv_c5"),
    *("mask_rcnn/r50_c5_dconv_c4-c5", "mask_rcnn/r50_c5_dconv_c3-c5"),
    *("mask_rcnn/r50_c5_dconv_c3-c5_dpool", "faster_rcnn/r50_c5"),
    *("faster_rcnn/r50_c5_mdconv_c3-c5_mdpool", "faster_rcnn/r50_c5_mdconv_c3-c5_mdpool_mimic"),
    *("mask_rcnn/r101_c5", "mask_rcnn/r101_c5_mdconv_c3-c5_mdpool_mimic"),
    *("mask_rcnn/x101_c5", "mask_rcnn/x101_c5_mdconv_c3-c5_mdpool_mimic"),
    *("faster_rcnn/r50_fpn", "faster_rcnn/r50_fpn_dconv_c3-c5", "faster_rcnn/r50_fpn_mdconv_c3-c5"),
    *("faster_rcnn/r50_fpn_mdconv_c3-c5_group4", "faster_rcnn/r50_fpn_dpool"),
    *("faster_rcnn/r50_fpn_mdpool", "scratch/r50_fpn_mdconv_c3-c5_group_6x", "mask_rcnn/r50_c4"),
    *("seed/e2e_deformconv_mask_rcnn_R_50_C5_1x", "mask_rcnn/r101_fpn_dconv_c3-c5"),
    *("faster_rcnn/r50_c5_dconv_c5_dpool", "faster_rcnn/r50_c5_dconv_c5"),
    *("faster_rcnn/r50_c5_dconv_c4-c5", "faster_rcnn/r50_c5_dconv_c3-c5"),
    *("faster_rcnn/r50_c5_dconv_c3-c5_dpool", "mask_rcnn/r101_c5_dconv_c5_dpool"),
    *("mask_rcnn/x101_c5_dconv_c5_dpool", "faster_rcnn/r101_c5", "faster_rcnn/x101_c5"),
    *("faster_rcnn/r101_c5_dconv_c5_dpool", "faster_rcnn/x101_c5_dconv_c5_dpool"),
    "faster_rcnn/r101_c5_mdconv_c3-c5_mdpool_mimic",
    "faster_rcnn/x101_c5_mdconv_c3-c5_mdpool_mimic",
    *("faster_rcnn/r50_c4", "mask_rcnn/r101_fpn", "faster_rcnn/r101_fpn", "mask_rcnn/x101_fpn"),
    *("faster_rcnn/x101_fpn", "scratch/r50_fpn_group_6x", "rpn/r50_fpn"),
)
DEFORMABLE, PLAIN = "mask_rcnn/r50_fpn_mdconv_c3-c5", "mask_rcnn/r50_fpn"
OPERATOR_BATCH, OPERATOR_SIDE = 8, 800
# Largest relative difference of the loss: bfloat16 may change the choice of a few proposals.
SAME_LOSS = 0.05

_ABOUT = """\
A step is forward, backward and update, timed by the host's clock between two synchronizes. Weights
are random, offsets have a standard deviation of 1.5 pixels, and proposals include as many near the
objects as a trained RPN finds. Reading images is not part of a step. `input` is the size of the
padded batch, `GiB` the peak of allocated memory."""


def config_cases(
    names: Sequence[str], batches: Sequence[int], side: int, precision: str
) -> list[StepCase]:
    """The configurations at one size, from images of COCO's usual 480 x 640."""
    source = (round(0.48 * side), round(0.64 * side))
    return [
        StepCase(name, "dcnv2", batch, source, side, precision)
        for name in names
        for batch in batches
    ]


def operator_cases(batch: int, side: int, precision: str) -> list[StepCase]:
    """One detector with regular convolutions and on each operator; images need no resizing."""
    size = (side, round(1.52 * side))
    return [
        StepCase(
            PLAIN if operator == "conv2d" else DEFORMABLE, operator, batch, size, side, precision
        )
        for operator in ("conv2d", "dcnv2", "torchvision")
    ]


def measure(
    cases: Sequence[StepCase], device: torch.device, seconds: float, until: float
) -> list[dict]:
    """Time cases in order.

    Args:
        cases: What to time.
        device: Where to run.
        seconds: Duration of the timed steps of a case.
        until: No case begins after this reading of `time.monotonic`.

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
            row |= time_step(case, timer, seconds)
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


def config_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per configuration, with columns for each batch size.

    A case that was not measured has the reason in place of its time.
    """
    batches = rows["batch"].unique().tolist()
    labels = {"p50_ms": "step ms", "images_s": "images/s", "peak_GiB": "GiB"}
    lines = []
    for config, of_config in rows.groupby("config", sort=False):
        line: dict[str, Any] = {"config": config, "parameters_M": of_config["parameters_M"].max()}
        line |= dict.fromkeys(f"{label}, batch {b}" for label in labels.values() for b in batches)
        for row in of_config.to_dict("records"):
            line |= {f"{label}, batch {row['batch']}": row[key] for key, label in labels.items()}
            if row["status"] != MEASURED:
                line[f"step ms, batch {row['batch']}"] = row["status"].partition(":")[0]
        lines.append(line)
    return pd.DataFrame(lines).dropna(axis=1, how="all")


def operator_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per operator, with the ratio of its step to that of regular convolutions."""
    rows = rows[rows["status"] == MEASURED]
    table = rows[["operator", "batch", "input", "p50_ms", "images_s", "peak_GiB"]].copy()
    plain = table.loc[table["operator"] == "conv2d", "p50_ms"]
    if len(plain):
        table["times conv2d"] = table["p50_ms"] / plain.iloc[0]
    return table.rename(columns={"p50_ms": "step ms", "images_s": "images/s", "peak_GiB": "GiB"})


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
    parser.add_argument("--side", type=int, help="in pixels (default: 1000, operators: 800)")
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

    cases = {
        "operators": operator_cases(
            options.operator_batch, options.side or OPERATOR_SIDE, options.precision
        ),
        "configs": config_cases(
            options.configs, options.batches, options.side or 1000, options.precision
        ),
    }
    directory = options.reports or report_dir(str(device))
    parts, commits = [pd.DataFrame()], [provenance()["commit"]]
    report = directory / f"{NAME}.csv"
    if options.add and report.is_file():
        parts[0], commit = earlier_rows(report)
        commits = list(dict.fromkeys([commit, *commits]))
    for name in options.set:
        missing = without_earlier(cases[name], parts[0], name)
        parts.append(pd.DataFrame(measure(missing, device, options.seconds, until)))
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
    operators, configs = (rows[rows["set"] == name] for name in SETS)
    if (operators["status"] == MEASURED).any():
        sections["One detector on several operators"] = operator_table(operators)
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
        title="Whole training steps",
        headline=headline,
        sections=sections,
        directory=directory,
        origin=origin,
    )


if __name__ == "__main__":
    sys.exit(main())
