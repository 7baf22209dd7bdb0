# SPDX-License-Identifier: BSD-3-Clause
"""What training costs on one GPU and on several, and that a run which was ended loses nothing.

`python -m suites.coco.training` draws a data set, trains a Mask R-CNN with FPN, ResNet-50 and
modulated deformable convolutions from conv3 to conv5 for some steps on one GPU and, by torchrun, on
two, with the same number of images a GPU; then it trains the smoke run's detector twice, once
without a break and once ended by SIGTERM in the middle and resumed. It writes reports/training.*,
on a GPU in the folder of its model. Words such as `--train.precision=float32` go to the trainings
that are timed.

Exits with 1 where a training failed, or where the resumed one did other steps than the other.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from dcnv2.data.shapes import CLASSES, write_shapes
from dcnv2.engine.config import load_config
from dcnv2.engine.device import pick_device
from dcnv2.models import build_model
from suites.coco.figures import draw_resumed
from suites.coco.runs import Launch, compare_runs, end_in_the_middle, pace
from suites.coco.step_case import OFFSET_PIXELS, spread_offsets
from suites.reporting import markdown_table, report_dir, write_report

CONFIG, RESUMED_CONFIG = "mask_rcnn/r50_fpn_mdconv_c3-c5", "smoke/dcnv2"
TRAIN_IMAGES, VAL_IMAGES, RESUMED_SIDE = 64, 4, 128
PROJECTED_RANKS = 8

_PACE = """\
`{config}` with drawn weights at a learning rate of 0, offsets spread over {offset_pixels} pixels,
on drawn pictures of {drawn} x {drawn} pixels in PNG, resized to {side} x {side}, flipped at random;
{workers} loader processes a rank. Every rank has {batch} images a step. A step has all that there
is in a training: reading and decoding images, forward, backward, exchange of gradients, update,
records. Times are medians of the rows after the first third of the steps; `waiting for data` is
the loop's share of time before a batch was there. `GiB` is the peak of the memory allocated on the
first GPU, or of the first process where there is none."""
_PROJECTED = """\
Hours for the {millions:.3g} million images of the configuration's schedule, evaluation left out.
More ranks than were measured are projected: each at the pace that a rank had among the most."""
_RESUMED = """\
`{config}` for {steps} steps, once without a break, and once ended by SIGTERM after step {stopped}
(exit status {status}) and resumed. Loss and rate of the two, step by step: the largest relative
difference of the loss is {loss:.2g}, of the rate {rate:.2g}; {equal} of {tensors} tensors of the
final weights are equal to the bit."""


def parse(words: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, and words for the trainings that are timed."""
    parser = argparse.ArgumentParser(prog="python -m suites.coco.training", description=__doc__)
    parser.add_argument("--ranks", nargs="*", type=int, help="by default 1, and 2 with two GPUs")
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--batch", type=int, default=8, help="images a rank and step")
    parser.add_argument("--steps", type=int, default=45, help="timed runs have that many")
    parser.add_argument("--drawn", type=int, default=640, help="side of the pictures in pixels")
    parser.add_argument("--side", type=int, default=992, help="side that they are resized to")
    parser.add_argument("--workers", type=int, default=8, help="loader processes a rank")
    parser.add_argument("--resumed-steps", type=int, default=120, help="0 leaves that part out")
    parser.add_argument("--seconds", type=float, default=90.0, help="that a run may take")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=Path("runs/training"))
    parser.add_argument("--reports", type=Path, help="by default reports/, or the GPU's folder")
    options, overrides = parser.parse_known_args(words)
    if options.ranks is None:
        options.ranks = [1, 2] if torch.cuda.device_count() > 1 else [1]
    return options, overrides


def sized(options: argparse.Namespace) -> dict[str, object]:
    """Words that make the timed detector."""
    return {
        "model.num_classes": len(CLASSES),
        "model.min_size": f"[{options.side}]",
        "model.max_size": options.side,
        "model.backbone.weights": "null",
    }


