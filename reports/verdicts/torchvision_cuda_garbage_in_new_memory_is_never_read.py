# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa
# fmt: off
"""torchvision-cuda: 'garbage in new memory is never read' does not hold.

Seen: grad_offset: off by 13.8, allowed 0.0129.

The definition below is the whole of this project's reference. Exit code 0: the failure is there.
Problem: ConvProblem(batch=33, in_channels=1, out_channels=1, height=4, width=3, kernel=(3, 3), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, deform_groups=1, bias=False, mask=False, dtype='float16', dtypes=(), layouts=(), offsets='tiny', seed=0)
"""

import base64
import os
import sys
import tempfile
import zlib

import torch
from torch import Tensor, arange, einsum, where, zeros_like

from torchvision.ops import deform_conv2d as peer

# ---- the definition


def _corner(image: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """Pixels of image [B, C, H, W] at row, col [B, P]: [B, C, P], zero off the map."""
    height, width = image.shape[-2:]
    on_map = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    index = where(on_map, row * width + col, zeros_like(row)).long()
    pixels = image.flatten(2).gather(2, index[:, None].expand(-1, image.shape[1], -1))
    return where(on_map[:, None], pixels, zeros_like(pixels))


def interpolate(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolated values of a map that is zero everywhere outside itself.

    Args:
        image: [B, C, H, W].
        y: rows, in pixels, [B, P].
        x: columns, in pixels, [B, P].

    Returns:
        [B, C, P].
    """
    height, width = image.shape[-2:]
    # From one pixel outside on everything is zero, so coordinates may stop two pixels outside.
    # This keeps infinity out of the arithmetic; NaN stays NaN.
    y, x = y.clamp(-2, height + 1), x.clamp(-2, width + 1)
    y0, x0 = y.floor(), x.floor()
    ly, lx = (y - y0)[:, None], (x - x0)[:, None]
    return (
        (1 - ly) * (1 - lx) * _corner(image, y0, x0)
        + (1 - ly) * lx * _corner(image, y0, x0 + 1)
        + ly * (1 - lx) * _corner(image, y0 + 1, x0)
        + ly * lx * _corner(image, y0 + 1, x0 + 1)
    )


def interpolate_clamped(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolated values with coordinates moved onto the map first; shapes as `interpolate`.

    The derivative along an axis is zero where that axis was clamped, and at the last pixel, whose
    right side is clamped.
    """
    height, width = image.shape[-2:]
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    y0, x0 = y.floor(), x.floor()
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    ly, lx = (y - y0)[:, None], (x - x0)[:, None]
    return (
        (1 - ly) * (1 - lx) * _corner(image, y0, x0)
        + (1 - ly) * lx * _corner(image, y0, x1)
        + ly * (1 - lx) * _corner(image, y1, x0)
        + ly * lx * _corner(image, y1, x1)
    )

def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def sample_points(
    offset: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> tuple[Tensor, Tensor]:
    """Where each tap samples: p + p_k + Δp_k of equation 1, in input pixels.

    Args:
        offset: [N, G*K*2, Ho, Wo], (y, x) interleaved, K = kernel height * kernel width.
        kernel_size: height and width of the kernel.
        stride: of the convolution, (y, x).
        padding: of the convolution, (y, x).
        dilation: of the convolution, (y, x).

    Returns:
        Rows and columns, each [N, G, K, Ho, Wo].
    """
    kernel_h, kernel_w = _pair(kernel_size)
    (stride_h, stride_w), (pad_h, pad_w) = _pair(stride), _pair(padding)
    dilation_h, dilation_w = _pair(dilation)
    batch, channels, out_h, out_w = offset.shape
    taps = kernel_h * kernel_w
    shift = offset.view(batch, channels // (2 * taps), taps, 2, out_h, out_w)

    like = {"dtype": offset.dtype, "device": offset.device}
    tap = arange(taps, device=offset.device)
    tap_y = (tap // kernel_w).to(offset.dtype).view(-1, 1, 1) * dilation_h
    tap_x = (tap % kernel_w).to(offset.dtype).view(-1, 1, 1) * dilation_w
    origin_y = arange(out_h, **like).view(1, -1, 1) * stride_h - pad_h
    origin_x = arange(out_w, **like).view(1, 1, -1) * stride_w - pad_w
    return origin_y + tap_y + shift[:, :, :, 0], origin_x + tap_x + shift[:, :, :, 1]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """y(p) = Σ_k w_k · x(p + p_k + Δp_k) · Δm_k (equation 1), without Δm_k where mask is None.

    Args:
        input: x, [N, C, H, W].
        offset: Δp, [N, G*K*2, Ho, Wo], (y, x) interleaved; G deform groups share C in blocks.
        weight: w, [O, C/g, kh, kw]; g groups follow from the shapes.
        bias: [O].
        stride: (y, x).
        padding: (y, x), of zeros.
        dilation: (y, x).
        mask: Δm, [N, G*K, Ho, Wo].

    Returns:
        [N, O, Ho, Wo].
    """
    batch, channels = input.shape[:2]
    out_channels, group_in, kernel_h, kernel_w = weight.shape
    taps = kernel_h * kernel_w
    y, x = sample_points(offset.contiguous(), (kernel_h, kernel_w), stride, padding, dilation)
    deform_groups, (out_h, out_w) = y.shape[1], y.shape[3:]
    groups = channels // group_in

    # A deform group is an image of its own: [N*G, C/G, H, W] sampled at [N*G, K*Ho*Wo] points.
    # (Sizes are spelled out, not -1, so that an empty batch works.)
    size = batch * deform_groups
    images = input.reshape(size, channels // deform_groups, *input.shape[2:])
    points = (size, taps * out_h * out_w)
    samples = interpolate(images, y.reshape(points), x.reshape(points))
    samples = samples.view(batch, deform_groups, channels // deform_groups, taps, out_h, out_w)
    if mask is not None:
        samples = samples * mask.reshape(batch, deform_groups, 1, taps, out_h, out_w)

    samples = samples.reshape(batch, groups, group_in, taps, out_h, out_w)
    kernel = weight.reshape(groups, out_channels // groups, group_in, taps)
    out = einsum("ngckyx,gock->ngoyx", samples, kernel).reshape(batch, out_channels, out_h, out_w)
    return out if bias is None else out + bias.view(1, -1, 1, 1)


# ---- the problem


def numbers(dtype, shape, values):
    return torch.tensor(values, dtype=getattr(torch, dtype)).reshape(shape)


def unpacked(dtype, shape, text):
    raw = bytearray(zlib.decompress(base64.b64decode(text)))
    return torch.frombuffer(raw, dtype=torch.uint8).view(getattr(torch, dtype)).reshape(shape).clone()


DEVICE = "cuda"
OPTIONS = {'stride': (1, 1), 'padding': (0, 0), 'dilation': (1, 1)}
OPERANDS = {
    'input': unpacked('float16', (33, 1, 4, 3), "eNoBGAPn/Ek4WjzbtnlAjKFkNNu/iTz6OtY3wD4+ugcuHbghs5k7ubhJOBk5BDurPLCylTY/vSIyHrKWPVg64zLPLeU4ermPNde4xcALPNyvfDb/JSy6rreZtz+5cbGVtNM+Dy2HOPW1YrqRO0A9MLIyPIg3fTgEPcQ20DPJtH4/PTm3uLK8TSzLsvg476EvnTy7hjTiufunKjvevO24JDN5sJw3CjwZQOW+EbwUuNy7/D7lu8ush7oQvHw2DzgnuAO4DDmzrhw0MrYdu3S2g5jAvVc32TXXurapAbweOve9FTgDPeWooUAtt48xqCidutS6ErDPt7k4KTsCOts6yiehMtC4ubd+Pem4wrr2M+WyaajQuCc+xL3luQw+MbvpOOA1Dr+joGk8ni4cugg+3ynNPWC1TLRlwEE52jzpwUAxHLZYvOcwyLmbuTc2uDKSNJ23IiZOs4u3cricOGS9pS34sPcz+TkFvRS39bMnPBe5yjV6PQa8qznnOok9oDbYLVG13b75L8M79rqarvC3TTiSPqw8Aj+6MPW0c7tRQcu5HbhdNBk7PTdWu3C4YjyEPiC4mzvztlM6mzQEPQmwBjxbQPG8bjkEv4++lzRZuow4DjcguXY5CixLv6u7Gz0YOMg+JjgjNk68Yrw0NEc5Ey6nOzcmIMActfNAfbaSvVM+oDaLv2WsnDu+vOW6errGqcCzUbk7Oh+9VD9JPzcvIzgmNzi4LrSXu2i+Q0A4vqE8Pz3GOtI3Wr03Lzk31TNVOeS3rbtxO4I3Lr4QM1c16LjgOLa64zlDvVs9KjMmN5M95DTPM9e9e7vxug+y8DUFNte+lLtgNzk5fqgRwGU72br1OPcwO6UluAG5Ji3JtHCwVjnDNjQ8vbwbtmq1JrtoK9a1mjHpvJazOrw6tdG7PkBHtm88Q60Sn5a9uLyAvJy1STxSPOg5y8AJvLa2xajCt9W76rEcH5O7TLiMOak0Db71QPK5Sjreu5zA0bivutm3kLZVPYsxmT1KODiwMzYuwGO/KrTTvci7MD1wNWO+fT+WOIc6ozV0uGstgzP5NeaRelw="),
    'offset': unpacked('float16', (33, 18, 2, 1), "eNodVitj40gSrmRmEsfxoyW1/FjUMNBwYP0Ew4ENDxoOrMlMMk4s262nlUUNFxoubLjQ8KDgQcOD9+lAAqRWV9VX38PnuZvZgm4oF20iW6wrX4b5ZulLW1olpY8kuVRd7F3Y057H5ypMOVqnQZmmS54+vi6uFd11cRfTwRR0e5mJpndf8dFXvqDP1zpkHK8bp3nMkUx5xnvcpjhzs9VJtjIKFZeqoUf62SlKV7WNactHq8JU4jAOaTjgu4PS9HytQiJ7urE1R0FzgQ7KVcsZH2zZpbTtGnncVN+WAXWptDrkJvURvXQ1RSGjOxlxFqZdLlve0y9pJFIzVDvIzkZBeWfVqsa8leRehZx+qYocOlYSbdpL5VMS9F3SjQy6fDNzFU3o2NX/XfiCR9RK3SX0rGraieKEazrQD6CiqFnj1jChF593uTuZyGuu5E0WXcPRv1qbh5QyjyqcBEU7q67ppaFP1lF5mdM9vXYlF6xoSjWV4YR74hDR3WpuSx6Fkr5Q+bUNB3mj6Ur7Gf2W/Up3yQb4c05HOl5O1GDqd47olg7WSR4ca2o4MRVNOZUd3a2XtgRqRLE4eZQBDeUwaPmEaXebmop1Ku/y2LY8Ds1G/90qzaP1nLQUrpIdT1hh441N6CYkV8zHmY1M9J9WdBeji4IeN/VqpvRF//UBtH4SrbTENGfd4Sa67xzQFpvIuy242tQydA1undKLjPC3paGJ/cmk9NmcREtqSnqm7FLJsUeIEhmpOf3E+yTkvOcj5gMaPc7ByVgyk9MbKdUsPtSJp6j1Qo3sJJKeuS23MmTV5WEkRzzNwj4cVxXnvgS7Wtyxl6NPgYHzCbZU0kTmMkCNIxjYcz02ET3LVIardKXDSd6NAha//27BoAlhtu9LusVG31aVcTTmqcdNwM3Zwjd0s5nTMxSW0gnMj3naOWyjMsVKf2vPNT1v6q7aVKuaHRVhDwVp8GkkYwO8rppyKBOdc+YXXS3VYilQqhScyPjckCbNKjh69Qp9j33qEyj1mYbAN7cRcDnizVTG4JTGpjXF61kY8UGgI2hlJNjC9z9oYdEtvYXYKpfyAVx9scC3U6q6LshBMc/o9QsN5BgO6sNXJpfJpuEUinCUwgfG9k+TP7X0RaAdtyRlYnnwjSTg5SeoKjKnMLcn686aSpNgugE9WDDSlps5O3kgzIHTQ2y6gRrzLuLKKjhWTHfecUGvJjZ6PaN7MCDG05p+wzVUz41LRWP4zBcoQBkdYtcr9QDfiboyOD/nKXZThCJUX1va4fk4TLHTnc3XKTziQXJ5g/slFBPYTg9gQSbveJOzM4VZwkGHUFNsaumZVKoZNn1vI7jCvYlksq7Q0RhnMnmkw0obx5FrfINNDeAGOc+wyQp7BU7g1LRndZf7GUe+1+TEzuhoC1dzFWITr1uehBozj7ctHQOqWMd702P0yRRwqUHbmjlcQV3rznFpGvfxtRVwFZPPQtvFoQFvCh8TahlNnzZzsOIBagIr8H93rc69MzQ8xTbgdBJBc7+4RyIm5wuvxa1rOUC/EyCsbc7YTIjgTTjzbaEWnElGt1DrcVPBASZgYkzv4BnYgH6he3DoaJtrvdZPy7W+nkLWReDiF+x91MW2AFroBRkxkveQmaV3mxndwpFLun36E6m1N22Y+Mg0SqvGp9Dzln7zB3YzhI8/AuOSTlRuer1EqC6Yeoh8wESmPDesfA4vKoD2xGpyF00ZOL2jbLCkbaiJJF1X+G4UJuD+Lz+TkRygqz1y6DBYIlVK3PyKTl580nNWFvT5e8vO59DzGCeHJkeuDW0dlJvTD9pCVfchgqoeV6lsPRwYSUJ0xFRKHsC1rdNI3xzszLlWzVN7Tm1uyjBGn3NyOL2gaThaeN0mtRVqIR9D1k+O7T8iI98YfnVJafBP22nbAPlXVdn40jvFSKr1HOfuul6/CUerBf3APBlumYiDyopwwK2jrqVnPl4bnE3hsjc+uqbnFNkzXc2/teBIP8PMx1x5uDrddkj3f39gEw3PzzUrJGsDtk1WlaDKPwsaQw39b4rhdgHupKvU9+7dULTW4EFmFBLsxifAf0iECR4Eft+ff/pDRp2jl0vKfe6l0CDUB7YNbHJpbO3/7xDYyB2+gXoWC1lgMz9dCp/cW2RoB6bj1jHBLVRfDakObmRIK/xKwIT3yAhkFk7tTAFkXxkuCReIzhrut2VkGXj9AA3nkm0qePoPJHwKF91hhi09/A9sHBDW"),
    'weight': numbers('float16', (1, 1, 3, 3), [0.6943359375, 0.1439208984375, -0.556640625, -0.63916015625, 1.0830078125, -0.070556640625, -0.2489013671875, 1.30859375, 2.134765625]),
    'bias': None,
    'mask': None,
    'grad_output': unpacked('float16', (33, 1, 2, 1), "eNoBhAB7/5Iw073WP58zaDhhueQ/mL9uudY0P7g8OqEvBjq/Mla9szMTPsA7F74evO81TD4NL4y25DK7v5KgJT0eOGy3OD/XPDrAUzlYtBs8k7dlO9u9vi/pOu01ObwtPu6xtL+3PPq6mUCHs/2sdb2QPLa4F8DWO9U9bTg3OmM+cD2mvUM5U758O/gqPjc="),
}
ALLOWED = {'grad_offset': 0.012873721064770081}  # how far each result may be off, in its largest entry
COMPARED = {  # entries that count, where not all do: a slope at a kink is a convention
    'grad_offset': unpacked('bool', (33, 18, 2, 1), "eNpjZBx8gAEIh4KFMG10d+9QAaMBQ1q4kBNegyWMaegOAKOiBJM="),
}


# ---- the implementation and the definition on it


def implementation(input, offset, weight, bias, mask, stride, padding, dilation):
    return peer(input, offset, weight, bias, stride, padding, dilation, mask)


def results(function, operands):
    leaves = {n: t.clone().requires_grad_() for n, t in operands.items() if t is not None and n != "grad_output"}
    out = function(**{"bias": None, "mask": None, **leaves}, **OPTIONS)
    grads = torch.autograd.grad(out, list(leaves.values()), operands["grad_output"])
    named = {f"grad_{n}": g.cpu() for n, g in zip(leaves, grads)}
    return {"output": out.detach().cpu(), **named}


def in_another_process(path):
    """Results of the implementation, which may crash, into a file; the process's exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        given = {n: None if t is None else t.to(DEVICE) for n, t in OPERANDS.items()}
        torch.save(results(implementation, given), path)
        code = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        os._exit(code)


def main():
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        code = in_another_process(file.name)
        if code:
            print(f"the process ended with exit code {code}")
            return 0
        got = torch.load(file.name)
    exact = {n: None if t is None else t.double() for n, t in OPERANDS.items()}
    want = results(deform_conv2d, exact)
    shown = 0
    for name, allowed in ALLOWED.items():
        compared = COMPARED.get(name, torch.ones_like(want[name], dtype=torch.bool))
        found, truth = got[name].double()[compared], want[name][compared]
        nans = int((found.isnan() != truth.isnan()).sum())
        off = (found - truth).nan_to_num(0.0).abs().max().item() if truth.numel() else 0.0
        print(f"{name}: off by {off:.3g}, allowed {allowed:.3g}; NaNs that do not agree: {nans}")
        shown += nans > 0 or off > allowed
    return 0 if shown else 1


if __name__ == "__main__":
    sys.exit(main())
