# SPDX-License-Identifier: BSD-3-Clause
"""Checks an installed dcnv2 that has only torch: the operators run, and both paths agree.

    python check_install.py [compiled | portable]

`compiled` (the default) requires the CPU library and compares its outputs and gradients with the
portable path; `portable` requires that it is absent. Exits with 1 and the reason if something is
wrong.
"""

import sys

import torch

import dcnv2
from dcnv2 import doctor, nn
from dcnv2.ops import library, portable


def operands(*sizes):
    """Random doubles that require a gradient."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(size, dtype=torch.float64, generator=generator).requires_grad_()
        for size in sizes
    ]


def compare(name, own, plain, inputs):
    """Fail unless outputs and gradients of two functions are equal."""
    results = []
    for function in (own, plain):
        out = function(*inputs)
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    torch.testing.assert_close(*results)
    print(f"{name}: output and {len(inputs)} gradients agree")


def check_operators():
    """Compare the three operators, compiled or not, with the portable path."""
    geometry = ((2, 1), (1, 2), (2, 1))
    inputs = operands((2, 6, 9, 8), (2, 36, 4, 11), (8, 3, 3, 2), (8,), (2, 18, 4, 11))
    compare(
        "deform_conv2d",
        lambda *t: torch.ops.dcnv2.deform_conv2d(*t, *geometry),
        lambda *t: portable.deform_conv2d(*t, *geometry),
        inputs,
    )
    rois = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16]], dtype=torch.float64)
    for name, options in (
        ("deform_roi_pool", ((3, 3), 0.5, 2, 0.1)),
        ("deform_psroi_pool", (3, 0.5, 1, 3, 4, 0.1)),
    ):
        compare(
            name,
            lambda x, o, m, f=name, p=options: getattr(torch.ops.dcnv2, f)(x, rois, o, m, *p),
            lambda x, o, m, f=name, p=options: getattr(portable, f)(x, rois, o, m, *p),
            operands((2, 4, 9, 11), (2, 2, 3, 3), (2, 1, 3, 3)),
        )


def check_modules():
    """Train a module, and compare it with its compiled form."""
    layer = nn.ModulatedDeformConv2dPack(4, 6, 3, padding=1)
    x = torch.randn(2, 4, 7, 9)
    torch.optim.SGD(layer.parameters(), lr=0.1).step(lambda: layer(x).square().sum().backward())
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    print("a module trains and compiles")


def main(path="compiled"):
    """Run every check and return the exit status."""
    print(doctor.report())
    cpu = library.LIBRARIES["cpu"]
    if cpu.loaded != (path == "compiled"):
        print(f"the {path} path is required, but the CPU library is: {cpu}", file=sys.stderr)
        return 1
    check_operators()
    check_modules()
    print(f"dcnv2 {dcnv2.__version__} works with torch {torch.__version__}, {path} path")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
