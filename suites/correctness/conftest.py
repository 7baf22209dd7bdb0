# SPDX-License-Identifier: BSD-3-Clause
"""Options, targets and closing tables of the correctness suite."""

import os
from pathlib import Path

import pytest
import torch

# Looks for a GPU without touching it, so that forked processes can use it.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

from suites.backends import registry
from suites.backends.emulator import operators
from suites.backends.emulator.build import LIBRARY
from suites.claims import claim as judging
from suites.claims import isolation
from suites.claims.recorder import RECORDER, Case
from suites.claims.tables import (
    summarise,
    summarise_mutants,
    write_claims,
    write_mutants,
    write_report,
)
from suites.mutants import MUTANTS, UNCHANGED, Mutant

PROFILES = {
    "default": {"factor": 1.0, "shrink": True, "derandomize": True},
    "thorough": {"factor": 50.0, "shrink": True, "derandomize": False},
    "unshrunk": {"factor": 1.0, "shrink": False, "derandomize": True},
    "brief": {"factor": 0.1, "shrink": False, "derandomize": True},
}


def pytest_addoption(parser):
    group = parser.getgroup("deformable operators")
    group.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="implementation to judge, repeatable: dcnv2, portable, torchvision, mmcv, or an "
        "operator of yours as module.path:function, with @torchvision, @mmcv, @charlesshang, @v1, "
        "@roi_pool or @psroi_pool if its argument names do not show its calling convention; "
        "or CUDA's kernels by name: dcnv2-simt, dcnv2-mma, dcnv2-wgmma. "
        "suites/correctness/README.md says more. Default: dcnv2 and portable.",
    )
    group.addoption(
        "--device",
        action="append",
        choices=("cpu", "cuda"),
        help="where to judge, repeatable; default: the CPU, and the GPU if there is one",
    )
    group.addoption(
        "--profile",
        choices=PROFILES,
        default="default",
        help="thorough draws 50 times as many problems, new ones on every run; unshrunk reports "
        "the first failing problem instead of the smallest; brief draws a tenth",
    )
    group.addoption(
        "--library",
        action="append",
        default=[],
        metavar="PATH",
        help="let dcnv2 be this compiled library alone, repeatable: one built aside, for a "
        "sanitizer say; or an emulated one",
    )
    group.addoption(
        "--mutants",
        nargs="?",
        const="first",
        choices=("first", "all"),
        help="run mutants instead, each of which some claim must detect: until the first "
        "one does, or by all claims",
    )
    group.addoption(
        "--mutant",
        action="append",
        metavar="TEXT",
        help="run only mutants with this in their name, repeatable",
    )
    group.addoption(
        "--report",
        metavar="DIR",
        help="write correctness.md, mutants.md or mutants_by_claim.md, and its .csv, there",
    )


MARKS = (
    "ours: holds of this library's own paths, not of every correct implementation",
    "library: holds of dcnv2.ops alone",
    "cpu_only: has a meaning on the CPU alone",
    "cuda_only: has a meaning on a GPU alone",
    "in_place: asks for an image that nothing may copy whole",
)


def _load(paths):
    """Have libraries built aside take the operators, and those of the checkout not be loaded."""
    if not paths:
        return
    if [Path(path).name for path in paths] == [LIBRARY]:
        operators.use(Path(paths[0]))
        return
    for path in paths:
        registry.use_library(path)


def pytest_configure(config):
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    _load(config.getoption("--library"))
    judging.PROFILE.update(PROFILES[config.getoption("--profile")])
    # Problems are tiny, and threads that wait for one another on a busy machine are not. What
    # threads may change has claims of its own, which set their number.
    torch.set_num_threads(1)
    # torch.conv2d is a yardstick here, and by default it rounds float32 to 11 bits on a GPU.
    torch.backends.cudnn.allow_tf32 = False
    asked = config.getoption("--mutant")
    if asked and not config.getoption("--mutants"):
        raise pytest.UsageError("--mutant chooses among --mutants, which is not given")
    if config.getoption("--mutants"):
        judging.PROFILE["shrink"] = False
        config.mutants = [m for m in MUTANTS if any(text in m.key for text in asked or [""])]
        if not config.mutants:
            raise pytest.UsageError(f"no mutant has one of {asked} in its name")
        chosen = (*UNCHANGED, *config.mutants)
        config.targets = [registry.Target(mutant, "cpu") for mutant in chosen]
        return
    try:
        config.targets = [
            registry.Target(registry.get_backend(name), device)
            for name in config.getoption("--backend") or ("dcnv2", "portable")
            for device in config.getoption("--device") or registry.devices()
        ]
    except (ValueError, ImportError, AttributeError) as error:
        raise pytest.UsageError(str(error)) from error
    isolation.plan(config.targets)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A claim that fails for a mutant has killed it; one without draws may crash as well."""
    target = pyfuncitem.funcargs.get("target")
    if target is not None and not hasattr(pyfuncitem.obj, "is_claim"):
        check = pyfuncitem.obj
        pyfuncitem.obj = lambda **given: isolation.check_isolated(lambda: check(**given), target)
    if target is None or not isinstance(target.backend, Mutant) or target.backend in UNCHANGED:
        return (yield)
    if RECORDER.kills[target.backend.key] and pyfuncitem.config.getoption("--mutants") == "first":
        pytest.skip("killed already")
    try:
        return (yield)
    except Exception as error:
        RECORDER.kills[target.backend.key].append((RECORDER.current.claim, str(error)))
        return True


def pytest_report_header(config):
    names = ", ".join(target.name for target in config.targets)
    apart = any(isolation.risky(target) for target in config.targets if target.device == "cuda")
    found = ["cpu"]
    if apart:  # this process leaves the GPU alone
        found += ["cuda, in processes apart"]
    elif torch.cuda.is_available():
        found += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(_gpus())]
    return [
        f"judged: {names}; profile {config.getoption('--profile')}",
        f"devices: {', '.join(found)}",
    ]


def _gpus() -> int:
    return torch.cuda.device_count()


def pytest_generate_tests(metafunc):
    if "target" in metafunc.fixturenames:
        targets = [t for t in metafunc.config.targets if _wanted(metafunc.definition, t)]
        metafunc.parametrize("target", targets, ids=[target.name for target in targets])


def _wanted(definition, target) -> bool:
    """The `MARKS` say where a claim has a meaning."""
    if definition.get_closest_marker("ours") and not target.backend.ours:
        return False
    if definition.get_closest_marker("library") and target.backend.name != "dcnv2":
        return False
    if definition.get_closest_marker("in_place") and not _in_place(target.backend):
        return False
    if definition.get_closest_marker("cuda_only") and target.device != "cuda":
        return False
    return not (definition.get_closest_marker("cpu_only") and target.device != "cpu")


@pytest.fixture(autouse=True)
def _case(request):
    """The recorder's entry for this test."""
    spec = getattr(request.node, "callspec", None)
    target = spec.params.get("target") if spec else None
    if target is None:
        yield
        return
    variant = spec.id.replace(target.name, "").removeprefix("-").removesuffix("-")
    claim = request.node.originalname.removeprefix("test_").replace("_", " ")
    RECORDER.begin(request.node.nodeid, Case(claim, target.name, variant, _version(target)))
    yield


