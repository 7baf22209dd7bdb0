# SPDX-License-Identifier: BSD-3-Clause
"""Reports: tables with the provenance of what they hold, an index of them, and figures of pages.

`python -m suites.reporting` renews reports/README.md, whose last column says which reports were
made from other sources of their library than today's; `--readme` also copies the headlines into
README.md, and into the pages of docs/ and reports/ that hold some.
"""

import argparse
import csv
import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd

from dcnv2.csrc_digest import csrc_digest, is_current
from suites.reporting.page_cells import fill_cells

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
REPORTS = ROOT / "reports"
# README.md and the pages of docs/ and reports/ that hold headlines of reports.
PAGES = (
    ROOT / "README.md",
    *(
        page
        for folder in (ROOT / "docs", REPORTS)
        for page in sorted(folder.rglob("*.md"))
        if "<!-- report: " in page.read_text()
    ),
)
# In this order in every report.
NOTEBOOK = "<!-- notebook -->"  # begins a page of the reports that people write
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
PEER_VERSIONS = ("mmcv",)  # of peers that few have: where one was measured
_HEADLINE = ("<!-- headline -->", "<!-- /headline -->")


def provenance(command: str | None = None) -> dict[str, str]:
    """Where a measurement comes from: one text for each key of `PROVENANCE`.

    Args:
        command: What was run; by default this process's own command line, without local paths.
    """
    import torch

    gpu, driver = _gpu()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    now = datetime.datetime.now(datetime.timezone.utc)
    values = {
        "command": command or _command(),
        "commit": _commit(),
        "csrc_digest": measured_digest(_device(gpu)),
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
    """Digest of the sources behind a device's library as this process has it, else as they are.

    Args:
        device: "cpu" or "cuda": on a machine with a GPU that is what is measured.
    """
    from dcnv2.ops.library import LIBRARIES

    found = LIBRARIES[device]
    return found.info.get("csrc", "unknown") if found.loaded else csrc_digest(CSRC, device)


def report_dir(device: str = "cpu") -> Path:
    """Folder for reports made on `device`: reports/, or a subfolder by GPU model (reports/h200)."""
    if not device.startswith("cuda"):
        return REPORTS
    import torch

    return REPORTS / gpu_slug(torch.cuda.get_device_name(device))


def gpu_slug(name: str) -> str:
    """A folder name from a GPU's: 'NVIDIA H200' is h200, 'NVIDIA GeForce RTX 4090' rtx4090."""
    model = re.search(r"[A-Za-z]*\s?\d+[A-Za-z]*", name)
    return re.sub(r"\W", "", (model.group() if model else name).lower())


def write_report(
    name: str,
    rows: pd.DataFrame,
    *,
    title: str,
    sections: Mapping[str, pd.DataFrame | str] | None = None,
    headline: pd.DataFrame | None = None,
    pictures: Sequence[str] = (),
    directory: Path = REPORTS,
    origin: Mapping[str, str] | None = None,
) -> Path:
    """Write `directory`/`name`.csv with every row and its provenance, and .md to be read.

    Args:
        name: File name without a suffix.
        rows: One measurement a row.
        title: Heading of the Markdown file.
        sections: Heading to table or text, in reading order; by default the rows themselves.
        headline: A few rows that README may show.
        pictures: File names, relative to `directory`, shown at the end.
        directory: Folder, made if missing.
        origin: The provenance, taken now if not given.

    Returns:
        Path of the Markdown file.
    """
    origin = dict(origin or provenance())
    directory.mkdir(parents=True, exist_ok=True)
    rows.assign(**origin).to_csv(directory / f"{name}.csv", index=False, float_format="%.6g")
    parts = [f"# {title}"]
    if headline is not None:
        parts.append("\n".join([_HEADLINE[0], markdown_table(headline), _HEADLINE[1]]))
    for heading, body in (sections or {"Rows": rows}).items():
        text = body if isinstance(body, str) else markdown_table(body)
        parts.append(f"## {heading}\n\n{text}")
    parts += [f"![{picture}]({picture})" for picture in pictures]
    block = pd.DataFrame(origin.items(), columns=["provenance", "value"])
    parts.append(f"## Provenance\n\n{markdown_table(block)}")
    path = directory / f"{name}.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def markdown_table(table: pd.DataFrame) -> str:
    """A GitHub table: three significant digits, missing values empty, bars in texts escaped."""

    def cell(value: object) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and value != value):
            return ""
        if isinstance(value, float):
            return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return str(value).replace("|", "\\|")

    texts = table.astype(object).map(cell)
    return texts.to_markdown(index=False, disable_numparse=True)


def read_provenance(report: Path) -> dict[str, str]:
    """The provenance that a report (.md or .csv) carries; empty where it carries none."""
    known = (*PROVENANCE, *PEER_VERSIONS)
    if report.suffix == ".csv":
        with report.open(newline="") as lines:
            row = next(csv.DictReader(lines), {})
        return {key: row[key] for key in known if key in row}
    pairs = re.findall(r"^\| (\w+) +\| (.*?) +\|$", report.read_text(), flags=re.MULTILINE)
    return {key: value.replace("\\|", "|") for key, value in pairs if key in known}


def is_stale(report: Path) -> bool:
    """Whether the library that a report is of had other sources than today (or it does not say)."""
    origin = read_provenance(report)
    return not is_current(origin.get("csrc_digest", ""), _device(origin.get("gpu", "none")), CSRC)


