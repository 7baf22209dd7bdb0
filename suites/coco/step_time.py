# SPDX-License-Identifier: BSD-3-Clause
"""Times of whole training steps: of the configurations, and of one detector on several operators.

`python -m suites.coco.step_time` writes reports/step_time.*, on a GPU in the folder of its model.
`configs` takes images of 480 x 640 to the paper's shorter side of 1000 pixels, whatever a
configuration's own size; `operators` takes a Mask R-CNN with FPN and ResNet-50 at 800 x 1216, batch
8, with modulated deformable convolutions from conv3 to conv5 by each operator, and with plain ones.
All run forward, backward and the optimiser's update in channels_last, under bfloat16 autocast
unless told otherwise. Cases that the time or the memory has no room for are named in the report.

Exits with 1 where two operators of one detector disagree on its loss, or where a case failed
otherwise than for want of time or memory.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from dcnv2.engine.device import pick_device
from suites.coco.step_case import StepCase, time_step
from suites.reporting import report_dir, write_report

SETS = ("operators", "configs")
# The paper's ladder, then what users train, then the large ends: in this order time runs out.
CONFIGS = (
    "mask_rcnn/r50_c5",
    "mask_rcnn/r50_c5_mdconv_c3-c5_mdpool",
    "mask_rcnn/r50_c5_mdconv_c3-c5_mdpool_mimic",
    "mask_rcnn/r50_fpn",
    "mask_rcnn/r50_fpn_dconv_c3-c5",
    "mask_rcnn/r50_fpn_mdconv_c3-c5",
    "mask_rcnn/r50_c5_dconv_c5_dpool",
    "mask_rcnn/r50_c5_dconv_c5",
    "mask_rcnn/r50_c5_dconv_c4-c5",
    "mask_rcnn/r50_c5_dconv_c3-c5",
    "mask_rcnn/r50_c5_dconv_c3-c5_dpool",
    "faster_rcnn/r50_c5",
    "faster_rcnn/r50_c5_mdconv_c3-c5_mdpool",
    "mask_rcnn/r101_c5",
    "mask_rcnn/r101_c5_mdconv_c3-c5_mdpool_mimic",
    "mask_rcnn/x101_c5",
    "mask_rcnn/x101_c5_mdconv_c3-c5_mdpool_mimic",
    "mask_rcnn/r50_c4",
)
DEFORMABLE, PLAIN = "mask_rcnn/r50_fpn_mdconv_c3-c5", "mask_rcnn/r50_fpn"
OPERATOR_BATCH, OPERATOR_SIDE = 8, 800
# Relative difference of the loss: bfloat16 may turn the choice of a few proposals.
SAME_LOSS = 0.05

_ABOUT = """\
A step is forward, backward and update, by the host's clock between two synchronizes, with weights
drawn at random, offsets of about a pixel and a half, and proposals near the objects as a trained
RPN has them; reading images is not part of it. `input` is the padded batch, `GiB` the peak of the
memory allocated."""


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
    """One detector, plain and on each operator, from images that need no resizing."""
    size = (side, round(1.52 * side))
    return [
        StepCase(
            PLAIN if operator == "conv2d" else DEFORMABLE, operator, batch, size, side, precision
        )
        for operator in ("conv2d", "dcnv2", "torchvision")
    ]


def measure(cases: Sequence[StepCase], device: torch.device, seconds: float, until: float):
    """Times cases in order.

    Args:
        cases: what.
        device: where.
        seconds: of timed steps a case.
        until: reading of `time.monotonic` from which on no case is begun.

    Returns:
        The rows, a line for each case left out, and a line for each that failed.
    """
    rows, left_out, failed = [], [], []
    for case in cases:
        what = f"{case.config} on {case.operator}, batch {case.batch}"
        if time.monotonic() > until:
            left_out.append(f"{what}: no time was left")
            continue
        try:
            rows.append(time_step(case, device, seconds))
        except torch.OutOfMemoryError:
            left_out.append(f"{what}: out of memory")
            continue
        except (RuntimeError, ArithmeticError) as error:
            # The others' rows are worth their report; of some libraries it is want of memory, too.
            failed.append(f"{what}: {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        finally:
            gc.collect()
        print(f"{what}: {rows[-1]['p50_ms']:.1f} ms", flush=True)
    return rows, left_out, failed


def config_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a configuration, with columns for each batch size."""
    table = rows.pivot_table(
        index=["config", "parameters_M"],
        columns="batch",
        values=["p50_ms", "images_s", "peak_GiB"],
        sort=False,
        dropna=False,
    )
    labels = {"p50_ms": "step ms", "images_s": "images/s", "peak_GiB": "GiB"}
    table.columns = [f"{labels[value]}, batch {batch}" for value, batch in table.columns]
    return table.dropna(axis=1, how="all").reset_index()


