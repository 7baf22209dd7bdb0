# SPDX-License-Identifier: BSD-3-Clause
"""ncnn: the layer DeformableConv2D, one image at a time."""

from __future__ import annotations

import numpy as np

REQUIREMENTS = ("ncnn==1.0.20261020", "numpy==2.4.6")
DTYPES = ("float32",)
GRADIENTS = False
THREADS = True


def unsupported(problem):
    if problem.groups > 1 or problem.deform_groups > 1:
        return "no groups"
    return None if problem.batch else "no empty batch"


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    import ncnn

    weight, bias = operands["weight"], operands["bias"]
    images = [name for name in ("input", "offset", "mask") if operands[name] is not None]
    net = ncnn.Net()
    net.opt.num_threads = threads
    for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{half}", False)
    parameters = {
        0: weight.shape[0],
        1: weight.shape[3],
        11: weight.shape[2],
        2: dilation[1],
        12: dilation[0],
        3: stride[1],
        13: stride[0],
        4: padding[1],
        14: padding[0],
        5: int(bias is not None),
        6: weight.size,
    }
    words = [f"Input {name} 0 1 {name}" for name in images]
    numbers = " ".join(f"{key}={value}" for key, value in parameters.items())
    words.append(f"DeformableConv2D conv {len(images)} 1 {' '.join(images)} output {numbers}")
    net.load_param_mem("\n".join(["7767517", f"{len(words)} {len(images) + 1}", *words]) + "\n")
    stored = b"\0\0\0\0" + np.ascontiguousarray(weight).tobytes()  # a tag: the values are float32
    net.load_model_mem(stored + (b"" if bias is None else bias.tobytes()))
    outputs = []
    for index in range(len(operands["input"])):
        run = net.create_extractor()
        for name in images:
            run.input(name, ncnn.Mat(np.ascontiguousarray(operands[name][index])).clone())
        code, output = run.extract("output")
        if code:
            raise RuntimeError(f"ncnn's extract returns {code}")
        outputs.append(np.array(output))
    return {"output": np.stack(outputs)}
