# SPDX-License-Identifier: BSD-3-Clause
"""The correctness suite as a pytest plugin: options, targets, and tables at the end of a run."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from suites.backends import registry
from suites.backends.ours import use_library
from suites.backends.peers import User
from suites.claims import isolation
from suites.claims.budget import Budget, in_order, seconds
from suites.claims.probe import probe
from suites.claims.recorder import Case
from suites.claims.session import CheckedTarget, Profile, Session
from suites.claims.tables import summarise, write_report
from suites.mutants import MUTANTS, UNCHANGED, Mutant
from suites.mutants.tables import summarise_mutants, write_mutants
from suites.problems.problem import DTYPES
from suites.reporting.interruption import end_as_by_ctrl_c

PROFILES = {
    "default": Profile(),
    "thorough": Profile(factor=50, derandomize=False),
    "unshrunk": Profile(shrink=False),
    "brief": Profile(factor=0.1, shrink_s=3),
}


def pytest_addoption(parser):
    group = parser.getgroup("deformable operators")
    group.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="implementation to check, repeatable: dcnv2, portable, torchvision, mmcv, or your "
        "operator as module.path:function, with @torchvision, @mmcv, @charlesshang, @v1, @tvdcn, "
        "@roi_pool or @psroi_pool if its argument names do not show its calling convention; a "
        "framework with an environment of its own, such as paddle; or the CUDA kernels of one "
        "path: dcnv2-simt, dcnv2-mma, dcnv2-wgmma. See suites/correctness/README.md. Default: "
        "dcnv2 and portable.",
    )
    group.addoption(
        "--device",
        action="append",
        choices=("cpu", "cuda"),
        help="device to check on, repeatable; default: the CPU, and the GPU if there is one",
    )
    group.addoption(
        "--profile",
        choices=PROFILES,
        default="default",
        help="thorough generates 50 times as many problems, new ones in every run; unshrunk "
        "reports the first failing problem instead of the smallest; brief generates a tenth",
    )
    group.addoption(
        "--dtype",
        action="append",
        choices=DTYPES,
        help="check only this dtype, repeatable",
    )
    group.addoption(
        "--budget",
        type=seconds,
        metavar="TIME",
        help="such as 60s or 5min: check the claims that find most faults first, and end in time",
    )
    group.addoption(
        "--library",
        action="append",
        default=[],
        metavar="PATH",
        help="make dcnv2 use only this compiled library, repeatable: one built elsewhere, such as "
        "for a sanitizer, or an emulated one",
    )
    group.addoption(
        "--mutants",
        action="store_true",
        help="check faulty implementations instead: each must fail at least one claim, and is "
        "checked up to the first that it fails",
    )
    group.addoption(
        "--mutant",
        action="append",
        metavar="TEXT",
        help="with --mutants: only those whose name contains this text, repeatable",
    )
    group.addoption(
        "--report",
        metavar="DIR",
        help="write correctness.md (or mutants.md) and its .csv to this folder",
    )


@dataclasses.dataclass
class Run:
    """What this run checks, and what it lacks at its end.

    Attributes:
        session: of the claims.
        targets: the backends on their devices.
        mutants: with --mutants, those to detect.
        whole: whether it has all claims of this folder.
        missing: complaints about a whole run that did not find or generate what it should.
    """

    session: Session
    targets: list[CheckedTarget]
    mutants: list[Mutant]
    whole: bool = False
    missing: list[str] = dataclasses.field(default_factory=list)


RUN = pytest.StashKey[Run]()

MARKS = (
    "ours: applies to this library's own paths, not to every correct implementation",
    "library: applies only to dcnv2.ops",
    "cpu_only: applies only on the CPU",
    "cuda_only: applies only on a GPU",
    "in_place: uses an image that must not be copied whole",
    "gradients: unsupported if the implementation has none",
    "integers: unsupported if the implementation takes only pairs",
    "tensors: about PyTorch's tensors or autograd; unsupported by other frameworks",
    "threads: unsupported if the number of threads cannot be set",
)


def _load(paths):
    """Make dcnv2 use these libraries, and none of the checkout's."""
    if not paths:
        return
    # Imported here: it works only in a checkout.
    from suites.backends.emulator import operators
    from suites.backends.emulator.build import LIBRARY

    if [Path(path).name for path in paths] == [LIBRARY]:
        operators.EMULATED.path = Path(paths[0])
        return
    for path in paths:
        use_library(path)


