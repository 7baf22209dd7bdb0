# SPDX-License-Identifier: BSD-3-Clause
"""Where a measurement comes from, and whether the code has changed since."""

import csv
import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from dcnv2.csrc_digest import csrc_digest, is_current
from suites.reporting.folders import CSRC, ROOT

# Every report has these, in this order.
PROVENANCE = (
    "command",
    "commit",
    "csrc_digest",
    "machine",
    "cpu",
    "gpu",
    "driver",
    "python",
    "torch",
    "torchvision",
    "cuda",
    "date",
)
# Versions of peers that are rarely installed: only reports that measured them have these.
PEER_VERSIONS = ("mmcv", "onnxruntime", "openvino")


def provenance(command: str | None = None) -> dict[str, str]:
    """Where a measurement comes from: a text for each key of `PROVENANCE`.

    Args:
        command: What was run; by default this process's command line, without local paths.
    """
    import torch

    gpu, driver = _gpu()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    now = datetime.datetime.now(datetime.timezone.utc)
    values = {
        "command": command or _command(),
        "commit": _commit(),
        "csrc_digest": measured_digest(device_of(gpu)),
        "machine": f"{platform.system()} {platform.machine()}, {memory_gib:.0f} GiB",
        "cpu": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "gpu": gpu,
        "driver": driver,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version_of("torchvision"),
        "cuda": torch.version.cuda or "none",
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
    }
    return {key: values[key] for key in PROVENANCE}


def measured_digest(device: str) -> str:
    """Digest of the sources of the library that this process has loaded for a device.

    Without a loaded library it is the digest of the sources as they are now.

    Args:
        device: "cpu" or "cuda"; on a machine with a GPU, "cuda" is what is measured.
    """
    from dcnv2.ops.library import LIBRARIES

    found = LIBRARIES[device]
    if found.loaded:
        return found.info.get("csrc", "unknown")
    try:
        return csrc_digest(CSRC, device)
    except FileNotFoundError:  # in a wheel
        return "unknown"


def read_provenance(report: Path) -> dict[str, str]:
    """The provenance in a report (.md or .csv); empty if it has none."""
    known = (*PROVENANCE, *PEER_VERSIONS)
    if report.suffix == ".csv":
        with report.open(newline="") as lines:
            row = next(csv.DictReader(lines), {})
        return {key: row[key] for key in known if key in row}
    pairs = re.findall(r"^\| (\w+) +\| (.*?) +\|$", report.read_text(), flags=re.MULTILINE)
    return {key: value.replace("\\|", "|") for key, value in pairs if key in known}


def is_stale(report: Path) -> bool:
    """Whether the sources of the measured library have changed, or the report names none."""
    origin = read_provenance(report)
    return not is_current(origin.get("csrc_digest", ""), device_of(origin.get("gpu", "none")), CSRC)


def version_of(package: str) -> str:
    """The installed version of a package, or "none"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def device_of(gpu: str) -> str:
    """The device that a machine measures, by its `gpu` in the provenance."""
    return "cpu" if gpu == "none" else "cuda"


def machine_of(origin: Mapping[str, str]) -> str:
    """The GPU in a provenance or, without one, the CPU."""
    gpu = origin.get("gpu", "none")
    return origin.get("cpu", "") if gpu == "none" else gpu


def _command() -> str:
    words = list(sys.orig_argv)
    if words and Path(words[0]).name.startswith("python"):
        words[0] = "python"
        if len(words) > 1 and Path(words[1]).parent.name == "bin":
            words = [Path(words[1]).name, *words[2:]]
    return shlex.join(_without_local_path(word) for word in words)


def _without_local_path(word: str) -> str:
    head, equals, tail = word.rpartition("=")
    if not os.path.isabs(tail):
        return word
    path = Path(tail)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    return f"{head}{equals}{shown}"


def _commit() -> str:
    if named := os.environ.get("DCNV2_COMMIT"):
        return named
    if not (ROOT / ".git").exists():  # in a wheel, which may be inside another repository
        return "unknown"

    def git(*words: str) -> str:
        # In a container the checkout may belong to another user.
        command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!reports")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _gpu() -> tuple[str, str]:
    import torch

    if torch.cuda.device_count() == 0:  # is_available() would take the GPU from forked processes
        return "none", "none"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        name, driver = found.splitlines()[0].split(", ")
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return torch.cuda.get_device_name(), "unknown"
    # get_device_name() would initialise CUDA, which forked processes could then not use.
    return (torch.cuda.get_device_name() if torch.cuda.is_initialized() else name), driver