def operator_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line an operator, with the ratio of its step to the plain detector's."""
    table = rows[["operator", "batch", "input", "p50_ms", "images_s", "peak_GiB"]].copy()
    plain = table.loc[table["operator"] == "conv2d", "p50_ms"]
    if len(plain):
        table["times conv2d"] = table["p50_ms"] / plain.iloc[0]
    return table.rename(columns={"p50_ms": "step ms", "images_s": "images/s", "peak_GiB": "GiB"})


def disagreements(rows: pd.DataFrame) -> list[str]:
    """A line for each operator whose loss is not that of ours."""
    loss = rows.set_index("operator")["loss"]
    if not {"dcnv2", "torchvision"} <= set(loss.index):
        return []
    ours, theirs = loss["dcnv2"], loss["torchvision"]
    if abs(ours - theirs) <= SAME_LOSS * abs(theirs):
        return []
    return [f"loss: {ours:.4g} on dcnv2, {theirs:.4g} on torchvision"]


def main(words: Sequence[str] | None = None) -> int:
    """Measures and reports; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m suites.coco.step_time", description=__doc__)
    parser.add_argument("--set", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=(2, 8), help="of `configs`")
    parser.add_argument("--operator-batch", type=int, default=OPERATOR_BATCH)
    parser.add_argument("--side", type=int, help="shorter side; by default 1000, operators 800")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timed steps a case")
    parser.add_argument("--budget", type=float, default=200.0, help="seconds to begin cases in")
    parser.add_argument("--reports", type=Path, help="by default reports/, or the GPU's folder")
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
    measured = {name: measure(cases[name], device, options.seconds, until) for name in options.set}
    tables = {name: pd.DataFrame(rows).assign(set=name) for name, (rows, *_) in measured.items()}
    tables = {name: rows for name, rows in tables.items() if len(rows)}
    left_out = [line for _, lines, _ in measured.values() for line in lines]
    faults = [line for _, _, lines in measured.values() for line in lines]
    if tables:
        write(tables, [*left_out, *faults], options.reports or report_dir(str(device)))
    else:
        faults.append("nothing was measured")
    faults += disagreements(tables["operators"]) if "operators" in tables else []
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def write(tables: dict[str, pd.DataFrame], left_out: Sequence[str], directory: Path) -> None:
    """Writes the report of the sets measured."""
    sections: dict[str, pd.DataFrame | str] = {}
    if "operators" in tables:
        sections["One detector on several operators"] = operator_table(tables["operators"])
    if "configs" in tables:
        sections["Configurations at 1000 pixels"] = config_table(tables["configs"])
    headline = next(iter(sections.values()))
    sections["How"] = _ABOUT
    if left_out:
        sections["Left out"] = "\n".join(f"- {line}" for line in left_out)
    write_report(
        "step_time",
        pd.concat(tables.values(), ignore_index=True),
        title="Whole training steps",
        headline=headline,
        sections=sections,
        directory=directory,
    )


if __name__ == "__main__":
    sys.exit(main())