def pytest_configure(config):
    end_as_by_ctrl_c()
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    _load(config.getoption("--library"))
    # Problems are tiny, and threads that wait for one another are slow on a busy machine. Claims
    # about threads set the number of threads themselves.
    torch.set_num_threads(1)
    # Some claims compare with torch.conv2d, which by default rounds float32 to 11 bits on a GPU.
    torch.backends.cudnn.allow_tf32 = False
    profile, mutants = PROFILES[config.getoption("--profile")], []
    names = config.getoption("--mutant")
    if names and not config.getoption("--mutants"):
        raise pytest.UsageError("--mutant selects among --mutants: give that option too")
    if config.getoption("--mutants"):
        mutants = [m for m in MUTANTS if any(text in m.key for text in names or [""])]
        if not mutants:
            raise pytest.UsageError(f"no mutant has one of {names} in its name")
        profile = dataclasses.replace(profile, shrink=False)
        backends = [(mutant, "cpu") for mutant in (*UNCHANGED, *mutants)]
    else:
        backends = _backends(config)
    budget_s = config.getoption("--budget") or math.inf
    profile = dataclasses.replace(
        profile,
        dtypes=tuple(config.getoption("--dtype") or DTYPES),
        shrink_s=min(profile.shrink_s, budget_s / 30),
    )
    session = Session(profile, Budget(budget_s))
    run = Run(session, [CheckedTarget(*pair, session) for pair in backends], mutants)
    config.stash[RUN] = run
    if config.getoption("--library") and any(map(isolation.risky, run.targets)):
        raise pytest.UsageError(
            "--library applies only to this library's backends: others run in worker processes, "
            "which do not load it"
        )


def _backends(config):
    """The requested backends, each on the requested devices."""
    try:
        backends = [
            (registry.get_backend(name), device)
            for name in config.getoption("--backend") or ("dcnv2", "portable")
            for device in config.getoption("--device") or registry.devices()
        ]
        for backend, device in backends:
            if isinstance(backend, User):
                probe(backend, device, config.getoption("--dtype") or DTYPES)
    except (ValueError, ImportError, AttributeError) as error:
        raise pytest.UsageError(str(error)) from error
    return backends


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Isolate tests that are no `claim`, and count a failure of a mutant as its detection."""
    target = pyfuncitem.funcargs.get("target")
    if target is not None and not hasattr(pyfuncitem.obj, "is_claim"):
        check = pyfuncitem.obj
        pyfuncitem.obj = lambda **given: isolation.check_isolated(lambda: check(**given), target)
    if target is None or not isinstance(target.backend, Mutant) or target.backend in UNCHANGED:
        return (yield)
    recorder = target.session.recorder
    if recorder.kills[target.backend.key]:
        pytest.skip("killed already")
    try:
        return (yield)
    except Exception as error:
        recorder.kills[target.backend.key].append((recorder.current.claim, str(error)))
        return True


def pytest_report_header(config):
    names = ", ".join(target.name for target in config.stash[RUN].targets)
    gpus = [
        f"cuda:{i} {torch.cuda.get_device_name(i)}"
        for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    return [
        f"checked: {names}; profile {config.getoption('--profile')}",
        f"devices: {', '.join(['cpu', *gpus])}",
    ]


def pytest_generate_tests(metafunc):
    if "target" in metafunc.fixturenames:
        targets = [t for t in metafunc.config.stash[RUN].targets if _wanted(metafunc.definition, t)]
        metafunc.parametrize("target", targets, ids=[target.name for target in targets])


def _wanted(definition, target) -> bool:
    """Whether a claim applies to a target, by its `MARKS`."""
    if definition.get_closest_marker("ours") and not target.backend.ours:
        return False
    if definition.get_closest_marker("library") and target.backend.name != "dcnv2":
        return False
    if definition.get_closest_marker("in_place") and not _in_place(target.backend):
        return False
    if definition.get_closest_marker("cuda_only") and target.device != "cuda":
        return False
    return not (definition.get_closest_marker("cpu_only") and target.device != "cpu")


def _claim_and_variant(item) -> dict[str, str]:
    """The name of a claim and its variant, as they are recorded."""
    if "target" not in getattr(getattr(item, "callspec", None), "params", ()):
        return {"claim": item.name, "variant": ""}
    variant = item.callspec.id.replace(item.callspec.params["target"].name, "")
    claim = item.originalname.removeprefix("test_").replace("_", " ")
    return {"claim": claim, "variant": variant.removeprefix("-").removesuffix("-")}


@pytest.fixture(autouse=True)
def _case(request):
    """Start this test's entry in the recorder."""
    spec = getattr(request.node, "callspec", None)
    target = spec.params.get("target") if spec else None
    if target is None:
        yield
        return
    version = getattr(target.backend, "version", "")
    case = Case(**_claim_and_variant(request.node), version=version, target=target.name)
    target.session.recorder.begin(request.node.nodeid, case)
    lacking = getattr(target.backend, "lacking", {})
    for feature in ("gradients", "integers", "tensors", "threads"):
        if feature in lacking and request.node.get_closest_marker(feature):
            case.outcome, case.unsupported[f"no {feature}"] = "unsupported", 1
            pytest.skip(f"unsupported: no {feature}")
    if target.session.budget.over:
        case.outcome = "not reached"
        pytest.skip("not reached within the budget")
    target.session.budget.begin_claim()
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and isolation.gpu_lost():
        item.session.shouldstop = (
            "an error ended this process's use of the GPU, so every later claim would fail"
        )
    case = item.config.stash[RUN].session.recorder.cases.get(item.nodeid)
    if case and (report.when == "call" or report.failed):
        left_out = "unsupported" if case.unsupported else "skipped"  # not on this machine
        case.outcome = "failed" if report.failed else left_out if report.skipped else "passed"
        case.message = str(call.excinfo.value).strip() if report.failed else ""


