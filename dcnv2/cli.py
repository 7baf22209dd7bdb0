# SPDX-License-Identifier: BSD-3-Clause
"""The command line: parse, call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Import names of what `dcnv2[detection]` installs.
DETECTION_EXTRA = {
    *("torchvision", "numpy", "PIL", "pycocotools", "jsonargparse", "yaml", "rich", "safetensors"),
    *("tensorboard", "pandas", "tabulate", "matplotlib"),
}
CONFIG_HELP = "a YAML file, a run folder, or the name of a file in dcnv2/configs"


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status (1 for an error that the user can mend)."""
    parser = build_parser()
    options, overrides = parser.parse_known_args(words)
    if overrides and not options.configured:
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    options.overrides = overrides
    try:
        options.command(options)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if options.debug or package not in DETECTION_EXTRA:
            raise
        print(f"dcnv2: {package} is not installed: pip install dcnv2[detection]", file=sys.stderr)
        return 1
    except (OSError, ValueError, FloatingPointError) as error:
        if options.debug:
            raise
        print(f"dcnv2: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command` and whether it takes `--key=value` words."""
    parser = argparse.ArgumentParser(prog="dcnv2", description="Deformable Convolution V2.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command, text: str, configured: bool = False, group=commands):
        sub = group.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command, configured=configured)
        if configured:
            sub.add_argument("config", help=CONFIG_HELP)
            sub.epilog = "Any value of the configuration can be set, as in --train.steps=100."
        return sub

    add("doctor", _doctor, "Say which path each operator takes here, and why.")
    sub = add("train", _train, "Train and evaluate a detector.", configured=True)
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    sub = add("eval", _eval, "Evaluate a checkpoint with pycocotools.", configured=True)
    sub.add_argument("--checkpoint", type=Path, help="by default the run's newest")
    sub.add_argument("--csv", type=Path, help="write the row of results there too")
    sub = add("predict", _predict, "Draw detections on images.", configured=True)
    sub.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    sub.add_argument("--checkpoint", type=Path, help="by default the run's newest")
    sub.add_argument("--out", type=Path, help="folder of the pictures, by default in the run's")

    sub = add("configs", _configs, "List the configurations: parameters, operations, published AP.")
    sub.add_argument("words", nargs="*", metavar="WORD", help="only names that contain every word")

    sub = add("convert", _convert, "Rename another project's checkpoint for our layers.")
    sub.add_argument("source", type=Path, help="what torch.save wrote, or .safetensors")
    sub.add_argument("target", type=Path, help=".safetensors, or .pth for torch.save")

    data = add("data", None, "Make or check a data set.").add_subparsers(required=True)
    sub = add("shapes", _data_shapes, "Draw the embedded set as a COCO folder.", group=data)
    sub.add_argument("root", type=Path)
    sub.add_argument("--train", type=int, default=2000, help="images to train on")
    sub.add_argument("--val", type=int, default=200, help="images held out")
    sub.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    sub.add_argument("--seed", type=int, default=0)
    sub = add("check", _data_check, "List what is wrong with a COCO folder.", group=data)
    sub.add_argument("root", type=Path)
    sub.add_argument("split", nargs="+", help="such as train2017, or an annotation file")
    return parser


def _doctor(options: argparse.Namespace) -> None:
    from dcnv2.doctor import report

    print(report())


def _train(options: argparse.Namespace) -> None:
    from dcnv2.engine.config import load_config
    from dcnv2.engine.train import train

    config = load_config(options.config, options.overrides)
    row = train(config, options.resume)
    print(row.T.to_string(header=False))


def _eval(options: argparse.Namespace) -> None:
    from dcnv2.engine.config import load_config
    from dcnv2.engine.evaluate import evaluate_checkpoint

    config = load_config(options.config, options.overrides)
    row, per_class = evaluate_checkpoint(config, options.checkpoint)
    if options.csv is not None:
        row.to_csv(options.csv, index=False)
    print(row.T.to_string(header=False))
    print(per_class.to_string(index=False))


def _predict(options: argparse.Namespace) -> None:
    from dcnv2.engine.config import load_config
    from dcnv2.engine.predict import predict_files

    config = load_config(options.config, options.overrides)
    out = options.out or config.folder / "predictions"
    for picture, summary in predict_files(config, options.images, out, options.checkpoint):
        print(f"{picture}: {summary}")


def _configs(options: argparse.Namespace) -> None:
    from dcnv2.engine.catalogue import catalogue

    table = catalogue(options.words)
    if table.empty:
        raise ValueError(f"no configuration has {' and '.join(options.words)} in its name")
    print(table.to_string(index=False, na_rep=""))


def _convert(options: argparse.Namespace) -> None:
    from dcnv2.convert_weights import convert_file

    print(convert_file(options.source, options.target))


def _data_shapes(options: argparse.Namespace) -> None:
    from dcnv2.data.shapes import write_shapes

    print(write_shapes(options.root, options.train, options.val, options.size, options.seed))


def _data_check(options: argparse.Namespace) -> None:
    from dcnv2.data.coco import CocoDataset

    bad = 0
    for split in options.split:
        dataset = CocoDataset(options.root, split, on_bad="skip", decode=True)
        print(repr(dataset))
        for problem in dataset.problems:
            print(f"  {problem}")
        bad += len(dataset.problems)
    if bad:
        raise ValueError(f"{options.root}: {bad} problems")
