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


_OFFSETS = "non finite or out of range offsets affect only their samples"
_FAR = "coordinates are exact far from the origin"
_HALF = (
    "The position of an output and its offset are added in float16, which has 11 bits: beyond "
    "column 256 steps are a quarter of a pixel. Adding them in float32 costs no memory and little "
    "time."
)
_CRASH = (
    "An index is computed from NaN, so memory outside of the tensor is read or written. One NaN in "
    "a training step ends the program."
)
_SLOPE = (
    "A point infinitely far outside samples zeros, so its offset has the gradient zero; a distance "
    "that is infinite is multiplied by a difference that is zero."
)
FAULTS = (
    Fault("torchvision 0.29", _OFFSETS, "nan-float32", "a NaN offset ends the process", _CRASH),
    Fault("torchvision 0.29", _FAR, "float16-300", "float16 loses the position", _HALF),
    Fault(
        "torchvision 0.29",
        "beyond the border is zero",
        "-inf",
        "an infinite offset has a NaN gradient",
        _SLOPE,
    ),
    Fault("paddle", _OFFSETS, "nan-float32", "a NaN offset ends the process", _CRASH),
    Fault("megengine", _OFFSETS, "nan-float32", "a NaN offset ends the process", _CRASH),
    Fault(
        "megengine",
        "equals the reference",
        "float32",
        "output channels must be a multiple of the deform groups",
        "Deform groups divide the input's channels; the number of output channels has no part in "
        "them. PaddlePaddle has the same check.",
    ),
    Fault("mindspore", _FAR, "float16-300", "float16 loses the position", _HALF),
    Fault(
        "mindspore", _OFFSETS, "infinite-float32", "an infinite offset has a NaN gradient", _SLOPE
    ),
    Fault(
        "mxnet",
        "equals the reference",
        "float32",
        "the border differs from one side to the other",
        "The rule of the operator's first version keeps points with 0 <= y < H and repeats the "
        "last row up to H, so it jumps at both borders: a point at -0.1 is zero, one at H - 0.1 "
        "has the full value of the last row. Weights trained with torchvision, mmcv or Paddle give "
        "other results here.",
    ),
    Fault(
        "tvm",
        _OFFSETS,
        "infinite-float32",
        "the border differs from one side to the other",
        "Points with -1 < y < 0 are dropped while points with H - 1 < y < H fade out, so an image "
        "and its mirror image give different results.",
    ),
    Fault(
        "onnx_reference",
        _OFFSETS,
        "infinite-float32",
        "an infinite offset raises an error",
        "The specification has no such restriction: the point is outside, and its value is zero.",
    ),
)

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