def _version(target) -> str:
    return getattr(target.backend, "version", "")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and isolation.gpu_lost():
        item.session.shouldstop = (
            "the GPU is lost to this process: what came next would fail for no fault of its own"
        )
    case = RECORDER.cases.get(item.nodeid)
    if case and (report.when == "call" or report.failed):
        left_out = "unsupported" if case.unsupported else "skipped"  # not on this machine
        case.outcome = "failed" if report.failed else left_out if report.skipped else "passed"


def pytest_collection_modifyitems(config, items):
    # A claim that has no meaning for any target on this machine is not one that was skipped.
    without = [item for item in items if _has_no_target(item)]
    items[:] = [item for item in items if not _has_no_target(item)]
    config.hook.pytest_deselected(items=without)
    config.whole_suite = not (
        config.getoption("keyword") or config.getoption("markexpr") or config.getoption("lf", False)
    ) and _whole_folder(config.args)


def _in_place(backend) -> bool:
    return getattr(backend, "in_place", False)


def _has_no_target(item) -> bool:
    spec = getattr(item, "callspec", None)
    target = spec.params.get("target") if spec else None
    if target is None:
        return False
    if not isinstance(target, registry.Target):  # what pytest puts where no target is left
        return True
    if not isinstance(target.backend, Mutant):
        return False
    # A mutant is of one operator; claims of another would draw only to find it unsupported.
    kind = spec.params.get("kind")
    kinds = ("roi", "psroi") if "pool" in item.path.stem else ()
    meant = [f"deform_{k}_pool" for k in ([kind] if kind else kinds)]
    meant = ["deform_conv2d"] if "conv" in item.path.stem else meant
    return bool(meant) and target.backend.op not in meant


def _whole_folder(arguments) -> bool:
    folder = Path(__file__).parent
    return any(folder.is_relative_to(Path(a.split("::")[0]).resolve()) for a in arguments)


def pytest_sessionfinish(session, exitstatus):
    config = session.config
    complete = getattr(config, "whole_suite", False) and not config.getoption("collectonly")
    config.missing = []
    few = config.getoption("--profile") == "brief"
    if complete and exitstatus == 0 and not few:
        if config.getoption("--mutants"):
            config.missing = [
                f"survived: {m.key}" for m in config.mutants if not RECORDER.kills[m.key]
            ]
        else:
            missing = RECORDER.never_generated(config.targets)
            config.missing = [f"never generated: {option}" for option in missing]
    if config.missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _failures(config, folder):
    """Data files that show the failed claims without this project: paths by the tests' names."""
    from suites.peers.failures import write_failures

    targets = {target.name: target for target in config.targets}
    failed = {k: c for k, c in RECORDER.cases.items() if c.outcome == "failed" and c.failing}
    return write_failures(failed, targets, folder)


def pytest_terminal_summary(terminalreporter, config):
    if not RECORDER.cases:
        return
    mutants = config.getoption("--mutants")
    sections = summarise_mutants(RECORDER, config.mutants) if mutants else summarise(RECORDER)
    for heading, lines in sections:
        terminalreporter.section(heading)
        for line in lines:
            terminalreporter.line(line)
    for complaint in config.missing:
        terminalreporter.line(complaint, red=True)
    if config.getoption("--report"):
        folder = Path(config.getoption("--report"))
        if mutants == "all":
            profile = config.getoption("--profile")
            written = write_claims(RECORDER, config.mutants, profile, folder)
        elif mutants:
            written = write_mutants(RECORDER, config.mutants, folder)
        else:
            written = write_report(RECORDER, folder)  # there, should what follows be cut off
            if scripts := _failures(config, folder / "failures"):
                written = write_report(RECORDER, folder, scripts)
        terminalreporter.line(f"wrote {written}")
