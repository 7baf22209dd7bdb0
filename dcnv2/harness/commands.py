# SPDX-License-Identifier: BSD-3-Clause
"""The commands `dcnv2 verify` and `dcnv2 bench`: their options, and their exit status."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from dcnv2.harness import UsageError, load

_DTYPES = ("float64", "float32", "float16", "bfloat16")


def add_harness_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add both commands to the command line by its function for a command."""
    where = (
        "module:function, file.py:function, or torchvision, mmcv, dcnv2, portable, or a framework "
        "that has an environment, such as paddle"
    )
    sub = add("verify", _verify, "Test a deformable convolution and write a report.")
    sub.add_argument("implementation", nargs="?", metavar="IMPLEMENTATION", help=where)
    sub.add_argument("--new", type=Path, metavar="FILE", help="write an adapter to complete")
    sub.add_argument("--only", default="", metavar="TEXT", help="such as gradients, or a claim")
    _add_common(sub, "dcnv2-verify")
    sub = add("bench", _bench, "Measure a deformable convolution and write a report.")
    sub.add_argument("implementation", metavar="IMPLEMENTATION", help=where)
    _add_common(sub, "dcnv2-bench")


def _add_common(sub: argparse.ArgumentParser, out: str) -> None:
    sub.add_argument(
        "--budget", default="90s", metavar="TIME", help="such as 60s, 5min or none; default: 90s"
    )
    sub.add_argument("--dtype", action="append", choices=_DTYPES, help="repeatable")
    sub.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    sub.add_argument("--out", type=Path, default=Path(out), help=f"folder to write; default: {out}")


def _verify(options: argparse.Namespace) -> int:
    """Run the correctness suite on an implementation, or write an adapter to complete."""
    command = load("suites.verify.command")
    if options.new is not None:
        return int(command.write_skeleton(options.new))
    if options.implementation is None:
        raise UsageError("wanted module:function, or --new FILE")
    status = command.verify(
        options.implementation,
        budget=options.budget,
        only=options.only,
        dtypes=options.dtype or (),
        device=options.device,
        out=options.out,
    )
    return int(status)


def _bench(options: argparse.Namespace) -> int:
    """Measure an implementation."""
    status = load("suites.verify.bench").bench(
        options.implementation,
        budget=options.budget,
        dtypes=options.dtype or (),
        device=options.device,
        out=options.out,
    )
    return int(status)
