# SPDX-License-Identifier: BSD-3-Clause
"""Runs reports/verdicts/run.py in processes forked from one that has imported torch.

A Python of its own for each data file spends three seconds on imports.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path


def run(command, env=None, capture_output=True, text=True, timeout=120):
    """As `subprocess.run` of the runner on a data file, given the same words."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision"])
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        process = context.Process(target=_run, args=([str(word) for word in command[1:]], files))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        printed = [file.read_text() for file in files]
    return subprocess.CompletedProcess(command, process.exitcode, *printed)


def _run(words, files):
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