def all_reports(directory: Path = REPORTS) -> list[Path]:
    """Every Markdown report below `directory`, without the index and the notebooks."""
    pages = sorted(path for path in directory.rglob("*.md") if path != directory / "README.md")
    return [page for page in pages if not _is_notebook(page)]


def _is_notebook(page: Path) -> bool:
    return page.read_text().startswith(NOTEBOOK)


def index_text(directory: Path = REPORTS) -> str:
    """The index: a row for each report with its origin, and whether it is stale."""
    rows = []
    for report in all_reports(directory):
        origin = read_provenance(report)
        link = report.relative_to(directory).as_posix()
        rows.append(
            {
                "report": f"[{link.removesuffix('.md')}]({link})",
                "machine": _machine(origin),
                "date": origin.get("date", ""),
                "commit": origin.get("commit", ""),
                "csrc": origin.get("csrc_digest", ""),
                "state": "**stale**" if is_stale(report) else "current",
            }
        )
    columns = ["report", "machine", "date", "commit", "csrc", "state"]
    notebooks = [page for page in sorted(directory.rglob("*.md")) if _is_notebook(page)]
    links = [page.relative_to(directory).as_posix() for page in notebooks]
    return (
        "# Reports\n\n"
        "Made by `python -m suites.reporting`. A report is stale once the sources of the library "
        "that it measured differ: the GPU's, or the CPU's where there is none.\n\n"
        + markdown_table(pd.DataFrame(rows, columns=columns))
        + "\n"
        + "".join(f"\nWritten by hand: [{link.removesuffix('.md')}]({link})\n" for link in links)
    )


def fill_page(text: str, directory: Path = REPORTS, page: Path = PAGES[0]) -> str:
    """A page's text with its blocks made anew, each up to its `<!-- end -->`.

    `<!-- report: NAME -->` holds the report's headline, `<!-- picture: NAME, CAPTION -->` a picture
    once there is one; for single figures see `page_cells`. Links go from `page`, by default
    README.md, to `directory` beside README.md.

    Raises:
        ValueError: A block names a report that is there but has no headline.
    """
    folder = "../" * (len(page.relative_to(ROOT).parts) - 1) + directory.name

    def block(match: re.Match) -> str:
        report = directory / f"{match[1]}.md"
        link = f"{folder}/{match[1]}.md"
        body = _page_block(report, link) if report.exists() else "Not measured yet."
        return f"<!-- report: {match[1]} -->\n{body}\n<!-- end -->"

    def picture(match: re.Match) -> str:
        name, caption = match[1], match[2]
        shown = f"![{caption}]({folder}/{name})\n" if (directory / name).exists() else ""
        return f"<!-- picture: {name}, {caption} -->\n{shown}<!-- end -->"

    text = re.sub(r"<!-- report: (\S+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)
    pattern = r"<!-- picture: (\S+), ([^\n]+) -->\n.*?<!-- end -->"
    text = re.sub(pattern, picture, text, flags=re.DOTALL)

    def cells_of(name: str) -> tuple[str, bool]:
        report = directory / f"{name}.md"
        return _headline(report), report.exists() and is_stale(report)

    return fill_cells(text, cells_of)


def _headline(report: Path) -> str:
    """The headline of a report, a Markdown table, or an empty text if there is none."""
    text = report.read_text() if report.exists() else ""
    found = re.search(f"{_HEADLINE[0]}\n(.*?)\n{_HEADLINE[1]}", text, re.DOTALL)
    return found[1] if found else ""


def _page_block(report: Path, link: str) -> str:
    headline = _headline(report)
    if not headline:
        raise ValueError(f"{report} has no headline")
    origin = read_provenance(report)
    versions = ", ".join(
        f"{name} {origin.get(name)}"
        for name in ("torch", "torchvision", *PEER_VERSIONS)
        if name in origin or name not in PEER_VERSIONS
    )
    source = f"`{origin.get('command')}` on {_machine(origin)}, {versions}, {origin.get('date')}"
    state = " **Stale: measured before the kernels last changed.**" if is_stale(report) else ""
    return f"{headline}\n\n{source}: [{report.stem}]({link}).{state}"


def _device(gpu: str) -> str:
    return "cpu" if gpu == "none" else "cuda"


def _machine(origin: Mapping[str, str]) -> str:
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
    def git(*words: str) -> str:
        # The checkout may belong to another user, in a container for one.
        command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!reports")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("DCNV2_COMMIT", "unknown")
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
    # A process that has left the GPU to those that it forks goes on doing so.
    return (torch.cuda.get_device_name() if torch.cuda.is_initialized() else name), driver


def version_of(package: str) -> str:
    """The installed version of a package, or "none"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def main(words: Sequence[str] | None = None) -> None:
    """Renew the index of the reports and, if asked, the headlines that pages hold."""
    parser = argparse.ArgumentParser(prog="python -m suites.reporting", description=__doc__)
    parser.add_argument(
        "--readme",
        action="store_true",
        help="copy the headlines into README.md, docs/ and reports/",
    )
    options = parser.parse_args(words)
    (REPORTS / "README.md").write_text(index_text())
    if options.readme:
        for page in PAGES:
            page.write_text(fill_page(page.read_text(), page=page))
