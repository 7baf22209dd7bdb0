# SPDX-License-Identifier: BSD-3-Clause
"""The values that options and sizes may take: csrc/operand_limits.h for Python.

This table is a copy because the checks must work where nothing was compiled and where csrc/ is not
installed. A test compares it with the header.
"""

_INT = 2**31 - 1
_FLOAT = float.fromhex("0x1.fffffep+127")  # the largest float32
_SMALLEST = float.fromhex("0x1p-126")  # the smallest normal float32

LIMITS: dict[str, tuple[float, float]] = {
    "stride": (1, _INT),
    "padding": (0, _INT),
    "dilation": (1, _INT),
    "output_size": (1, _INT),
    "group_size": (1, 2**20),
    "part_size": (1, 2**20),
    "sampling_ratio": (0, 2**16),
    "sample_per_part": (1, 2**16),
    "spatial_scale": (_SMALLEST, _FLOAT),
    "gamma": (-_FLOAT, _FLOAT),
    "trans_std": (-_FLOAT, _FLOAT),
    "iou_threshold": (0.0, 1.0),
    "max_out": (1, _INT),
    "input": (0, _INT - 1),  # height and width
    "weight": (1, _INT),  # every axis
}
