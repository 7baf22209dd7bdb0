# SPDX-License-Identifier: BSD-3-Clause
"""The command line: parses words, calls the library, prints.

Each command imports what it needs, so that `dcnv2 --help` stays fast.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from dcnv2 import __version__
from dcnv2.cli.data import add_data
from dcnv2.harness.commands import add_harness_commands

if TYPE_CHECKING:
    from dcnv2.engine.evaluation.errors import Errors

# Import names of the packages that `dcnv2[detection]` installs.
DETECTION_EXTRA = {
    *("torchvision", "numpy", "PIL", "pycocotools", "jsonargparse", "yaml", "rich", "safetensors"),
    *("tensorboard", "pandas", "tabulate", "matplotlib", "faster_coco_eval"),
}
# Configuration values. They are removed before parsing: argparse would take a value with a space
# for a positional argument.
OVERRIDE = re.compile(r"--(name|output|device|\w+\.[\w.]+)=")
CHECKPOINT_HELP = (
    "best, last, the folder of a checkpoint or of a run, or a model of the package; default: last"
)
IMAGES_HELP = "files, folders or glob patterns"
CONFIG_HELP = (
    "a YAML file, a run folder, or the name of a configuration or model in the package; for eval, "
    "predict and offsets also a detector's file of weights of detectron2 or mmdetection"
)


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 1 for an error that the user can fix, 75 for a run that a signal stopped
        and that can be resumed, and 141, as after SIGPIPE, if the reader of the output is gone.
    """
    parser = build_parser()
    words = sys.argv[1:] if words is None else words
    overrides = [word for word in words if OVERRIDE.match(word)]
    options, unknown = parser.parse_known_args([word for word in words if word not in overrides])
    overrides += unknown
    if options.command is None:
        parser.error(f"wanted a command: {', '.join(_command_names(parser))}")
    if overrides and not options.configured:
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    options.overrides = overrides
    try:
        status = _run(options)
    except BrokenPipeError:  # a reader such as `head` is gone
        status = 128 + signal.SIGPIPE
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # Python flushes at exit again and would replace the status by 120
            _discard(stream)
    return status


