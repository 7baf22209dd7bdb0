# SPDX-License-Identifier: BSD-3-Clause
"""Trains in process groups that get a signal; see test_signals.py.

The groups are forked from a process that has imported everything: importing takes longest.
"""

import json
import os
import pty
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dcnv2 import cli, doctor
from dcnv2.engine.runtime.checkpoint import last_checkpoint, list_checkpoints
from dcnv2.engine.training import trainer  # noqa: F401  imported before the forks

# signal, loader processes per rank, ranks
CASES = [
    (signal.SIGTERM, 2, 1),
    (signal.SIGINT, 1, 1),
    (signal.SIGUSR1, 1, 1),
    (signal.SIGTERM, 2, 2),
    (signal.SIGHUP, 1, 1),  # of a terminal that is closed: last, as later forks would hold it open
]
LIMIT_S = 240


def main(config: str, output: Path) -> None:
    """Runs all cases at once; writes the exit statuses and the newest checkpoint of each."""
    torch.set_num_threads(1)
    # Whoever started the tests (nohup, a shell's background job) may have had these ignored.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    doctor.report()  # reads the sources of csrc/ once, for all children
    runs = {}
    for number, workers, ranks in CASES:
        name = f"{number.name}_{workers}_{ranks}"
        words = ["train", config, f"--name={name}", f"--data.workers={workers}"]
        in_terminal = number == signal.SIGHUP
        runs[name] = number, *(start_in_terminal(words) if in_terminal else start(words, ranks))
    notes = {}
    for name, (number, terminal, *ranks) in runs.items():
        wait_for_checkpoint(output / name / "checkpoints")
        if terminal is not None:
            os.close(terminal)  # sends the signal, and whatever is printed afterwards fails
        else:
            if number == signal.SIGTERM:
                os.kill(ranks[0], number)  # as `timeout`, which sends it to its group too
            os.killpg(ranks[0], number)
        notes[name] = {
            "statuses": [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks],
            "saved": last_checkpoint(output / name / "checkpoints").name,
            "log": (output / name / "log.txt").read_text(),
            "left": group_exists(ranks[0]),
        }
    (output / "notes.json").write_text(json.dumps(notes))


def start_in_terminal(words: list[str]) -> tuple[int, int]:
    """Forks a run into a terminal of its own: the terminal, and the process, which leads a group.

    It ends as any Python, whose streams are flushed then.
    """
    child, terminal = pty.fork()
    if child == 0:
        sys.exit(cli.main(words))
    return terminal, child


def start(words: list[str], ranks: int) -> tuple[int | None, ...]:
    """Forks the ranks of a run into one process group, which the first leads: None, and these."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.setpgid(0, children[0] if children else 0)
            if ranks > 1:  # what torchrun sets
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
                os.environ |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost"}
                os.environ["TORCHELASTIC_RUN_ID"] = "signals"
            try:
                os._exit(cli.main(words))
            except BaseException as error:
                print(f"{words}: {type(error).__name__}: {error}", file=sys.stderr)
                os._exit(1)
        children.append(child)
    return None, *children


def wait_for_checkpoint(folder: Path) -> None:
    """Returns when the folder holds a checkpoint."""
    wait_for(lambda: list_checkpoints(folder))


def wait_for(condition: Callable[[], Any]) -> None:
    """Returns when the condition holds."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def group_exists(leader: int) -> bool:
    """Whether a process of the group is left; loader processes may take seconds to end."""
    for _ in range(100):
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
