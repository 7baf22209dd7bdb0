# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa
# fmt: off
"""torchvision-cuda: 'input of more than 2 31 elements' does not hold.

Seen: AcceleratorError: CUDA error: an illegal memory access was encountered.

Two images of together more than 2^31 elements, and few outputs: the second image gives other
results than it gives alone, or none. Needs a GPU with 40 GiB free. Exit code 0: the failure is there.
Problem: ConvProblem(batch=2, in_channels=256, out_channels=8, height=2100, width=2101, kernel=(1, 1), stride=(8, 8), padding=(0, 0), dilation=(1, 1), groups=1, deform_groups=1, bias=False, mask=False, dtype='float16', dtypes=(), layouts=(), offsets='small', seed=0)
"""

import os
import sys

os.environ["CUDA_LAUNCH_BLOCKING"] = "1"  # an error is told by the kernel that made it

import torch

from torchvision.ops import deform_conv2d as peer

DEVICE, DTYPE = "cuda", torch.float16
INPUT, WEIGHT = (2, 256, 2100, 2101), (8, 256, 1, 1)
OFFSET = (INPUT[0], 1 * 2 * WEIGHT[2] * WEIGHT[3], 263, 263)
OUTPUT = (INPUT[0], WEIGHT[0], *OFFSET[2:])
stride, padding, dilation, bias, mask = (8, 8), (0, 0), (1, 1), None, None


def results(tensors, images):
    x, offset, weight, grad = tensors
    input, offset, weight = (t.detach().requires_grad_() for t in (x[images], offset[images], weight))
    out = peer(input, offset, weight, bias, stride, padding, dilation, mask)
    grads = torch.autograd.grad(out, (input, offset), grad[images])
    return {"output": out.detach(), "grad_input": grads[0], "grad_offset": grads[1]}


def main():
    if torch.cuda.mem_get_info()[0] < 40 * 2**30:
        print("needs a GPU with 40 GiB free")
        return 2
    torch.manual_seed(0)
    tensors = [torch.randn(s, dtype=DTYPE, device=DEVICE) for s in (INPUT, OFFSET, WEIGHT, OUTPUT)]
    alone = results(tensors, slice(1, 2))
    try:
        both = results(tensors, slice(0, 2))
    except torch.OutOfMemoryError:
        print("needs a GPU with 40 GiB free")
        return 2
    except RuntimeError as error:
        print(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return 0
    shown = 0
    for name, want in alone.items():
        off = (both[name][1:] - want).abs().max().item() / want.abs().max().item()
        print(f"{name} of the second image: off by {100 * off:.3g} % of its largest entry")
        shown += not off < 0.1
    return 0 if shown else 1


if __name__ == "__main__":
    sys.exit(main())
