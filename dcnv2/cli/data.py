# SPDX-License-Identifier: BSD-3-Clause
"""The commands `dcnv2 data`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Number of problems of a data set that `data check` prints.
SHOWN_PROBLEMS = 50


def add_data(add: Callable[..., argparse.ArgumentParser], commands: Any) -> None:
    """Adds `dcnv2 data` and its commands to a parser.

    Args:
        add: adds one command, see `build_parser`.
        commands: the group of all commands.
    """
    parser = commands.add_parser("data", help="Generate, check, draw or convert a data set.")
    data = parser.add_subparsers(required=True, metavar="COMMAND")
    sub = add(
        "shapes",
        _data_shapes,
        "Generate the data set of shapes as COCO.",
        group=data,
    )
    sub.add_argument("root", type=Path, help="folder to write to")
    numbers = {
        "train": (2000, "number of training images"),
        "val": (200, "number of validation images"),
        "size": (128, "side of the images in pixels"),
        "seed": (0, "another seed gives other pictures"),
    }
    for name, (default, text) in numbers.items():
        text = f"{text}; default: {default}"
        sub.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)
    sub.add_argument(
        "--classes", type=lambda text: text.split(","), help="comma-separated names; default: all"
    )
    sub = add("check", _data_check, "List the problems of a data set in any format.", group=data)
    sub.add_argument("root", type=Path, help="folder of the data set")
    sub.add_argument(
        "split", nargs="*", help="such as train2017, or an annotation file; default: all"
    )
    sub.add_argument("--csv", type=Path, help="write the problems to this file, one row each")
    sub.add_argument("--no-masks", action="store_true", help="ignore segmentations")
    sub = add("browse", _data_browse, "Draw annotations as stored and as augmented.", group=data)
    sub.add_argument("root", type=Path, help="folder, or package.module:function")
    sub.add_argument("split", nargs="*", help="default: all")
    sub.add_argument("--out", type=Path, default=Path("browse"), help="folder to write")
    sub.add_argument("--images", type=_count, default=30, help="number of images of a split")
    sub.add_argument(
        "--config", dest="run_config", help="whose augmentation is drawn; default: flips"
    )
    sub.add_argument("--no-masks", action="store_true", help="ignore segmentations")
    sub = add("convert", _data_convert, "Write a data set in any format as COCO.", group=data)
    sub.add_argument(
        "source", type=Path, metavar="SOURCE", help="folder, or package.module:function"
    )
    sub.add_argument("target", type=Path, metavar="TARGET", help="new folder")
    sub.add_argument("split", nargs="*", help="default: all")
    sub.add_argument(
        "--on-bad", choices=("raise", "skip"), default="raise", help="as data.on_bad of a training"
    )
    sub = add(
        "minival",
        _data_minival,
        "Split COCO's val2014 into minival and rest.",
        group=data,
    )
    sub.add_argument("root", type=Path, help="folder of COCO 2014, with its annotations/")


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"wanted a number of at least 1, got {text}")
    return int(text)


def _data_shapes(options: argparse.Namespace) -> None:
    from dcnv2.data.shapes import write_shapes

    counts = options.train, options.val, options.size, options.seed
    print(write_shapes(options.root, *counts, classes=options.classes))


def _data_check(options: argparse.Namespace) -> None:
    from dcnv2.data.folders import find_splits, inspect, open_to_look
    from dcnv2.data.set_checks import unused_classes
    from dcnv2.data.whole_files import check_table_path, write_table

    if options.csv is not None:
        check_table_path(options.csv)
    datasets, rejected = {}, []
    for split in options.split or find_splits(options.root):
        try:
            datasets[split] = open_to_look(options.root, split, not options.no_masks)
        except (OSError, ValueError) as error:
            rejected.append(str(error))
    if not datasets:
        raise ValueError("\n".join(rejected))
    report = inspect(datasets)
    for table in (report.splits, report.classes):
        print(table.to_string(index=False, na_rep="", float_format="{:.3f}".format), end="\n\n")
    for split, dataset in datasets.items():
        for note in dataset.notes:
            print(f"{split}: note: {note}")
        if unused := unused_classes(dataset):
            print(f"{split}: note: no object of {', '.join(unused)}")
    shown = report.problems.head(SHOWN_PROBLEMS)
    for problem in shown.itertuples():
        print(f"{problem.split}: {problem.kind}: {problem.where}: {problem.what}")
    if len(report.problems) > len(shown):
        print(f"and {len(report.problems) - len(shown)} more; --csv=FILE has all")
    if options.csv is not None:
        write_table(options.csv, report.problems)
    if not report.problems.empty:
        count = len(report.problems)
        rejected.append(f"{options.root}: {count} problem{'s' * (count > 1)}")
    if rejected:
        raise ValueError("\n".join(rejected))


def _data_browse(options: argparse.Namespace) -> None:
    from dcnv2.data.folders import find_splits, open_to_look
    from dcnv2.engine.config import DataConfig, load_config
    from dcnv2.engine.visualization.browse import browse

    config = DataConfig() if options.run_config is None else load_config(options.run_config).data
    datasets = {
        split: open_to_look(options.root, split, not options.no_masks, decode=False)
        for split in options.split or find_splits(options.root)
    }
    print(browse(datasets, config, options.out, options.images))


def _data_convert(options: argparse.Namespace) -> None:
    from dcnv2.data.write_coco import convert_to_coco

    for text in convert_to_coco(options.source, options.target, options.split, options.on_bad):
        print(text)


def _data_minival(options: argparse.Namespace) -> None:
    from dcnv2.data.concat import write_minival

    for path in write_minival(options.root):
        print(path)
