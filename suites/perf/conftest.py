# SPDX-License-Identifier: BSD-3-Clause
"""Options of the perf suite, the cases that they select, and the report at the end of a run."""

import dataclasses
from pathlib import Path

import pytest
import torch

from suites.perf import report
from suites.perf.cases import Case, Selection
from suites.perf.ceilings import Ceilings
from suites.perf.device_timer import DeviceTimer
from suites.perf.implementations import IMPLEMENTATIONS, has_compiled_kernels
from suites.perf.layers import SETS
from suites.perf.problems import DTYPES, LAYOUTS, PASSES
from suites.reporting.folders import report_dir
from suites.reporting.interruption import end_as_by_ctrl_c

_ROWS = pytest.StashKey[report.Rows]()
_SELECTION = pytest.StashKey[Selection]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: what to measure, and whether to write the report."""
    group = parser.getgroup("perf", "what the perf suite measures (comma-separated lists)")
    add = group.addoption
    add("--device", help="cpu or cuda (default: cuda if there is one)")
    sets = ", ".join([*SETS, "pools", "nms", "sweeps", "step"])
    add("--set", help=f"from {sets} (default: eight,groups,pools,nms; on a CPU cpu,pools,nms)")
    add("--dtype", help=f"from {', '.join(DTYPES)} (default: bf16,fp16,tf32,fp32; on a CPU fp32)")
    add("--impl", help=f"from {', '.join(IMPLEMENTATIONS)} (default: all installed)")
    add("--pass", dest="passes", help=f"from {', '.join(PASSES)} (default: all)")
    add("--layout", help=f"of dcnv2, from {', '.join(LAYOUTS)} (default: both)")
    add(
        "--report",
        nargs="?",
        const="",
        metavar="DIR",
        help="write perf.csv, perf.md and plots to DIR (default: reports/, or its subfolder for "
        "the GPU's model)",
    )


def _choose(config: pytest.Config, option: str, default: str, known: tuple[str, ...]) -> list[str]:
    chosen = [word.strip() for word in (config.getoption(option, None) or default).split(",")]
    unknown = [word for word in chosen if word not in known]
    if unknown:
        words = ", ".join(unknown)
        raise pytest.UsageError(f"--{option}: unknown {words}; choose from {', '.join(known)}")
    return chosen


def pytest_configure(config: pytest.Config) -> None:
    """Read the options once."""
    end_as_by_ctrl_c()
    device = config.getoption("device", None) or ("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.startswith("cuda")
    installed = [name for name, found in IMPLEMENTATIONS.items() if not found.missing]
    sets = "eight,groups,pools,nms" if gpu else "cpu,pools,nms"
    dtypes = "bf16,fp16,tf32,fp32" if gpu else "fp32"
    config.stash[_SELECTION] = Selection(
        device=device,
        sets=_choose(config, "set", sets, (*SETS, "pools", "nms", "sweeps", "step")),
        dtypes=_choose(config, "dtype", dtypes, tuple(DTYPES)),
        implementations=_choose(config, "impl", ",".join(installed), tuple(IMPLEMENTATIONS)),
        passes=_choose(config, "passes", ",".join(PASSES), PASSES),
        layouts=_choose(config, "layout", ",".join(LAYOUTS), tuple(LAYOUTS)),
    )
    for name in config.stash[_SELECTION].implementations:
        if missing := IMPLEMENTATIONS[name].missing:
            raise pytest.UsageError(f"--impl: {missing}")
    if "dcnv2" in config.stash[_SELECTION].implementations and not has_compiled_kernels(device):
        raise pytest.UsageError(
            f"no compiled kernels for {device}: 'dcnv2' would measure the portable path. Build it, "
            "or select others with --impl; python -m dcnv2 doctor lists what is missing"
        )
    config.stash[_ROWS] = report.Rows()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test its cases, by the name of its argument."""
    selection = metafunc.config.stash[_SELECTION]
    if "layer_case" in metafunc.fixturenames:
        _parametrize(metafunc, "layer_case", selection.layer_cases())
    if "sweep_case" in metafunc.fixturenames:
        _parametrize(metafunc, "sweep_case", selection.sweep_cases())
    if "pool_case" in metafunc.fixturenames:
        _parametrize(metafunc, "pool_case", selection.pool_cases())
    if "nms_case" in metafunc.fixturenames:
        _parametrize(metafunc, "nms_case", selection.nms_cases())
    if "nms_variant" in metafunc.fixturenames:
        ours = [case for case in selection.nms_cases() if case.implementation != "torchvision"]
        _parametrize(metafunc, "nms_variant", ours)
    if "training_step" in metafunc.fixturenames:
        cases = selection.training_steps()
        metafunc.parametrize("training_step", cases, ids=[case.operator for case in cases])
    if "pool_variant" in metafunc.fixturenames:
        cases = [dataclasses.replace(case, passes="both") for case in selection.pool_cases()]
        ours = [case for case in dict.fromkeys(cases) if case.implementation != "roi_align"]
        _parametrize(metafunc, "pool_variant", ours)
    if "variant" in metafunc.fixturenames:
        variants = [
            (layer, *variant)
            for _, layer in selection.layers()
            for variant in selection.variants(layer)
            if IMPLEMENTATIONS[variant[0]].deformable  # conv2d is another operator
        ]
        labels = ["-".join([layer.name, *rest]) for layer, *rest in variants]
        metafunc.parametrize("variant", variants, ids=labels)
    if "eager_call" in metafunc.fixturenames:
        calls = selection.eager_calls()
        metafunc.parametrize("eager_call", calls, ids=["-".join(call) for call in calls])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Right first, then timed."""
    items.sort(key=lambda item: item.path.stem != "test_right")


def _parametrize(metafunc: pytest.Metafunc, argument: str, cases: list[Case]) -> None:
    metafunc.parametrize(argument, cases, ids=[case.label for case in cases])


@pytest.fixture(scope="session")
def timer(request: pytest.FixtureRequest) -> DeviceTimer:
    """The clock of the device."""
    return DeviceTimer(request.config.stash[_SELECTION].device)


@pytest.fixture(scope="session")
def ceilings(request: pytest.FixtureRequest, timer: DeviceTimer) -> Ceilings:
    """The machine's limits."""
    ceilings = Ceilings(timer)
    request.config.stash[_ROWS].ceilings = ceilings.measured
    return ceilings


@pytest.fixture
def selection(request: pytest.FixtureRequest) -> Selection:
    """What was chosen on the command line."""
    return request.config.stash[_SELECTION]


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> report.Rows:
    """Where the rows of this run are kept."""
    return request.config.stash[_ROWS]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report, if it was asked for and something was measured."""
    config = session.config
    target = config.getoption("report", None)
    measured = config.stash[_ROWS]
    if target is None or not measured.times:
        return  # training steps alone have a report of their own: suites.perf.step_time
    directory = Path(target) if target else report_dir(config.stash[_SELECTION].device)
    path = report.write(measured, directory, exitstatus == pytest.ExitCode.INTERRUPTED)
    config.get_terminal_writer().line(f"\nreport: {path}")
