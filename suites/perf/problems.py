# SPDX-License-Identifier: BSD-3-Clause
"""A layer's operands and its three passes, each a call without arguments."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from suites.perf.implementations import Implementation
from suites.perf.layers import Layer

# tf32 is float32 whose matrix products may use TF32; fp32 forbids it.
DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "tf32": torch.float32,
    "fp32": torch.float32,
    "fp64": torch.float64,
}
PASSES = ("forward", "backward", "both")
LAYOUTS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@contextlib.contextmanager
def matmul_mode(dtype: str) -> Iterator[None]:
    """Allow TF32 only for 'tf32' and let cuDNN search its algorithms; restore both afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    matmul.allow_tf32 = cudnn.allow_tf32 = dtype == "tf32"
    cudnn.benchmark = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def _undeformed(layer: Layer, device: str) -> Tensor:
    """Where a regular convolution samples, in pixels: [2 * K, Ho, Wo], (y, x) for each tap."""
    (kh, kw), size = layer.kernel, layer.out_size
    rows, columns = (
        torch.arange(n, device=device) * s - p
        for n, s, p in zip(size, layer.stride, layer.padding, strict=True)
    )
    places = []
    for tap in range(kh * kw):
        i, j = divmod(tap, kw)
        places.append((rows + i * layer.dilation[0]).view(-1, 1).expand(size))
        places.append((columns + j * layer.dilation[1]).view(1, -1).expand(size))
    return torch.stack(places).float()


def make_offsets(layer: Layer, kind: str, generator: torch.Generator) -> Tensor:
    """Offsets [N, G*2*K, Ho, Wo] of a kind.

    Args:
        layer: The layer that they are for.
        kind: A number is the standard deviation of normal offsets, in pixels. 'sixteenths': odd
            sixteenths of a pixel, so that every coordinate is exact in every dtype and never an
            integer. 'clustered', 'one_row', 'outside': all points of the map sample the same cell
            of four pixels, the same row, or nothing.
        generator: Source of randomness; its device is the result's.

    Raises:
        ValueError: There is no such kind.
    """
    device = generator.device
    noise = torch.randn(layer.shapes["offset"], device=device, generator=generator)
    if kind == "sixteenths":
        return (((noise * 16).round() * 2 + 1) / 16).clamp(-241 / 16, 241 / 16)
    places = _undeformed(layer, device).repeat(layer.deform_groups, 1, 1)
    along_y = torch.arange(len(places), device=device).view(-1, 1, 1) % 2 == 0
    if kind in ("clustered", "one_row"):
        centre = torch.where(along_y, layer.height / 2 + 0.3, layer.width / 2 + 0.4)
        to_centre = (centre - places).expand_as(noise)
        return to_centre if kind == "clustered" else torch.where(along_y, to_centre, noise)
    if kind == "outside":
        return noise + 4 * (layer.height + layer.width)
    try:
        return noise * float(kind)
    except ValueError:
        raise ValueError(f"no offsets of kind '{kind}'") from None


class Passes:
    """A differentiable call and its three passes.

    Args:
        record: Returns the output, with its graph.
        operands: The tensors that get a gradient, by name.
        grad_output: The output's gradient.
    """

    def __init__(
        self, record: Callable[[], Tensor], operands: dict[str, Tensor], grad_output: Tensor
    ):
        self.operands, self.grad_output = operands, grad_output
        self._record, self._output = record, None

    def forward(self) -> Tensor:
        """The output without a graph, as in inference."""
        with torch.no_grad():
            return self._record()

    def backward(self) -> tuple[Tensor, ...]:
        """Every gradient; the first call runs the forward pass, which all calls share."""
        if self._output is None:
            self._output = self._record()
        return self._gradients(self._output, retain_graph=True)

    def both(self) -> tuple[Tensor, ...]:
        """The output and every gradient."""
        output = self._record()
        return output, *self._gradients(output)

    def _gradients(self, output: Tensor, retain_graph: bool = False) -> tuple[Tensor, ...]:
        operands = tuple(self.operands.values())
        return torch.autograd.grad(output, operands, self.grad_output, retain_graph=retain_graph)


def named_results(passes: Passes, gradients: bool = True) -> dict[str, Tensor]:
    """Output and, if it has them, gradients of a call, by name."""
    if not gradients:
        return {"output": passes.forward()}
    names = ("output", *(f"grad_{name}" for name in passes.operands))
    return {n: value.detach() for n, value in zip(names, passes.both(), strict=True)}


class LayerPasses(Passes):
    """A layer's operands for one implementation, dtype and layout, generated from a seed."""

    def __init__(
        self,
        layer: Layer,
        implementation: Implementation,
        dtype: str,
        device: str,
        layout: str = "contiguous",
        offsets: str = "2",
        seed: int = 0,
    ):
        self.layer = layer
        generator = torch.Generator(device).manual_seed(seed)

        def draw(name: str) -> Tensor:
            return torch.randn(layer.shapes[name], device=device, generator=generator)

        fan_in = layer.taps * layer.in_channels // layer.groups
        values = {
            "input": draw("input"),
            "offset": make_offsets(layer, offsets, generator),
            "weight": draw("weight") * fan_in**-0.5,
            "bias": draw("bias"),
            "mask": draw("mask").sigmoid(),
            "output": draw("output"),
        }
        values = {name: _laid_out(value, dtype, layout) for name, value in values.items()}
        operands = {name: values[name].requires_grad_() for name in implementation.operands}
        super().__init__(lambda: implementation.call(layer, operands), operands, values["output"])


def _laid_out(value: Tensor, dtype: str, layout: str) -> Tensor:
    value = value.to(DTYPES[dtype])
    return value.contiguous(memory_format=LAYOUTS[layout]) if value.dim() == 4 else value
