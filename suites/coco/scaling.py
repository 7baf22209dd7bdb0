# SPDX-License-Identifier: BSD-3-Clause
"""Training speed on one GPU and on several, parity of ranks, and resumption after an interruption.

`python -m suites.coco.scaling` generates a data set and trains a Mask R-CNN with FPN, ResNet-50 and
modulated deformable convolutions in conv3 to conv5 for some steps on one GPU and, by torchrun, on
two, with the same number of images per GPU. Then it trains the smoke run's detector: on one rank
and on two with half of each batch, in float64; and, with reproducible algorithms, uninterrupted and
interrupted by SIGTERM and resumed. It writes reports/training.*, on a GPU in the folder of its
model. Words such as `--train.precision=float32` apply to the timed trainings.

Exits with 1 if a training failed, if two ranks and one took different steps, or if the resumed run
took other steps than the uninterrupted one or ended with other weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file

from dcnv2.data.shapes import CLASSES, write_shapes
from dcnv2.engine.config import load_config
from dcnv2.engine.runtime.device import pick_device
from dcnv2.models import build_model
from suites.coco.ddp_parity import SAME_LOSS, parity_run
from suites.coco.figures import draw_resumed
from suites.coco.runs import Launch, compare_runs, interrupt, pace
from suites.perf.training_step import OFFSET_PIXELS, spread_offsets
from suites.reporting.folders import report_dir
from suites.reporting.report import write_report

CONFIG, RESUMED_CONFIG = "mask_rcnn/r50_fpn_mdconv_c3-c5", "smoke/dcnv2"
TRAIN_IMAGES, VAL_IMAGES, RESUMED_SIDE = 64, 4, 128
PROJECTED_RANKS = 8

_PACE = """\
`{config}` with random weights at a learning rate of 0, offsets with a standard deviation of
{offset_pixels} pixels, under bfloat16 autocast in channels_last, on generated JPEG pictures of
{pictures} x {pictures} pixels, resized to {side} x {side} and flipped at random, with {workers}
loader processes per rank. A step includes everything that a training does: reading and decoding
images, forward, backward, exchange of gradients, update, records. Times are medians of the records
after the first third of {steps} steps. `waiting for data` is the share of time without a batch.
`GiB a rank` is the peak of allocated memory on the first GPU, or of the first process without a
GPU. `hours` are for the {millions:.3g} million images of the configuration's schedule, without
evaluation. Rows for more ranks than were measured are projected: each rank keeps the speed that it
had with the largest measured number."""
_PARITY = """\
`{config}` without masks for {steps} steps of {batch} images, on one rank and on two with half of
each batch, in float64 (so that rounding does not change the choice of a proposal), from the same
weights. The largest relative difference over all steps is {loss:.2g} for the loss and {rate:.2g}
for the learning rate."""
_RESUMED = """\
`{config}` for {steps} steps with `train.deterministic`: uninterrupted, and interrupted by SIGTERM
after step {stopped} (exit status {status}) and resumed. The largest relative difference over all
steps is {loss:.2g} for the loss and {rate:.2g} for the learning rate; {equal} of {tensors} tensors
of the final weights are bit-identical."""


def parse(words: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the words for the timed trainings."""
    parser = argparse.ArgumentParser(prog="python -m suites.coco.scaling", description=__doc__)
    parser.add_argument("--ranks", nargs="*", type=int, help="default: 1, and 2 with two GPUs")
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--batches", nargs="+", type=int, default=[8, 2], help="images per rank")
    parser.add_argument("--steps", type=int, default=45, help="of timed runs")
    parser.add_argument("--pictures", type=int, default=640, help="side of pictures, pixels")
    parser.add_argument("--side", type=int, default=992, help="side after resizing, pixels")
    parser.add_argument("--workers", type=int, default=8, help="loader processes per rank")
    parser.add_argument("--parity-steps", type=int, default=20, help="0 skips this part")
    parser.add_argument("--resumed-steps", type=int, default=120, help="0 skips this part")
    parser.add_argument("--seconds", type=float, default=90.0, help="limit of a run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=Path("runs/training"))
    parser.add_argument("--reports", type=Path, help="default: reports/, or the GPU's folder in it")
    options, overrides = parser.parse_known_args(words)
    if options.ranks is None:
        options.ranks = [1, 2] if torch.cuda.device_count() > 1 else [1]
    return options, overrides


def sized(options: argparse.Namespace) -> dict[str, object]:
    """Words for the size of the timed detector."""
    return {
        "model.num_classes": len(CLASSES),
        "model.min_size": f"[{options.side}]",
        "model.max_size": options.side,
        "model.backbone.weights": "null",
    }


def write_weights(options: argparse.Namespace) -> Path:
    """Write random weights that predict offsets as in the middle of a training."""
    words = [f"--{key}={value}" for key, value in sized(options).items()]
    torch.manual_seed(0)
    model = build_model(load_config(options.config, words).model, pretrained=False)
    spread_offsets(model, torch.randn(1, 3, 128, 128))
    path = options.folder / "random.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def write_photos(root: Path, side: int) -> None:
    """Generate the data set in JPEG, like photographs; the generated PNGs are uncompressed."""
    write_shapes(root, TRAIN_IMAGES, VAL_IMAGES, side)
    for png in root.glob("images/*/*.png"):
        Image.open(png).convert("RGB").save(png.with_suffix(".jpg"), quality=90)
        png.unlink()
    for path in root.glob("annotations/instances_*.json"):
        document = json.loads(path.read_text())
        for image in document["images"]:
            image["file_name"] = str(Path(image["file_name"]).with_suffix(".jpg"))
        path.write_text(json.dumps(document))


def timed_run(
    options: argparse.Namespace, overrides: Sequence[str], ranks: int, batch: int
) -> dict:
    """Trains on some ranks with so many images each; returns a row of its pace.

    Raises:
        RuntimeError: The run failed; the message has the end of its output.
    """
    words = {
        **sized(options),
        "name": f"ranks_{ranks}_images_{batch}",
        "data.root": options.folder / "timed",
        "data.train": "train",
        "data.val": "val",
        "data.workers": options.workers,
        "train.init": options.folder / "random.safetensors",
        "optim.lr": 0.0,
        "train.steps": options.steps,
        "train.batch_size": batch * ranks,
        "train.log_every": max(options.steps // 15, 1),
        "train.precision": "bfloat16",
        "train.channels_last": "true",
        "eval.batch_size": 2,
    }
    launch = Launch(options, options.config, words, overrides, ranks)
    launch.run()
    return {"ranks": ranks, "images a rank": batch, **pace(launch.folder)}


def resumed_run(options: argparse.Namespace) -> dict:
    """Train uninterrupted and, at the same time, with an interruption; return the differences."""
    words = {
        "data.root": options.folder / "resumed",
        "model.num_classes": len(CLASSES),
        "train.steps": options.resumed_steps,
        "train.log_every": 1,
        "train.deterministic": "true",
    }
    whole = Launch(options, RESUMED_CONFIG, {**words, "name": "whole"})
    cut = Launch(options, RESUMED_CONFIG, {**words, "name": "cut"})
    process = whole.start()
    try:
        status = interrupt(cut, options.resumed_steps // 2)
        stopped = int(pd.read_csv(cut.folder / "metrics.csv")["step"].iloc[-1])
        cut.run("--resume")
        whole.finish(process)
    finally:
        process.kill()
    found = compare_runs(whole.folder, cut.folder)
    return {"steps": options.resumed_steps, "stopped": stopped, "status": status, **found}


def pace_table(rows: pd.DataFrame, images: int) -> pd.DataFrame:
    """A line per run and, for each batch size, a projected one for `PROJECTED_RANKS`.

    Args:
        rows: Rows of `timed_run`.
        images: Number of images of a whole schedule.
    """
    lines = []
    for _, runs in rows.groupby("images a rank", sort=False):
        runs = runs.sort_values("ranks").to_dict("records")
        most = runs[-1]
        if most["ranks"] < PROJECTED_RANKS:
            times = PROJECTED_RANKS / most["ranks"]
            more = {"ranks": PROJECTED_RANKS, "images/s": times * most["images/s"]}
            alike = {key: most[key] for key in ("images a rank", "GiB a rank")}
            runs.append({**more, **alike, "pace": "projected"})
        one = runs[0]["images/s"] / runs[0]["ranks"]
        lines += [
            {
                "pace": "measured",
                **run,
                "times one rank": run["images/s"] / one,
                "hours": images / run["images/s"] / 3600,
            }
            for run in runs
        ]
    columns = ["ranks", "images a rank", "images/s", "times one rank", "step ms"]
    return pd.DataFrame(lines)[[*columns, "waiting for data", "GiB a rank", "hours", "pace"]]


def main(words: Sequence[str] | None = None) -> int:
    """Measure and write the report; return the exit status."""
    options, overrides = parse(words)
    directory = options.reports or report_dir(str(pick_device(options.device)))
    shutil.rmtree(options.folder, ignore_errors=True)
    rows: list[dict] = []
    faults: list[str] = []
    if options.ranks:
        write_photos(options.folder / "timed", options.pictures)
        write_weights(options)
    for batch in options.batches:
        for ranks in options.ranks:
            what = f"{ranks} rank(s), {batch} images each"
            try:
                rows.append(timed_run(options, overrides, ranks, batch))
                print(f"{what}: {rows[-1]['images/s']:.1f} images/s", flush=True)
            except RuntimeError as error:
                faults.append(f"{what}: {error}")
    parity, resumed = untimed_runs(options, faults)
    if rows or parity or resumed:
        write(options, rows, parity, resumed, faults, directory)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def untimed_runs(options: argparse.Namespace, faults: list[str]) -> tuple[dict | None, dict | None]:
    """Compare two ranks with one, unless there is only one GPU, and a resumed run with another.

    Args:
        options: Options of the command.
        faults: New faults are appended.
    """
    parts: dict[str, Callable[[], dict]] = {}
    on_gpu = pick_device(options.device).type == "cuda"
    if options.parity_steps and not (on_gpu and torch.cuda.device_count() < 2):
        parts["two ranks"] = lambda: parity_run(options, RESUMED_CONFIG)
    if options.resumed_steps:
        parts["resumed run"] = lambda: resumed_run(options)
    found: dict[str, dict] = {}
    if parts:
        images = 4 * max(options.resumed_steps, options.parity_steps)
        write_shapes(options.folder / "resumed", images, VAL_IMAGES, RESUMED_SIDE)
        with ThreadPoolExecutor() as pool:
            for name, part in {name: pool.submit(part) for name, part in parts.items()}.items():
                try:
                    found[name] = part.result()
                except RuntimeError as error:
                    faults.append(f"{name}: {error}")
    parity, resumed = found.get("two ranks"), found.get("resumed run")
    if parity and not (parity["loss"] <= SAME_LOSS and parity["rate"] == 0):
        faults.append(
            f"two ranks and one took different steps: the loss differs by {parity['loss']:g}"
        )
    if resumed and (resumed["rate"] != 0 or not resumed["same_steps"]):
        faults.append("the resumed run took other steps than the uninterrupted one")
    if resumed and resumed["equal"] != resumed["tensors"]:
        faults.append("the resumed run ended with other weights than the uninterrupted one")
    return parity, resumed


def write(
    options: argparse.Namespace,
    rows: Sequence[dict],
    parity: dict | None,
    resumed: dict | None,
    faults: Sequence[str],
    directory: Path,
) -> None:
    """Write the report."""
    directory.mkdir(parents=True, exist_ok=True)
    sections: dict[str, pd.DataFrame | str] = {}
    pictures = []
    tables = []
    if rows:
        train = load_config(options.config).train
        images = train.steps * train.batch_size
        tables.append(pace_table(pd.DataFrame(rows), images))
        sections["Pace"] = tables[0]
        sections["How it was measured"] = _PACE.format(
            offset_pixels=OFFSET_PIXELS, millions=images / 1e6, **vars(options)
        )
    if parity:
        tables.append(pd.DataFrame([{"compared": "two ranks with one", **parity}]))
        sections["Two ranks compared with one"] = _PARITY.format(config=RESUMED_CONFIG, **parity)
    if resumed:
        tables.append(pd.DataFrame([{"compared": "a resumed run with another", **resumed}]))
        sections["A resumed run compared with an uninterrupted one"] = _RESUMED.format(
            config=RESUMED_CONFIG, **resumed
        )
        pictures.append("training_resumed.png")
        folders = [options.folder / name / "metrics.csv" for name in ("whole", "cut")]
        draw_resumed(*map(pd.read_csv, folders), resumed["stopped"], directory / pictures[0])
    if faults:
        sections["What failed"] = "\n".join(f"- {fault.splitlines()[-1]}" for fault in faults)
    write_report(
        "training",
        pd.concat(tables, ignore_index=True),
        title="Training",
        headline=tables[0],
        sections=sections,
        pictures=pictures,
        directory=directory,
    )


if __name__ == "__main__":
    sys.exit(main())