def _run(options: argparse.Namespace) -> int:
    """Runs the command; turns its errors into a sentence and an exit status."""
    try:
        status = options.command(options) or 0
        try:
            if sys.stdout is not None:
                sys.stdout.flush()  # as on a full disk, a failure is the command's
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that was closed
                raise
        return status
    except BrokenPipeError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if options.debug or package not in DETECTION_EXTRA:
            raise
        print(
            f"dcnv2: {package} is not installed; in dcnv2's source folder, run: "
            'pip install -e ".[detection]"',
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:  # a training that has begun saves first: see StopSignals
        if options.debug:
            raise
        _complain("interrupted")
        return 128 + signal.SIGINT
    except (OSError, ValueError, FloatingPointError, MemoryError) as error:
        if options.debug:
            raise
        _record_for_torchrun(error)
        _complain(_sentence(error) or "out of memory")
        return getattr(error, "exit_status", 1)
    except Exception as error:
        _record_for_torchrun(error)
        if options.debug or type(error).__name__ != "OutOfMemoryError":  # torch's, not imported
            raise
        _complain(f"{error} Smaller batches need less: train.batch_size or train.accumulate")
        return 1


def _sentence(error: Exception) -> str:
    """Returns an error's text, of the system's errors without their number."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _discard(stream: TextIO) -> None:
    """Sends what `stream` holds, and whatever follows, nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _complain(text: str) -> None:
    """Prints to stderr, which may be a terminal that was closed: the exit status must remain."""
    with contextlib.suppress(OSError):
        print(f"dcnv2: {text}", file=sys.stderr, flush=True)


def _record_for_torchrun(error: Exception) -> None:
    if "torch" in sys.modules:  # otherwise no rank has started
        from dcnv2.engine.runtime.distributed import record_for_torchrun

        record_for_torchrun(error)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands.

    Each command sets `command`, its function, and `configured`, whether it accepts `--key=value`.
    """
    parser = argparse.ArgumentParser(prog="dcnv2", description="Deformable Convolution V2.")
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND")

    def add(
        name: str,
        command: Callable[[argparse.Namespace], int | None],
        text: str,
        configured: bool = False,
        group: Any = commands,
        aliases: Sequence[str] = (),
    ) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = group.add_parser(
            name, help=text, description=text, aliases=aliases
        )
        sub.set_defaults(command=command, configured=configured)
        if configured:
            sub.add_argument("config", help=CONFIG_HELP)
            sub.epilog = "Every value of the configuration can be set, as in --train.steps=100."
        return sub

    add("doctor", _doctor, "Show which implementation of each operator is used here, and why.")
    _add_runs(add)
    sub = add("configs", _configs, "List configurations: parameters, operations, published AP.")
    sub.add_argument("words", nargs="*", metavar="WORD", help="only names that contain every word")
    sub = add(
        *("convert", _convert),
        "Convert another project's file of weights: a detector of detectron2 or mmdetection to a "
        "run, or deformable layers to our names.",
    )
    sub.add_argument("source", type=Path, help=".pkl, .pth and the like, or .safetensors")
    text = "run folder to write for a detector; a .safetensors or .pth for layers only"
    sub.add_argument("target", type=Path, help=text)
    add_harness_commands(add)
    add_data(add, commands)
    return parser


def _add_runs(add: Callable[..., argparse.ArgumentParser]) -> None:
    sub = add("train", _train, "Train and evaluate a detector.", configured=True)
    sub.add_argument(
        "--resume",
        nargs="?",
        const="yes",
        choices=("yes", "auto"),
        help="continue from the newest intact checkpoint; auto starts a new run if there is none",
    )
    sub = add("eval", _eval, "Evaluate a checkpoint.", configured=True)
    sub.add_argument("--checkpoint", help=CHECKPOINT_HELP)
    sub.add_argument("--csv", type=Path, help="also write the row of results to this file")
    sub.add_argument("--out", type=Path, help="folder for tables, plots and COCO results")
    sub.add_argument(
        "--evaluator",
        choices=("pycocotools", "fast"),
        help="who computes COCO's metrics; fast has the same numbers sooner (eval.evaluator)",
    )
    sub.add_argument(
        "--proposals", action="store_true", help="report the recall of region proposals"
    )
    sub = add("predict", _predict, "Detect objects in images.", configured=True)
    sub.add_argument("images", nargs="+", metavar="IMAGE", help=IMAGES_HELP)
    sub.add_argument("--checkpoint", help=CHECKPOINT_HELP)
    sub.add_argument(
        "--out", type=Path, help="folder for the results; default: predictions/ in the run's folder"
    )
    sub.add_argument("--threshold", type=float, help="least score, 0 to 1 (eval.draw_threshold)")
    sub.add_argument("--no-overlays", action="store_true", help="write JSON and CSV only")
    sub = add("offsets", _offsets, "Draw where deformable layers sample.", configured=True)
    sub.add_argument("images", nargs="+", metavar="IMAGE", help=IMAGES_HELP)
    sub.add_argument("--layer", help="deformable layer to follow back; default: the last one")
    sub.add_argument(
        "--depth", type=int, default=3, help="number of layers to follow back; default: 3"
    )
    sub.add_argument(
        "--point",
        type=_point,
        action="append",
        metavar="X,Y",
        help="a point in pixels, repeatable; default: two objects and the background",
    )
    sub.add_argument("--checkpoint", help=CHECKPOINT_HELP)
    sub.add_argument(
        "--out", type=Path, default=Path("offsets.png"), help="picture; default: offsets.png"
    )

    sub = add(
        *("export-run", _export_run, "Copy the model and records of a run, small enough to share."),
        configured=True,
        aliases=["pack"],
    )
    sub.add_argument("out", type=Path, help="folder to write; its name becomes the model's name")
    sub.add_argument("--checkpoint", help=CHECKPOINT_HELP)


def _command_names(parser: argparse.ArgumentParser) -> list[str]:
    actions = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [name for action in actions for name in action.choices]


def _point(text: str) -> tuple[float, float]:
    """Parses `x,y`; returns (y, x)."""
    try:
        x, y = (float(part) for part in text.split(","))
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted X,Y in pixels, got {text}") from None
    return y, x


def _doctor(options: argparse.Namespace) -> None:
    from dcnv2.doctor import report

    print(report())


def _train(options: argparse.Namespace) -> int | None:
    from dcnv2.engine.config import load_config
    from dcnv2.engine.evaluation.evaluate import check_expected
    from dcnv2.engine.runtime.signals import EXIT_STOPPED, RunStoppedError
    from dcnv2.engine.training.trainer import train

    config = load_config(options.config, options.overrides)
    choices: dict[str | None, bool | Literal["auto"]] = {"yes": True, "auto": "auto", None: False}
    resume = choices[options.resume]
    try:
        row = train(config, resume)
    except RunStoppedError as stopped:
        _record_for_torchrun(stopped)
        _complain(str(stopped))
        return EXIT_STOPPED
    if row is not None:  # only rank 0 has results
        print(row.T.to_string(header=False))
        check_expected(row, config.eval.expected)
    return None


def _eval(options: argparse.Namespace) -> int:
    from dcnv2.data.whole_files import check_folder, check_table_path, write_table
    from dcnv2.engine.evaluation.evaluate import check_expected, evaluate_checkpoint
    from dcnv2.engine.runtime.foreign import load_or_convert
    from dcnv2.engine.training.run_logger import write_result
    from dcnv2.engine.visualization.worst import draw_worst

    words = [f"--eval.evaluator={options.evaluator}"] if options.evaluator else []
    config, checkpoint = load_or_convert(
        options.config, [*options.overrides, *words], options.checkpoint
    )
    if options.csv is not None:
        check_table_path(options.csv)
    if options.out is not None:
        check_folder(options.out)
    result = evaluate_checkpoint(config, checkpoint, options.proposals)
    if result is None:  # only rank 0 has results
        return 0
    outputs: list[tuple[Path | None, Callable[[Path], object]]] = [
        (options.csv, lambda path: write_table(path, result.row)),
        (options.out, lambda path: write_result(path, result)),
        (options.out, lambda path: draw_worst(path, result)),
    ]
    status = 0
    try:
        print(result.row.T.to_string(header=False))
        for name, part in {"": result, **result.others}.items():
            if part.errors is not None:
                _print_errors(name, part.errors)
            print(part.scores.per_class.to_string(index=False), flush=True)
    finally:  # whoever reads the output may be gone
        for path, write in outputs:
            if path is not None:
                try:
                    write(path)
                except OSError as error:
                    _complain(f"{path}: not written: {error}")
                    status = 1
    if not options.proposals and result.row["step"].item() == config.train.steps:
        check_expected(result.row, config.eval.expected)
    return status


def _print_errors(name: str, errors: Errors) -> None:
    """Prints precision and recall by class, under the name of their set if there are several."""
    print(f"\n{name + ', ' if name else ''}scores of at least {errors.threshold:g}, IoU 0.5:")
    print(errors.per_class.to_string(index=False, na_rep="", float_format="{:.3f}".format))


def _predict(options: argparse.Namespace) -> None:
    from dcnv2.engine.config.loading import PRETRAINED
    from dcnv2.engine.inference.predict import predict_files
    from dcnv2.engine.runtime.foreign import load_or_convert

    words = [] if options.threshold is None else [f"--eval.draw_threshold={options.threshold}"]
    config, checkpoint = load_or_convert(
        options.config, [*options.overrides, *words], options.checkpoint
    )
    inside = PRETRAINED in config.folder.resolve().parents
    here = inside or checkpoint == Path(options.config)  # no folder of a run to write to
    out = options.out or (Path() if here else config.folder) / "predictions"
    overlays = not options.no_overlays
    for picture, summary in predict_files(config, options.images, out, checkpoint, overlays):
        print(f"{picture}: {summary}")
    print(f"{out / 'detections.json'}, {out / 'detections.csv'}")


def _offsets(options: argparse.Namespace) -> None:
    import torch

    from dcnv2.engine.inference.predict import as_tensor, find_images
    from dcnv2.engine.runtime.foreign import load_or_convert, restore_any
    from dcnv2.engine.visualization.offsets import draw_offsets

    config, checkpoint = load_or_convert(options.config, options.overrides, options.checkpoint)
    images = [as_tensor(file) for file in find_images(options.images)]
    model, _ = restore_any(config, checkpoint, torch.device("cpu"))
    draw_offsets(model, images, options.out, options.point, options.layer, options.depth)
    print(options.out)


def _export_run(options: argparse.Namespace) -> None:
    from dcnv2.engine.config import load_config
    from dcnv2.engine.inference.export_run import export_run

    config = load_config(options.config, options.overrides)
    print(export_run(config, options.out, options.checkpoint))


def _configs(options: argparse.Namespace) -> None:
    from dcnv2.engine.config.catalogue import catalogue

    table = catalogue(options.words)
    if table.empty:
        raise ValueError(f"no configuration has {' and '.join(options.words)} in its name")
    print(table.to_string(index=False, na_rep=""))


def _convert(options: argparse.Namespace) -> None:
    from dcnv2.convert.file_formats import is_weights_name
    from dcnv2.convert.weight_files import convert_file

    if is_weights_name(options.target):
        print(convert_file(options.source, options.target))
        return
    from dcnv2.engine.runtime.foreign import convert_detector

    print(convert_detector(options.source, options.target))
    print(f"{options.target}: dcnv2 predict, eval, train and Predictor take this folder")
