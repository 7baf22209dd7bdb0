# SPDX-License-Identifier: BSD-3-Clause
"""What the page of verdicts says in words: faults worth reporting, and what was not judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A failure worth reporting to an implementation's authors.

    Attributes:
        implementation: how its name on the page begins.
        claim: the claim that fails.
        variant: how the variant begins.
        title: one sentence, without a full stop.
        text: the cause and what it does to a user.
    """

    implementation: str
    claim: str
    variant: str
    title: str
    text: str


FAULTS: tuple[Fault, ...] = ()

# Implementations that were looked at, and why they have no verdict.
ABSENT = {
    "detectron2": "not on the package index; on a CPU its deform_conv calls torchvision's and has "
    "no gradient, and its modulated_deform_conv raises NotImplementedError",
    "BasicSR 1.4.2": "its operators raise NotImplementedError on a CPU",
    "OneFlow 0.9.0": "its wheel links cuDNN 8, which it does not bring, so it cannot be imported",
    "CharlesShang's DCNv2": "not on the package index; its CPU functions raise an error",
    "MXNet 1.9.1, modulated": 'on a CPU it raises "only implemented in GPU"; the first version of '
    "the operator is judged",
    "JAX, TensorFlow": "have no deformable convolution",
    "TensorRT": "needs a GPU",
}

# Claims of earlier reports by their present names.
RENAMED = {
    "strange offsets spoil only what uses them": "non finite or out of range offsets affect only "
    "their samples",
}
