# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa
# fmt: off
"""mmcv-cpu: 'threads change no bit of any problem' does not hold.

Seen: differs in its bits: grad_weight.

The same tensors on one thread and on three. Exit code 0: the failure is there.
Sizes and seed of: ConvProblem(batch=2, in_channels=2, out_channels=5, height=4, width=3, kernel=(3, 3), stride=(1, 1), padding=(0, 1), dilation=(1, 1), groups=1, deform_groups=1, bias=False, mask=False, dtype='float64', dtypes=(), layouts=(), offsets='zero', seed=0)
"""

import sys

import torch

from mmcv.ops import modulated_deform_conv2d as peer

DEVICE, DTYPE = "cpu", torch.float64
BATCH, CHANNELS, HEIGHT, WIDTH = (2, 2, 4, 3)
OUT_CHANNELS, GROUP_CHANNELS, KERNEL_H, KERNEL_W = (5, 2, 3, 3)
GROUPS, OUT_H, OUT_W = 1, 2, 3
stride, padding, dilation = (1, 1), (0, 1), (1, 1)


def operands():
    torch.manual_seed(0)
    taps = KERNEL_H * KERNEL_W
    tap = torch.arange(taps)
    base_y = torch.arange(OUT_H).view(1, -1, 1) * stride[0] - padding[0] + (tap // KERNEL_W * dilation[0]).view(-1, 1, 1)
    base_x = torch.arange(OUT_W).view(1, 1, -1) * stride[1] - padding[1] + (tap % KERNEL_W * dilation[1]).view(-1, 1, 1)
    to_middle = torch.stack((HEIGHT // 2 - base_y.expand(taps, OUT_H, OUT_W), WIDTH // 2 - base_x.expand(taps, OUT_H, OUT_W)), 1)
    offset = to_middle.reshape(1, 1, taps * 2, OUT_H, OUT_W) + 0.9 * torch.rand(BATCH, GROUPS, taps * 2, OUT_H, OUT_W)
    tensors = {
        "input": torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH),
        "offset": offset.flatten(1, 2),
        "weight": torch.randn(OUT_CHANNELS, GROUP_CHANNELS, KERNEL_H, KERNEL_W),
        "bias": torch.randn(OUT_CHANNELS),
        "mask": torch.rand(BATCH, GROUPS * taps, OUT_H, OUT_W),
    }
    leaves = {name: t.to(DTYPE).to(DEVICE).requires_grad_() for name, t in tensors.items()}
    return {**leaves, "grad_output": torch.randn(BATCH, OUT_CHANNELS, OUT_H, OUT_W).to(DTYPE).to(DEVICE)}


def results(tensors):
    *leaves, grad_output = tensors.values()
    input, offset, weight, bias, mask = leaves
    out = peer(
        input, offset, torch.ones_like(offset[:, ::2]) if mask is None else mask, weight, bias, stride, padding, dilation,
        input.shape[1] // weight.shape[1], offset.shape[1] // (2 * weight[0, 0].numel()))
    grads = torch.autograd.grad(out, leaves, grad_output, allow_unused=True)
    return {"output": out.detach(), **{f"grad_{n}": g for n, g in zip(tensors, grads) if g is not None}}


def compare(got, want):
    """Print which results are off; the exit code."""
    shown = 0
    for name, result in got.items():
        off = (result - want[name]).abs().max().item() / want[name].abs().max().item()
        if not off < 0.1:
            print(f"{name}: off by {100 * off:.3g} % of its largest entry")
            shown += 1
    if not shown:
        print("nothing is off")
    return 0 if shown else 1


def main():
    tensors = operands()
    torch.set_num_threads(1)
    alone = results(tensors)
    torch.set_num_threads(3)
    together = results(tensors)
    shown = sorted(n for n in alone if not torch.equal(alone[n], together[n]))
    print("differs in its bits:", ", ".join(shown) or "nothing")
    return 0 if shown else 1


if __name__ == "__main__":
    sys.exit(main())
