# SPDX-License-Identifier: BSD-3-Clause
"""Commands end with one sentence, whatever stops them or was asked of them."""

import os
import pty
import shlex
import subprocess
import sys
import textwrap

import pytest
import torch

from dcnv2 import cli
from dcnv2.data import shapes
from dcnv2.engine.runtime.device import pick_device


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "dcnv2: interrupted\n"),
        (MemoryError("Unable to allocate 37 GiB"), 1, "dcnv2: Unable to allocate 37 GiB\n"),
        (MemoryError(), 1, "dcnv2: out of memory\n"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
            1,
            "dcnv2: CUDA out of memory. Tried to allocate 2 GiB. Smaller batches need less: "
            "train.batch_size or train.accumulate\n",
        ),
    ],
)
def test_what_stops_a_command_from_outside_is_a_sentence(
    monkeypatch, capsys, error, status, message
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(shapes, "write_shapes", fail)
    assert cli.main(["data", "shapes", "x"]) == status
    assert capsys.readouterr().err == message
    with pytest.raises(type(error)):
        cli.main(["--debug", "data", "shapes", "x"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size=100000"], "size: wanted 64 to 4096 pixels, got 100000"),
        (["--size=63"], "size: wanted 64 to 4096 pixels, got 63"),
        (["--seed=-1"], "seed: wanted at least 0, got -1"),
    ],
)
def test_options_of_generated_data_are_checked(tmp_path, capsys, words, message):
    assert cli.main(["data", "shapes", str(tmp_path / "d"), *words]) == 1
    assert capsys.readouterr().err == f"dcnv2: {message}\n"
    assert not (tmp_path / "d").exists()


# The command line with a command of its own, which needs no torch.
PROGRAM = """
import contextlib, sys
from dcnv2 import cli

def command(options):
{body}

cli._doctor = command
sys.exit(cli.main(["doctor"]))
"""


def _program(body):
    """Words that run a command of these lines."""
    return [sys.executable, "-c", PROGRAM.format(body=textwrap.indent(body, "    "))]


WAITING = """print("ready", flush=True)
sys.stdin.read()  # until the terminal is closed
for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError):
        print("lost", file=stream)
return 75"""


def test_a_terminal_that_is_closed_leaves_the_exit_status():
    """Also where both streams hold what could not be written."""
    ours, theirs = pty.openpty()
    words = _program(WAITING)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        assert os.read(ours, 5) == b"ready"
        os.close(ours)
        run.communicate(timeout=60)
    assert run.returncode == 75


@pytest.mark.parametrize(
    ("streams", "status"), [(">/dev/full", 1), (">&-", 0), ("2>/dev/full", 0), ("2>&-", 0)]
)
def test_streams_that_take_nothing(streams, status):
    words = shlex.join(_program("print('text')\nreturn 0"))
    run = subprocess.run(["bash", "-c", f"{words} {streams}"], stderr=subprocess.PIPE, text=True)
    assert run.returncode == status, run.stderr
    assert run.stderr == "dcnv2: [Errno 28] No space left on device\n" * (status == 1)


@pytest.mark.parametrize("point", ["nan,1", "1,inf", "1", "1,2,3", ""])
def test_a_point_that_is_no_place_is_rejected(capsys, point):
    with pytest.raises(SystemExit):
        cli.main(["offsets", "shapes", "a.png", f"--point={point}"])
    assert f"wanted X,Y in pixels, got {point}" in capsys.readouterr().err


def test_a_device_without_values_is_refused():
    with pytest.raises(ValueError, match="device: cannot use 'meta': its tensors have no values"):
        pick_device("meta")