def pytest_collection_modifyitems(config, items):
    # A claim that applies to no target on this machine is deselected, not skipped.
    without = [item for item in items if _has_no_target(item)]
    items[:] = [item for item in items if not _has_no_target(item)]
    config.hook.pytest_deselected(items=without)
    if config.getoption("--budget"):
        order = in_order([tuple(_claim_and_variant(item).values()) for item in items])
        items[:] = [items[index] for index in order]
    config.stash[RUN].whole = not (
        config.getoption("keyword") or config.getoption("markexpr") or config.getoption("lf", False)
    ) and _whole_folder(config.args)


def _in_place(backend) -> bool:
    return getattr(backend, "in_place", False)


def _has_no_target(item) -> bool:
    spec = getattr(item, "callspec", None)
    target = spec.params.get("target") if spec else None
    if target is None:
        return False
    if not isinstance(target, registry.Target):  # pytest's placeholder for an empty parameter set
        return True
    selected = target.session.profile.dtypes
    if spec.params.get("dtype", selected[0]) not in selected:
        return True
    if not isinstance(target.backend, Mutant | User):
        return False
    # Each has one operator; claims about another would find every problem unsupported.
    kind = spec.params.get("kind")
    kinds = ("roi", "psroi") if "pool" in item.path.stem else ()
    problem = spec.params.get("problem")
    meant = [problem.op] if problem else [f"deform_{k}_pool" for k in ([kind] if kind else kinds)]
    meant = ["deform_conv2d"] if "conv" in item.path.stem else meant
    meant = ["batched_nms"] if "suppression" in item.path.stem else meant
    return bool(meant) and target.backend.op not in meant


def _whole_folder(arguments) -> bool:
    folder = Path(__file__).parent
    return any(folder.is_relative_to(Path(a.split("::")[0]).resolve()) for a in arguments)


def pytest_sessionfinish(session, exitstatus):
    config = session.config
    run = config.stash[RUN]
    complete = run.whole and not config.getoption("collectonly")
    if complete and exitstatus == 0 and config.getoption("--profile") != "brief":
        run.missing = _missing(run)
    if run.missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _missing(run):
    """What a complete run should have found or generated, and did not."""
    recorder = run.session.recorder
    if run.mutants:
        return [f"survived: {m.key}" for m in run.mutants if not recorder.kills[m.key]]
    return [f"never generated: {option}" for option in recorder.never_generated(run.targets)]


def _failures(run, folder):
    """Data files that show the failed claims without this project: paths by the tests' names."""
    from suites.peers.failures import write_failures

    targets = {target.name: target for target in run.targets}
    cases = run.session.recorder.cases
    failed = {k: c for k, c in cases.items() if c.outcome == "failed" and c.failing}
    return write_failures(failed, targets, folder)


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    run = config.stash[RUN]
    recorder = run.session.recorder
    if not recorder.cases:
        return
    mutants = run.mutants
    sections = summarise_mutants(recorder, mutants) if mutants else summarise(recorder)
    for heading, lines in sections:
        terminalreporter.section(heading)
        for line in lines:
            terminalreporter.line(line)
    for complaint in run.missing:
        terminalreporter.line(complaint, red=True)
    if config.getoption("--report"):
        folder = Path(config.getoption("--report"))
        if mutants:
            written = write_mutants(recorder, mutants, folder)
        else:
            interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
            # In case the next step is interrupted.
            written = write_report(recorder, folder, interrupted=interrupted)
            if data_files := _failures(run, folder / "failures"):
                written = write_report(recorder, folder, data_files, interrupted)
        terminalreporter.line(f"wrote {written}")
