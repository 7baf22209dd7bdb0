# SPDX-License-Identifier: BSD-3-Clause
"""What a peer does to its process, or to that process's GPU, is a verdict on one claim alone."""

import os

import pytest
import torch

from suites.backends.registry import Target, get_backend
from suites.claims import isolation
from suites.claims.recorder import Case, Recorder


@pytest.fixture
def recorder(monkeypatch):
    fresh = Recorder()
    monkeypatch.setattr(isolation, "RECORDER", fresh)
    fresh.begin("here", Case("a claim", "peer-cpu"))
    return fresh


def test_peers_are_risky_and_on_a_gpu_where_forked_processes_can_use_it(monkeypatch):
    peer = get_backend("torchvision")
    assert isolation.risky(Target(peer, "cpu"))
    for possible in (True, False):
        monkeypatch.setattr(isolation, "gpu_in_forks", lambda possible=possible: possible)
        assert isolation.risky(Target(peer, "cuda")) is possible
        assert not isolation.risky(Target(get_backend("dcnv2"), "cuda"))


def test_beside_what_takes_the_gpu_here_peers_are_judged_here(monkeypatch):
    monkeypatch.setattr(isolation, "_shared", False)
    peer, ours = Target(get_backend("torchvision"), "cuda"), Target(get_backend("dcnv2"), "cuda")
    isolation.gpu_in_forks.cache_clear()
    isolation.plan([peer, ours])
    monkeypatch.setattr(isolation, "forked", lambda work: True)
    assert not isolation.risky(peer)
    isolation.gpu_in_forks.cache_clear()
    isolation.plan([peer])
    assert isolation.risky(peer)
    isolation.gpu_in_forks.cache_clear()


def test_what_lay_on_a_gpu_comes_back_without_touching_it():
    def work():
        torch.serialization.register_package(0, lambda storage: "cuda:0", lambda *_: None)
        return torch.ones(2)

    assert isolation.forked(work).device.type == "cpu"


def test_a_run_ends_once_it_has_taken_the_gpu_from_its_processes(monkeypatch):
    monkeypatch.setattr(isolation, "gpu_in_forks", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with (
        pytest.raises(pytest.exit.Exception, match="touched the GPU"),
        isolation.isolated_check(lambda: None, Target(get_backend("torchvision"), "cuda")),
    ):
        pass


@pytest.mark.parametrize("lost", [False, True])
def test_a_process_that_lost_its_gpu_runs_nothing_more(recorder, monkeypatch, tmp_path, lost):
    monkeypatch.setattr(isolation, "gpu_lost", lambda: lost)
    monkeypatch.setattr(isolation, "gpu_in_forks", lambda: True)
    seen = tmp_path / "processes"

    def check(fails):
        with seen.open("a") as file:
            file.write(f"{os.getpid()}\n")
        assert not fails, "an illegal memory access"

    with isolation.isolated_check(check, Target(get_backend("torchvision"), "cuda")) as run:
        run(False)
        with pytest.raises(AssertionError, match="illegal memory access"):
            run(True)
        run(False)
    first, second, third = seen.read_text().split()
    assert first == second
    assert (third != second) is lost
