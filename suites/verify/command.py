# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2 verify`: the claims on one implementation, a verdict, and a page that shows it."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from dcnv2.harness import PACKAGES, UsageError
from suites.backends.peers import User
from suites.backends.registry import Backend, get_backend
from suites.claims import budget as budgets
from suites.claims.isolation import log_workers
from suites.claims.probe import probe
from suites.problems.problem import DTYPES
from suites.verify import report
from suites.verify.claims_run import ClaimsRun, run_claims
from suites.verify.origin import origin
from suites.verify.script import MARK, script
from suites.verify.verdicts import Verdict, verdicts

SKELETON = Path(__file__).with_name("skeleton.py")


def verify(
    spec: str,
    budget: str,
    only: str,
    dtypes: Sequence[str],
    device: str | None,
    out: Path,
) -> int:
    """Check an implementation, write its report and print the verdict.

    Args:
        spec: module:function, file.py:function, or the name of a backend.
        budget: the time for the claims, such as 60s, or none.
        only: a part of the names of the claims to check.
        dtypes: the only ones to check; by default all that it supports.
        device: cpu or cuda; by default a GPU if there is one.
        out: the folder to write to.

    Returns:
        0 if all claims that were checked hold, 1 if some fail, 130 after Ctrl-C.

    Raises:
        UsageError: The implementation cannot be called, or no claim was selected.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    words = ["dcnv2", "verify", spec, f"--device={device}", *(f"--dtype={d}" for d in dtypes)]
    spec = as_module(spec)
    out.mkdir(parents=True, exist_ok=True)
    backend = prepare(spec, device, budget, dtypes, log=out / "output.log")
    run = run_claims(spec, device, dtypes, budget, only, out / "junit.xml")
    if run.target is None:
        raise UsageError(f"no claim has {only!r} in its name" if only else "no claim applies")
    found = verdicts(run.cases)
    made = report.Report(
        name=spec,
        target=_target(backend, device, dtypes),
        verdicts=found,
        recorder=run.target.session.recorder,
        scripts=_write_scripts(found, run, out / "failures"),
        lacking=getattr(backend, "lacking", {}),
        repeat=shlex.join(words),
        origin=origin(shlex.join(words), spec, getattr(backend, "version", "")),
    )
    page = report.write(made, out)
    print("\n".join([*report.screen(made), "", f"report: {page}"]))
    if run.interrupted:
        return 130
    if not any(verdict.verdict in ("holds", "fails") for verdict in found):
        raise UsageError(f"no claim was checked: {made.headline}")
    return int(bool(made.failures))


def write_skeleton(path: Path) -> int:
    """Write a commented adapter, which runs as it is.

    Raises:
        UsageError: There is such a file, or its name is no module's.
    """
    if path.suffix != ".py" or not path.stem.isidentifier() or path.stem in PACKAGES:
        raise UsageError(f"wanted the name of a Python module such as mine.py, got {path}")
    if path.exists():
        raise UsageError(f"{path} exists; choose another name")
    path.write_text(SKELETON.read_text().partition("\n")[2])  # the licence is ours, not the user's
    print(f"{path}: an adapter to complete; then run: dcnv2 verify {path}:deform_conv2d")
    return 0


def prepare(
    spec: str, device: str, budget: str, dtypes: Sequence[str], log: Path | None = None
) -> Backend:
    """The implementation, after its first calls; what it prints in later ones goes to `log`.

    Raises:
        UsageError: one sentence that says what is wrong.
    """
    try:
        budgets.seconds(budget)
        if spec.partition(":")[0].partition(".")[0] in PACKAGES:
            raise UsageError(f"{spec}: the suites have a package of that name; rename the module")
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("there is no GPU here, or this torch was built without CUDA")
        backend = get_backend(spec)
        if log is not None:
            log_workers(log)
        if isinstance(backend, User):
            probe(backend, device, dtypes or DTYPES)
            if raised := [backend.lacking[dtype] for dtype in dtypes if dtype in backend.lacking]:
                raise UsageError(f"{spec} does not run in a selected dtype: {raised[0]}")
    except UsageError:
        raise
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(str(error)) from error
    return backend


def as_module(spec: str) -> str:
    """A specification whose file `folder/mine.py` has become the module `mine`, now importable."""
    place, colon, function = spec.partition(":")
    path = Path(place)
    if not colon or path.suffix != ".py":
        return spec
    if not path.is_file():
        raise UsageError(f"there is no file {place}")
    sys.path.insert(0, str(path.resolve().parent))
    found = importlib.util.find_spec(path.stem)
    if found is None or Path(str(found.origin)).resolve() != path.resolve():
        raise UsageError(f"{place}: another module has the name {path.stem}; rename the file")
    return f"{path.stem}:{function}"


def _target(backend: Backend, device: str, dtypes: Sequence[str]) -> list[str]:
    """What was tested, and what the implementation does not support."""
    lacking = getattr(backend, "lacking", {})
    supported = [d for d in dtypes or getattr(backend, "dtypes", DTYPES) if d not in lacking]
    words = [f"on {device}", *supported]
    if getattr(backend, "arrays", False):
        words.append("called with NumPy arrays")
    return [*words, *(f"no {what}" for what in lacking)]


def _write_scripts(found: Sequence[Verdict], run: ClaimsRun, folder: Path) -> dict[str, str]:
    """Write the script of every failure that has one; return their paths by claim."""
    for old in folder.glob("*.py"):
        if old.read_text().startswith(MARK):  # of an earlier run
            old.unlink()
    paths = {}
    for verdict in found:
        text = script(verdict.failed, run.target) if verdict.failed else None
        if text is not None:
            folder.mkdir(exist_ok=True)
            path = folder / f"{verdict.claim.replace(' ', '_')}.py"
            path.write_text(text)
            paths[verdict.claim] = str(path)
    return paths