def write_weights(options: argparse.Namespace) -> Path:
    """Weights as drawn, but with offsets as they are in the middle of a training."""
    words = [f"--{key}={value}" for key, value in sized(options).items()]
    torch.manual_seed(0)
    model = build_model(load_config(options.config, words).model, pretrained=False)
    spread_offsets(model, torch.randn(1, 3, 128, 128))
    path = options.folder / "drawn.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def timed_run(options: argparse.Namespace, overrides: Sequence[str], ranks: int) -> dict:
    """Trains on some ranks; returns a row of its pace.

    Raises:
        RuntimeError: the run failed, with the end of what it said.
    """
    words = {
        **sized(options),
        "name": f"ranks_{ranks}",
        "data.root": options.folder / "timed",
        "data.train": "train",
        "data.val": "val",
        "data.workers": options.workers,
        "train.init": options.folder / "drawn.safetensors",
        "optim.lr": 0.0,
        "train.steps": options.steps,
        "train.batch_size": options.batch * ranks,
        "train.log_every": max(options.steps // 15, 1),
        "train.precision": "bfloat16",
        "train.channels_last": "true",
        "eval.batch_size": 2,
    }
    launch = Launch(options, options.config, words, overrides, ranks)
    launch.run()
    return {"ranks": ranks, "images a rank": options.batch, **pace(launch.folder)}


def resumed_run(options: argparse.Namespace) -> dict:
    """Trains once without a break, beside it once with; returns how far they are apart."""
    words = {
        "data.root": options.folder / "resumed",
        "model.num_classes": len(CLASSES),
        "train.steps": options.resumed_steps,
        "train.log_every": 1,
    }
    whole = Launch(options, RESUMED_CONFIG, {**words, "name": "whole"})
    cut = Launch(options, RESUMED_CONFIG, {**words, "name": "cut"})
    beside = whole.start()
    try:
        status = end_in_the_middle(cut, options.resumed_steps // 2)
        stopped = int(pd.read_csv(cut.folder / "metrics.csv")["step"].iloc[-1])
        cut.run("--resume")
        whole.finish(beside)
    finally:
        beside.kill()
    found = compare_runs(whole.folder, cut.folder)
    return {"steps": options.resumed_steps, "stopped": stopped, "status": status, **found}


def scaling(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with images a second of a rank, and how many times the first row's all ranks do."""
    rows = rows.copy()
    rows["images/s a rank"] = rows["images/s"] / rows["ranks"]
    rows["times one rank"] = rows["images/s"] / rows["images/s a rank"].iloc[0]
    return rows


def projection(rows: pd.DataFrame, images: int) -> pd.DataFrame:
    """Hours to train on so many images: by the measured paces, and projected for more ranks.

    Args:
        rows: of `scaling`.
        images: of the whole schedule.
    """
    lines = [
        {"ranks": ranks, "images/s": pace, "hours": images / pace / 3600, "pace": "measured"}
        for ranks, pace in rows[["ranks", "images/s"]].itertuples(index=False)
    ]
    most = rows.loc[rows["ranks"].idxmax()]
    if most["ranks"] < PROJECTED_RANKS:
        pace = PROJECTED_RANKS * most["images/s a rank"]
        line = {"ranks": PROJECTED_RANKS, "images/s": pace, "hours": images / pace / 3600}
        lines.append({**line, "pace": "projected"})
    return pd.DataFrame(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Measures and reports; returns the exit status."""
    options, overrides = parse(words)
    directory = options.reports or report_dir(str(pick_device(options.device)))
    shutil.rmtree(options.folder, ignore_errors=True)
    rows, faults, resumed = [], [], None
    if options.ranks:
        write_shapes(options.folder / "timed", TRAIN_IMAGES, VAL_IMAGES, options.drawn)
        write_weights(options)
    for ranks in options.ranks:
        try:
            rows.append(timed_run(options, overrides, ranks))
            print(f"{ranks} rank(s): {rows[-1]['images/s']:.1f} images/s", flush=True)
        except RuntimeError as error:
            faults.append(f"{ranks} rank(s): {error}")
    if options.resumed_steps:
        images = 4 * options.resumed_steps
        write_shapes(options.folder / "resumed", images, VAL_IMAGES, RESUMED_SIDE)
        try:
            resumed = resumed_run(options)
            if resumed["rate"] != 0 or not resumed["same_steps"]:
                faults.append("the resumed run did other steps than the one without a break")
        except RuntimeError as error:
            faults.append(f"resumed run: {error}")
    if rows or resumed:
        write(options, rows, resumed, faults, directory)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def write(
    options: argparse.Namespace,
    rows: Sequence[dict],
    resumed: dict | None,
    faults: Sequence[str],
    directory: Path,
) -> None:
    """Writes the report of what was measured."""
    directory.mkdir(parents=True, exist_ok=True)
    sections: dict[str, pd.DataFrame | str] = {}
    pictures = []
    table = scaling(pd.DataFrame(rows)) if rows else pd.DataFrame([resumed])
    if rows:
        sections["Pace"] = table
        sections["How"] = _PACE.format(offset_pixels=OFFSET_PIXELS, **vars(options))
        train = load_config(options.config).train
        images = train.steps * train.batch_size
        hours = markdown_table(projection(table, images))
        sections["A whole training"] = f"{_PROJECTED.format(millions=images / 1e6)}\n\n{hours}"
    if resumed:
        sections["A resumed run on top of one without a break"] = _RESUMED.format(
            config=RESUMED_CONFIG, **resumed
        )
        pictures.append("training_resumed.png")
        folders = [options.folder / name / "metrics.csv" for name in ("whole", "cut")]
        draw_resumed(*map(pd.read_csv, folders), resumed["stopped"], directory / pictures[0])
    if faults:
        sections["What failed"] = "\n".join(f"- {fault.splitlines()[-1]}" for fault in faults)
    write_report(
        "training",
        pd.concat([table, pd.DataFrame([resumed])]) if rows and resumed else table,
        title="Training",
        headline=table,
        sections=sections,
        pictures=pictures,
        directory=directory,
    )


if __name__ == "__main__":
    sys.exit(main())
