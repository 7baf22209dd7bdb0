# SPDX-License-Identifier: BSD-3-Clause
"""A crash of a peer, or an error that ends its use of the GPU, fails only one claim."""

import itertools
import os
import subprocess
import sys

import pytest
import torch

from suites.backends.registry import Target, get_backend
from suites.claims import isolation
from suites.claims.session import CheckedTarget, Session
from suites.claims.transfer import from_bytes, to_bytes
from suites.mutants.patches import ROOT

PEER = CheckedTarget(get_backend("torchvision"), "cpu", Session())
AFTER_AUTOGRAD = """
from functools import partial

import torch

from suites.backends.registry import Target, get_backend
from suites.claims.isolation import run_isolated
from suites.problems.problem import ConvProblem

model = torch.nn.Linear(3, 2)
torch.export.export(model, (torch.ones(4, 3),))
model(torch.ones(4, 3)).sum().backward()
if torch.cuda.is_available():
    torch.ones(1, device="cuda", requires_grad=True).sum().backward()
for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
    target = Target(get_backend("torchvision"), device)
    got = run_isolated(partial(target.run, ConvProblem()), target)
    print(device, sorted(got))
"""


def test_peers_are_risky_on_every_device_and_ours_are_not():
    for device in ("cpu", "cuda"):
        assert isolation.risky(Target(get_backend("torchvision"), device))
        assert not isolation.risky(Target(get_backend("dcnv2"), device))


def test_nothing_is_isolated_again_within_a_worker():
    assert isolation.run_isolated(lambda: isolation.risky(PEER), PEER) is False


@pytest.mark.slow
def test_isolation_works_after_an_export_and_a_backward():
    """Either of them leaves threads of autograd, which no fork of that process survives."""
    pytest.importorskip("torchvision")
    done = subprocess.run(
        [sys.executable, "-c", AFTER_AUTOGRAD], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "cpu ['grad_bias', 'grad_input'" in done.stdout


def test_closures_and_layouts_survive_the_transfer():
    factor, counter = torch.arange(6.0).view(2, 3).mT, itertools.count(3)

    def scaled(value, *, power=2):
        return next(counter) * value**power * factor

    function = from_bytes(to_bytes(scaled))
    assert torch.equal(function(2.0), 12 * factor)
    assert from_bytes(to_bytes(factor)).stride() == factor.stride()


def test_a_failed_assertion_in_a_worker_explains_itself():
    def check():
        found = {"output": 3}
        assert found == {"output": 4}

    with pytest.raises(AssertionError, match=r"\{'output': 3\} == \{'output': 4\}"):
        isolation.check_isolated(check, PEER)


@pytest.mark.parametrize("lost", [False, True])
def test_a_process_that_lost_its_gpu_runs_nothing_more(tmp_path, lost):
    seen = tmp_path / "processes"

    def check(fails):
        isolation.gpu_lost = lambda: lost  # in the worker
        with seen.open("a") as file:
            file.write(f"{os.getpid()}\n")
        assert not fails, "an illegal memory access"

    with isolation.isolated_check(check, PEER) as run:
        run(False)
        with pytest.raises(AssertionError, match="illegal memory access"):
            run(True)
        run(False)
    first, second, third = seen.read_text().split()
    assert first == second
    assert (third != second) is lost
