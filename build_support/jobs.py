# SPDX-License-Identifier: BSD-3-Clause
"""Run compilations in parallel, only those that are out of date, and show their progress.

What is out of date is decided by contents, not by times: a copied or restored source is often older
than an object that was made from another version of it, and objects of two versions in one library
crash.
"""

import functools
import hashlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One command that makes one file.

    Attributes:
        name: what progress reports call it.
        command: the words, without those that name the output.
        folder: where the command runs, and where records of it are kept.
        target: the output, relative to `folder` or absolute.
        inputs: files that it reads; a depfile adds to them.
        deps_flag: the compiler's option that writes a depfile; empty for none.
    """

    name: str
    command: list[str]
    folder: Path
    target: Path
    inputs: list[Path]
    deps_flag: str = ""

    def _record(self, suffix: str) -> Path:
        kept = Path(self.target.name) if self.target.is_absolute() else self.target
        return self.folder / kept.with_name(kept.name + suffix)

    def _words(self) -> list[str]:
        deps = [self.deps_flag, "-MF", str(self._record(".d"))] if self.deps_flag else []
        return [*self.command, *deps, "-o", str(self.target)]

    def is_current(self) -> bool:
        """Whether this command made the target from the inputs as they are now."""
        try:
            made = (self.folder / self.target).exists()
            return made and self._record(".digest").read_text() == self._digest()
        except OSError:  # something was never made, or an input is gone
            return False

    def _inputs(self) -> list[Path]:
        found = _dependencies(self._record(".d").read_text()) if self.deps_flag else []
        return [self.folder / path for path in [*self.inputs, *found]]

    def _digest(self) -> str:
        """Of the command and its inputs, not of the folder, which may be copied."""
        made = hashlib.sha256(shlex.join([*self.command, "-o", str(self.target)]).encode())
        for path in self._inputs():
            made.update(_content(path, path.stat().st_size, path.stat().st_mtime_ns))
        return made.hexdigest()

    def run(self) -> float:
        """Run the command and return its seconds.

        Raises:
            RuntimeError: it failed; with its output.
        """
        (self.folder / self.target).parent.mkdir(parents=True, exist_ok=True)
        self._record(".digest").unlink(missing_ok=True)
        start, started_ns = time.monotonic(), time.time_ns()
        done = subprocess.run(
            self._words(), cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{self.name} failed: {shlex.join(self._words())}\n{done.stdout}")
        if done.stdout:
            print(done.stdout, end="", file=sys.stderr)  # warnings
        # What changed meanwhile may have been read before the change: compile it again next time.
        if all(path.stat().st_mtime_ns < started_ns for path in self._inputs()):
            self._record(".digest").write_text(self._digest())
        return time.monotonic() - start


@functools.cache
def _content(path: Path, _size: int, _mtime_ns: int) -> bytes:
    """The digest of a file, read again if its size or time has changed."""
    return hashlib.sha256(path.read_bytes()).digest()


def _dependencies(depfile: str) -> list[Path]:
    """The prerequisites in a makefile's rule, where a backslash escapes spaces."""
    words = re.findall(r"(?:\\.|[^\s\\])+", depfile.replace("\\\n", " ").partition(": ")[2])
    return [Path(re.sub(r"\\(.)", r"\1", word).replace("$$", "$")) for word in words]


@dataclass
class Progress:
    """Reports finished jobs on stderr, and on the terminal where pip hides stderr.

    Attributes:
        terminal: whether to look for a terminal besides stderr.
    """

    terminal: bool = False
    total: int = 0
    _done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Open the terminal, if there is one that stderr does not go to already."""
        self._tty = None
        if self.terminal and not sys.stderr.isatty():
            try:
                self._tty = open("/dev/tty", "w")  # noqa: SIM115
            except OSError:  # none: a service, or a container
                self._tty = None

    def say(self, text: str) -> None:
        """Write a line that stays."""
        print(f"dcnv2: {text}", file=sys.stderr, flush=True)
        if self._tty:
            print(f"\r\033[Kdcnv2: {text}", file=self._tty, flush=True)

    def finished(self, name: str, seconds: float) -> None:
        """Count a job; on the terminal the next one overwrites this line."""
        self._done += 1
        text = f"dcnv2: [{self._done}/{self.total}] {name}, {seconds:.0f} s"
        print(text, file=sys.stderr, flush=True)
        if self._tty:
            end = "\n" if self._done == self.total else ""
            print(f"\r\033[K{text} ", end=end, file=self._tty, flush=True)


def max_jobs() -> int:
    """MAX_JOBS, by default the number of cores.

    Raises:
        ValueError: it is no positive number.
    """
    text = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"MAX_JOBS must be a positive number, not '{text}'")
    return int(text)


def run(jobs: Sequence[Job], progress: Progress) -> None:
    """Run independent jobs, MAX_JOBS at a time; the first failure cancels those that wait.

    Raises:
        RuntimeError: a job failed.
    """
    with ThreadPoolExecutor(max_jobs()) as pool:
        names = {pool.submit(job.run): job.name for job in jobs}
        try:
            for future in as_completed(names):
                progress.finished(names[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
