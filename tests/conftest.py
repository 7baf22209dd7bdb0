# SPDX-License-Identifier: BSD-3-Clause
"""Sets the environment of the tests and of the programs that they start, before torch is imported.

Threads of OpenMP wait for work in a busy loop. The tensors of most tests are so small that this
took half of the time of a run on two cores, and more on a busy machine: idle threads sleep.

Python's streams are buffered, as users have them: PYTHONUNBUFFERED, which containers often set,
would hide errors of what is written at exit.
"""

import os

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("PYTHONUNBUFFERED", None)


@pytest.fixture
def shallow(monkeypatch):
    """ResNets of one block a stage, which holds every kind of layer."""
    from dcnv2.models import resnet

    archs = {arch: ((1, 1, 1, 1), *rest) for arch, (_, *rest) in resnet.ARCHS.items()}
    monkeypatch.setattr(resnet, "ARCHS", archs)
