# SPDX-License-Identifier: BSD-3-Clause
"""The process in an environment of its own that calls one framework; it has no torch.

    ENVIRONMENT/bin/python -m suites.backends.frameworks.serve NAME

Requests come on standard input, answers go to standard output; what the framework prints goes to
standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import BinaryIO

import numpy as np

from suites.backends.frameworks.arrays import receive, send


def call(
    adapter: ModuleType,
    operands: dict[str, np.ndarray | None],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    threads: int,
) -> dict[str, np.ndarray]:
    """The results of an adapter, by name.

    Args:
        adapter: a module of `adapters`.
        operands: input, offset, weight, bias, mask and, where gradients are wanted, grad_output.
        stride: (y, x), and so on.
        padding: of zeros.
        dilation: distance of taps.
        threads: how many the framework may use, where the adapter can set it.
    """
    operands = dict(operands)
    grad_output = operands.pop("grad_output", None)
    _, _, kernel_height, kernel_width = operands["weight"].shape
    return adapter.deform_conv2d(
        operands,
        grad_output,
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=tuple(dilation),
        groups=operands["input"].shape[1] // operands["weight"].shape[1],
        deform_groups=operands["offset"].shape[1] // (2 * kernel_height * kernel_width),
        threads=threads,
    )


def answer(adapter: ModuleType, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the other process closes the pipe."""
    while True:
        try:
            options, operands = receive(requests)
        except EOFError:
            return
        try:
            results, words = call(adapter, operands, **options), {}
        except Exception as error:
            results, words = {}, {"error": f"{type(error).__name__}: {error}"}
        send(answers, words, results)


def main() -> None:
    """Serve the framework that the command names."""
    adapter = importlib.import_module(f"suites.backends.frameworks.adapters.{sys.argv[1]}")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer(adapter, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
