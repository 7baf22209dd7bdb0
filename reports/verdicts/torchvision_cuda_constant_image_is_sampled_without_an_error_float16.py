# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa
# fmt: off
"""torchvision-cuda: 'constant image is sampled without an error' [float16] does not hold.

Seen: grad_input: off by 0.186, allowed 0.0203.

The definition below is the whole of this project's reference. Exit code 0: the failure is there.
Problem: ConvProblem(batch=2, in_channels=16, out_channels=8, height=5, width=7, kernel=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, deform_groups=4, bias=False, mask=False, dtype='float16', dtypes=(), layouts=(), offsets='one pixel', seed=6)
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
OPTIONS = {'stride': (2, 1), 'padding': (1, 0), 'dilation': (1, 2)}
OPERANDS = {
    'input': unpacked('float16', (2, 16, 5, 7), "eNpjsGMYhaNwFI7CUTgKR+EoHFIQAAZND1A="),
    'offset': unpacked('float16', (2, 48, 3, 5), "eNoVlndAVUcWh2NDk9gbihQ1RAUEafdx72Nm7twZQSVGjSj2rhtbArs2LLEhahRQwV4JwWAE9D145ZZ3y2hUjMbEkkjsukl0bSvE2DC6b/+Zv+ec853v/NrTSJpPmxOdNIECaox6AohWa6IyXdvs8qiAforfwtb2SscS8oF0Bg1MzPbsoF2lGWJgottlIzVkDv2DhJEg2A3sgQVwCuzqWlQtOWvVTPk3MFDYJTfSIxkABxPelesMzeoEJwnXqvcY+61caQL+Cw/CZXiNsDVOTJzA1XGJ5lY9wPyP8YdPowhHAR83V42hRXg9WBD7Rh1B83EmqIqPkXn8Fq+SNFyN7wvAfpPLifst8rqZZkzVeX2JPgEFJR9yTzS/sD4EIdxd90ajwWoLLghdlGI9kG0Q+4r56BvkAsOPdleWVw2VX3peMad1iYmWzepIOkr+P/JXjgyhU/Dv4MukEE2ge6T7aLxtmSbCQhCCGBwvjlYiFa960Vup3WD7rCxrABvLquCo6FlH7pj9rUHIzr3rKvS9ss7AhXHb1fnmK6sxWUK70fk0m4joEzAVXAcZIqcC10vPSa2+ehP9AueIBxJiPQJpJM1FXZLGKEPpUHwZPk6M8k+hgKSRTtRGJ6AM1FlsAcphkcwrj7Q0easyV/yJ7+oJMe+wl+Bp0gqt1DjHGsNA7gt3ubmGJePNUo20C4fiEXEZsRX2j/ljfAtjiTFCv+17YLYgbaUOqJktUD5A1+EE2DHsePUy0l36DCwULjsm47U4D2/HLXFN7I6IeNsvtibJk/SexkLjbzNA3wvT+2JHd72CLQG5vSNcJ4wylifeto9RLvuuWSlwrthTfAQegOGuaV5JPqHmaSfZeeseG2a1Y7OpKh2FzqTzajJ9jvuCg7yn6izph4vEHvwgtRSeA8XoLvgLDNSWK6Hyz64g705rPMu1UiydjRcPCeFVmwwvO4Bcvc9p5/RMthMM6/mxp78+2xpKU0hjeprUk2JYiVqIxSAYttTC3RedD+Vy5Tr5BTdGG3tHqZdIpVQNmibXeSGNwLdRZ/6SO43Mpl+SXNqdboYDQXuoIxleUxo84UffV3+qugFqhQD1vtGR1aNjMcVymp/nK3BpbKG3szGIdZXG4lx8BnfDC5LG2XLsU+Lb2l/rbt8ofa8RYEaRRzgUZMS/UjrSJXgb6G8bqf5OxuJN0MlnOe7iNVIfaQgeKSUnnos/aB8uzImp0weblfpkE5sCutq7qWulbx/zV5SQI482Q1mC+J49X83x3WMTURuULubDAShJya8aqV1xHdfGWwtYD/bAstgFsluKQGmRe71t6Vp8FbSxn1bSSTGeINYnfavehz+ClegYKoAnXVPlh65jjlHyHsuwKHNYeawC3bTxVXX++aag61yM8lSfy16jYUlDlIVmG6aRvjSPrKbzSRe/N0rAZ2KQuNC52FWqLVB51xl6Hteib/gGeTI5IDUgr7BKTiaHpVbwcvw9LZCmkQH0IYmi08RhYqy4DuXAla5a5xjvE88dVz7Kj7tVvci4Yamohi/TvIZu1YJCPlgONg2WjkdLYVJzSZaaJn+dtN1WaF8t/O6ba36gHzTSzRxaKjVHT2IKvV3pW8yjj7jWnqNkPR4qRiTudxyS/vQbZyI+IWlCjfAq8UTSNP6k75HxyhxnlJgDxJsJx+UpRifWHubY5lWVGjetNPi1MM7zyHeQvQACdMIxYLn4q8vtbunqqYZq162T1hSWYn3OUmgZHgWyIws9FaRIOgR72QuVABqI3xGv8sPlLeJlEITuww3gkGN4laf6sHu0N4KlsBzrlHXaqkID7bO0Rb5fWb7Ykq9xZ5o32XawKHqN3MNIZ0tpJU2lj/292gpD0Gm0GMxEp9V8T195lLutsp7Ol274bTNDiySpfktVRXRwjqEini/+zLWsfkFOk1TSnyym3VFnlIKeQx585g5WCpROjrOeGnA3roOW56tjf6HD/Arln+ZT1hdssb3vdel1LAzPxEX4K5wjNYrtzudz/+YzhPm+x6ZsBhmyXk8MaSPow6e65xIDD4P7ev/DE0c/lmzou6QGLVCq8Hf5BxwoDRau8ovs27g99iLfh3qJPse4abwGKfxC5798Dy0ebkgcr3jMFwyjUj5b26aXsUwQLpbAbBQFVbnOoavB3lRPDVvMblsxbBXzkhB/bdujM6sHk9lSMDgfs0U56ycsAGTYOykqGo/eFTPE9WKBtuNIneKSo9z/ZbutZqyS8awAvE3sqAYZ09lOFGg/rs335VpdUFtuqFczJrEbpDVZQwS6gYwE7SAHQlGieN3bTNvvDFbrqzJpO/y56OG3ep+QbtJ+0Jhvp82mm6UsdFPYrE0lJtlEJPID6QsN1AJNh8FgqRupvZT7VSvlOrgyYYQaa6y0XsPvI+6ry4xb7A24zJ3wVhrzLA23wB4pAg/F/bkLXLjwXeJg+wxDMVKMpb4ofTUB2ImeCJVeQjtIW2FsQpZ8hrzFf4Md9hCnIsXhaGzHhVKd/Xrci/gJtjuxTuOSr1gfoBtGNxDFRXs76VOt78FpPsvTw5jGKtFbrt5x1feIUdhfHCuOB1+DFO2CHK8EqFeVXewTNsMy/fvfixzCdpCUOF0+TCOl6WiIMNrvqzm4A+ogjHW/9vemK/gQ/A1vKCvkqOqxajfnQOtb6zhTrHI2Ex3gpysnjVVWuJ/nWTKvf2LFAzdX4gnU17EPiOG/ZD+RvbQdLIH5oJVYAcu8vyoFjr0y9jYm1VIt2McFKm+IGxtodPRxbz/yB04X9QheW0dq/XvQ3P+ugbngHOqOvgXZjp3KKbnYc8oRgM4m2bQA87mVDXsLDVqtmc08IJX7U35jXmZzpGrpNm7nN7StX9P4RtFX+C/sg4wK44EvRB9hVNAQvFbcKEzxlJBFeDe6yW91xJFbOBdU2zPc/fAc6SupDW4pjeRr7G9sXPj7fLA5ybxoNPhy9cnig7j3nKrvF+sYLOCy3K+NPmw5WssFK3P1n9k8UAZ0sAHNFl1V6cp89ZT6paO9n2TIRrFxVg5tg4+jVnHb1Al+K1MUk9zGtY+cwB+hFwnPlJWogwjACBiKWqvlcif5WtVHns6sjs2yyq2mLA8si0zWDHM7KwdxvCTn+5zsGXLalzqKfGEM0YlksJ9mlYSC2aAJ2ODPLpvVmcpyrYUyQA0jD/BX6LntijOZBmEDMG6Fq4SW4mYwODldOUnKaDjpSnbRe2iteA5kohDxkPdt9R251LXaHQqWJI1SX+gPrXXijri1qurPVxdAGJeqvPRlW/9PddNxA06R7iS1THIJJxKPCP3MH8wCX6lxyzQJL3VCSt+ZSjI9Kh1Dt4RWcnvSBzeBUdGc5yLOxM9xiNQFRyeeFbI4T49H3AzDaX5qlOg5Zirczx1xB+nfsVlwfWyYfM98YM0DjxOnurJ8mpUDG6Ne4EewEQyRw47mu6fJwzyqVc+es2f+1MDTGukU5PrtdwynJh4C8uJHyHOIjJ/AnPjFWjp6D/YUPSgNTHQ91U66ilxbjrZhZ6zdrMISWChaHn9Qe8csZ8/gPqFQ6WUQ6w4s41/5WZvJ/gc250Di"),
    'weight': unpacked('float16', (8, 8, 3, 2), "eNpNUkkOAzEI88M4IN7NIeJlZWwnqlCmaVhsAxgkCrHWewrYk2uH916rtdlz6MNGYe8D8BfMT+bOfpOvhzW+KmF/8TX4hb3NFyE2I4/rpOO+iOa9yfFDHeIc32Y9SVbN+GG+8lT36miyvBXTSvLFlqsW/wUriVUwO+gPYsAozXy4C1KgPirusI/BiucxvTq+HohrmavqDhkHWTYrtzWnFc/j3n9zGKOrd6AviVnWAWIN3zTNJJNDlPIML9LVKl2Xq6bR3hBNNp4qsdFkx307TwuIAePCfM7fBo77N96i8s7djQt2SghjZuXZxptvuYqsny+83eme4QfYTZ+X"),
    'bias': None,
    'mask': None,
    'grad_output': unpacked('float16', (2, 8, 3, 5), "eNo9UckNwDAI82A8EHPzQExWsGkapeU0NkWjAdgcRyFp5URq/Kbt8w7s48/zuTVWs28R9m7VVmw3mDNGe2JOK4i9VUXL3xxjzeaDsTgOdsjqW7biGHPrYosnZmA+2LVzi1w1L1gv/Hw2TnGyspkpKsVTJx5GRLvj5AFixemw25IQ9M3bwr/R4iz5/36Ux2Pox098QJw4tXX71V+TaieWdvyrSdb0B7roXrs="),
}
ALLOWED = {'grad_input': 0.020343416128428483}  # how far each result may be off, in its largest entry
COMPARED = {  # entries that count, where not all do: a slope at a kink is a convention

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
