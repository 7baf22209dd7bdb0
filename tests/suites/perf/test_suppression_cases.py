# SPDX-License-Identifier: BSD-3-Clause
"""The cases of batched non-maximum suppression: what they measure, and that it is right."""

import pytest

from suites.perf.cases import Selection
from suites.perf.suppression import NmsCase, Workload

SMALL = Workload("small", 2, 300, 3, 40, 0.5, present=0.7)


@pytest.mark.parametrize("implementation", ["dcnv2", "portable"])
def test_ours_keeps_torchvisions_boxes(implementation):
    problem = NmsCase(SMALL, implementation, "cpu").problem("cpu")
    assert problem.wrong_images() == 0
    problem.case = NmsCase(SMALL, "torchvision", "cpu")
    theirs = problem.forward()
    problem.case = NmsCase(SMALL, implementation, "cpu")
    indices, counts = problem.forward()
    for row, count, kept in zip(indices, counts, theirs, strict=True):
        assert row[:count].tolist() == kept.tolist()


def test_other_boxes_are_noticed():
    problem = NmsCase(SMALL, "dcnv2", "cpu").problem("cpu")
    forward = problem.forward
    problem.forward = lambda: [result.flip(0) for result in forward()]
    assert problem.wrong_images() == 1


def test_a_gpu_measures_the_detectors_sizes_without_the_portable_path():
    chosen = {"sets": ["nms"], "dtypes": ["fp32"], "layouts": ["contiguous"], "passes": ["forward"]}
    names = ["dcnv2", "portable", "torchvision", "conv2d"]
    of_gpu = Selection(device="cuda", implementations=names, **chosen).nms_cases()
    assert {case.load.batch for case in of_gpu} == {2, 8}
    assert {case.implementation for case in of_gpu} == {"dcnv2", "torchvision"}
    of_cpu = Selection(device="cpu", implementations=names, **chosen).nms_cases()
    assert {case.implementation for case in of_cpu} == {"dcnv2", "portable", "torchvision"}
    assert len({case.label for case in of_cpu}) == len(of_cpu)
