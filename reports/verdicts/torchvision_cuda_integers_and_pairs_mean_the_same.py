# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa
# fmt: off
"""torchvision-cuda: 'integers and pairs mean the same' does not hold.

Seen: grad_offset: off by 15.1, allowed 0.021.

The definition below is the whole of this project's reference. Exit code 0: the failure is there.
Problem: ConvProblem(batch=2, in_channels=1, out_channels=1, height=7, width=9, kernel=(3, 3), stride=(1, 1), padding=(3, 3), dilation=(1, 1), groups=1, deform_groups=1, bias=False, mask=False, dtype='float16', dtypes=(), layouts=(), offsets='tiny', seed=0)
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
OPTIONS = {'stride': (1, 1), 'padding': (3, 3), 'dilation': (1, 1)}
OPERANDS = {
    'input': unpacked('float16', (2, 1, 7, 9), "eNoB/AAD/0k4WjzbtnlAjKFkNNu/iTz6OtY3wD4+ugcuHbghs5k7ubhJOBk5BDurPLCylTY/vSIyHrKWPVg64zLPLeU4ermPNde4xcALPNyvfDb/JSy6rreZtz+5cbGVtNM+Dy2HOPW1YrqRO0A9MLIyPIg3fTgEPcQ20DPJtH4/PTm3uLK8TSzLsvg476EvnTy7hjTiufunKjvevO24JDN5sJw3CjwZQOW+EbwUuNy7/D7lu8ush7oQvHw2DzgnuAO4DDmzrhw0MrYdu3S2g5jAvVc32TXXurapAbweOve9FTitOcC3fj3puMK69jPlsmmor71AvcS95bkMPjG76TjgNeSIe/I="),
    'offset': unpacked('float16', (2, 18, 11, 13), "eNolmit0I0m2Ra9dZVuW9Yn8Kt2PJCwo2DDgQMGGCRsKNgy7yrZs/fIveVDCgYIDAz4oODDhQMGGb4ff6lW9quxUZnzuPWefSJ1meZyVciWFCVMvKxd1V9nZ8rGrsipTpuo8E5zr3u9yu5WtHp9qO9XeIrIqbfvgx+fvyaWW297vfdmlpVyfYxPKR1frfVd3pXy/NHaj/UWbh3qsPTPVsd5yN6U3eTw/mJUZ2VpXqpUH+dkrieZN5stK7zNlp8a3YxvZHZ/bqVCeL7UNzFauskZ7NtQlI6jmR73Ru6zqI1n1rXlY1n88Wp4rVRbaIo06T176Rjy7kVsz0hs77Quz0lv5ZVrjqZin7cw686zq8kzNG+Zbm6JTtpBfqpacESvjLY/nuovEMO5KrsygL5ZxXstE9n3zd9KVeiRH0/SBPKtG1kbpQDeykydWRUm74K52Ii9d0Rf5IfW6UNfm3SR9q70/j1lhI9l0PEUHVsk6U5fo3Mq3LJfqPJM7ee0rXWolU2mksgfu41tPbuezrNIjW8mNVL8f7c68y3QedrG8me087IMl668L2cv+fJCWWX9oT65ll+WmsLkOpdVBWstUR2Ytt4vHrGLVRHyTmwczkKHZDY76wGzXy0bKRWQ+zMPxqMe2XYb/PqpQjxYzCU2Z12atJ1qx420WyJUNLsxPbzIv9f57NGHvM4pSHpbNPFbhOfzXJ6v1U2QeGl9mOuy5k9z1OattssB8ZKWul40Z5i13ncqLGfFnJcPU7w5pJN/TgwlNlFbyLJtzbfZuhSQwIzWTn/w+sIXe6j3zYzXcOtvcjM0mLeRdlGqTT3XQU571Iq1ZG8+4yj3qoxlq1Rd2ZPb8dGO3dj+vddFVVNeRe2zNvotYg7wL2KVKJmZmBjxjTwW6WvdTT57N1Azn0Ty0B/ORKtbi7d9HKmgizO2vR7lmR9/ndZrLWE877sS65VnZtXK1nMkzHRbJgcr39bTP2Y06LefhH8dTI8/Lpq+X9bzRuZR2SweF1NPIjFPW6xJKQWcycr3pkr4xdfJo6FRT6sCMT62EEmplc3ntFOMed1EX0KnPMmR9i8xjXfb8ZmrG1FTITofiL2I70jtDH9ErI8Mu/PWbJBmjlXfrZyqP9I5afclY316p+pJITsc8M9YbGZi93anPrk4LM1m2OqIjconQgXH2z7T4cZQbQ+/kj6JS39x3rQmoy290lZce7Cw7ZPkplCoNmN1A7jMqMquWM52be2EeXD1kp1u6seg9XWcKxfLltst1Ka+pn4aLWO6oAJ+fNvKGaihXG+daxujMDR2g0tD6uevUHbrj9ZXNu5mesjelLW39+1HW/Hxsp+zpOisWERpxbwrzjvoF4gvVLvdUwcZ88JtC52mZPqKgQ7rJTxvjKqlSMTt9l3mowl3qmcmiZkRjrtmYB9nNwzTXXt52LTs1QA0KHbOTNfvKOlFTU1fVfdHF2utcT06yWPZZmTe6tn7qL456YhvmPF4dZW95SpbrberW6FtaolKD4zGdoQrq0vS5rtI2//z9aKhVZh7bY+/blropO194VhrKt+WMqrinm6gK/r++1CenDK2eshsonfHouV/arYQveVd2ockXjdnRvxNWOMwKzc5YD23imj8SleiN2cg13bpf1ijAhEr05YM6oxoYL31PDe2z9tIswh+Pi/BysJveoxZv2PdR72clq8VY8IiR+bCb9LHLl7Fco8iVXP/4J661TY920nlpq0LVdhH9vJI3/cneDNHxB9a4koNUS9cvHk83zHqIPzCjtDq1WnUFWlSy2pMslPwcyoaaXstm8Cgr24iYaFHzuZGdUPu/utiMzI6+2uJDu8EjrlJx51dG8tIFrmZNIt//Ouq8K+jnMVcO0wJfG2aNVflMnmRFV91Zj656mEdm1aHAOInInlkpc0+trfIQ9y2ozkI3qv1xPEVZkVZ2zDhnknN1IlO7z9C6ZZTVPAt/tBs3c3b/AY981+jVOZLB/x77MGtZ+VdVZ/7ZKcXI1IsZ1932rn8D7c0TeWI+G+4yMTldVtoddx31R3nW+0vLtREqe9V5l+gU4T3T+eyPIzXi5hB3vq47VF2ue9z9P5/sRKtnp0YrnLWl2ibz2vCU/01kTDc4phiuEmonmkedU+9WvEVIHWxShYNddQHrPxRhBvcGvXfX//jNjPpcXs6Rdr4X0YN0H9U2yIJzmzXdl0KwI7d8hu5JEpOwMz/zCJ3cZnhoT6Vz17GgFso9DVenNja4FZTADO/wCDyLq9Zpycq+alQSFfBOIeq3olNnmUf/ouDG1xFK/ZKHXxwxRi0P5yh1dX+/qFWUBtRWIE8QQCTPi7CP7J4e30FRKlOs2w3dcMdMq05d4lPYl3RCIQ/oyx41zZf1+X/whG9zPBbqUPKuR2ne5SaGRRobUZEt1eFz9QQvDzQURA0a+aRiW7ulW1EtiZlvmSq7o3rfXOeagHm+mQrlznN8KfPospte2ZG8QVdD/EqxkmvUYtd/0hWTNNYxo/dN+eO4DNMK6oICdY0mz0xlJnZPn4W9ggyGAg+d6sFRNjLpVBowojuI5cN4KF2FV0I4+PwLSlkyw/A8c2whN3qateZ90dg9vdB2BS5R0WFjXHN4TNwcYVD3VNU1ywM9GNlJGmZKAtzFKdKHfGRtz7jhwlnnCGoCfXlp9COBboIvHy4hskbuluyADvrajv5MbGjeUZ7o1HYlu3DoPflmd8tQ7+UW349koqIOlWQ+e/pP0R0bHcN0ZeafEjzz17mG3Og61sBLoVEIJU7LY0Kf3kIKmwyNQy3VKbT1PDZeBl0LM+jw8G5mPDvuy9MRnXpA3YZwVWU30Ow0o24cPZqKeh8vG13ilvdQIBzTHcVDV0eMzWPfvqdVX7Lr9Ab7fJdSOzJhdWv8MZQI5YdZ6Ks1K1izS+vsSN2FrPs1Tv+hQ2ruw04V3qweLxF08UbdokM4qkK7D+c4DVj50oxZn8oM6Z2Ku09TH4cqZQe3QEDsVQLzDNnnIev3bD5Q5Ab12ixjPDhPj47q9ZjdgcjYs8m8hVQrckFIbTYo1if067PvI9RtZPJeXcLOG3yiUT+pjDU9ACt2Se7Gfov65124ONjtvxJUQOjYkLQwkKtLDDeXZpSFfZWVp9q5bu9oeYi2bujkJ2rbx38H8g1CjawHCd6QU3bJkXkPe5wcj2Nd6K+tfEfL/P88Gu4Oc9yZNeO9XxxPMTw+MR/9gTv94rkPuJji7jvIjXlKY8usdPQgBnZUUmTVIFH1MlQx6x6xo2VfcN2HVKgAOprW7ONbX6gGN3W0T4dQby3uSp1o56wDvTu3ZKHy9+OJq1ltR+RrU50SPUGVx9x1D0cNnVbRG1vjQ6MzE7AyH8xg3zUktfs+pk8gGMaRy2be0tXbeQOfVfRItExgfU9+LmZ9iTO+U/VjlVA9HrQ8o5tjCz/KFFW6o/8r5gxPwZg35v3coGFTlGttPZiptZOl44+HzKnlm23M2iZiUKcRK9NSJXso1WNvHd1fkSdILf9NWA/oT7VqdsF9UfJc7jufTqnT2M7SRnwVUYWuTu4lRqn3JsmKf30uqb8soHdG5xoW36cJTuijazucqULtHbfv4CNogRr66RIBKS8kC8TOpfIZ+7GRZxvb8NIufoOH7+m4d3JDBGXEBjKnEt8zGJFEQrajW15Y7y06ClH0LQRKj6ERg/mhjzuPilj1kEVKvmWVArnlU7+WtdNN+U5KyZnhd3latqjnvRR2f2rgw9HynyqkE6Zyawuu9ulQ+gKd2eJ1UYf2nSP8jMxkJzD3KvWo6Qa9XrEuY3rQz0J6fIDyFXbKb9EmrsjliUpgHRmLTzJVaEusvpIKXjm1I6riLqP+bASVvzt9lQra96jzVh3PM9gZdiWR7vjvjly7NUNYZi9rOLdmvZ9R4vKIQnWQsONw5jnRjrtuYAp4Cz3eMYbxPCZnK/ZqDMvt0Jn1uZ7jeMtQftEXG5TtgepvmN34Epnw3KCRVep8YJ/PVHjBc758uFyQP6jFlaU30A1Yg854YP8fzIgK9CGFV6pLuK5ADTaMuVGNQWmpilzH/A217Bo6Z2uneIMn205RyQOcciKxSxWMfg2zOiq5Rt2GqCW5jK6P+N2Hy69oNZrC6EcZ2RcdJofIS191zvlL2SwjOn2EU7Ni7FuYFmjo1rTQ4Jb6HRj/0kJGEd2pUFu8jb1CA12ytrk6pE0X4P+NgSdJ3Csh28lPfKXAUav5AQabyHsf4EIenH3TqS5RoUsYeOfMZY7MY+1UF6cxT4ByO//vY1fbae/yb7V8XEL61FxOPT7T2fRxBhXNI7k9hwuX4Ol0zQ6R0Frjul/MhKTjdnpAJw5s0x+ohFucP+RZRd/2KDzk/LFs00eo4GcX49kD1bgcYLaLMMu7Q1ZAvw/M4d089J464IOOp7bLFuUpyD2QAq44JfNO8LihDPt22WQHU5F16B72s4DkX1w+6PzVUZfnWDdps4w0jKDCvpb134nZsSeTrqKmSaeOfI2SX7hEYF1fs4apOwl4p4Oe0AByP9WzxQUiPKj98ZvEZ/SGuspZzyIte5cGtl2pm0UNrT9Rh1OSjJfmaOkYF1mzqri93Cwe9aSv6BRUAb9mdKz5TkNVVLhySQt6YqVIyL+MR4fmhvSP228ZS7OI0OBAF/mBlPoi35xfOm36cYTZJlx9TU79jiLu+hl6wIrYMXvtct0alR+nPirHjuoN6oHTsboJ2rX9T2K3isRFCqrcWUhXQu+veNgHT/2wIxw7YDzFf0hW8gb/PnRqEVN7OAZ1vpJr9rjRh77qczh01ZWk6w8ILkB7Atk6FeLza+Z3R75A7/ReRTohN5DZ+c2on8GtA3gaUpSIp48X9TmZz0jQD+zyNzpq3dVLd/6j5BrOHpr3vxI9Q09j1AxVX5BpoFG0hLH4ncvSeXpYPcKivqMDlxHJ6tuc1CN17hIcTqOik6OPBzvN4CTWhN3G09awYG5U8psO0kZPFjAg/fBuPhYRtYCzdwXd8EGV73AFapYdqpa1O2VazEiNMZnBZYUgS9K4g9SZw3eoxGMWOC2ucd8leBNeKqs+oqs91P0Nfx2a1d8JaW7UkddNTAr4TrYv0dyRfKMn8hPKlHxmZcq4s9oGq2OHA5BZfBO5cww9/ivJHrWjre0pVp9mmpI/qGY00Lp887o4QuG/oJCRPYrpGvStEtTEnZ3hPFNYZ8NINmnoiFDe6CzyPNQ9TQtSwvAH7oqGxmaP5kGuZsqnBiRh3OEUoXQRe7Y51d2BtPxAl0yo3kSXNiIBztKya6jSFsp6Yp19uc38BXkF5bsjE+BDGUxj/C/KU9RsDLewU53Cs8lzcmXgS64bapc/FF3zvJjhVqRQdy5lwzSAqF1yrklB9SVCFw/pgW6+tV6PgvA3seHXye2IWV91ER1fLVv4rMgCXH16iVA1kh2+V+cz606oPfWod+k/0yDFM+h5p687s6J7Jpnqw2UCF9CzUFfA6kT6gH/8ZA0D1J5xiLvzCm54pTdrqgvl09WlXsT00db1EX0xkZ+Xeo43L2a6os/xNJQloWvGrP+I/FDgbTnj3psi+aSLijwid9z3Prr80M+E2dpP91s0eEZy2mU4iyTk2MJlGalR6Yc/P//+5OklbuNq/uGvT/luDl3hUiJ0OpBiUaPCQ3T0+YzjKnIczln/mWRNGuCz1+QWtTxmjyjalc5VBEV6uNkQamSUjPeXHum9zrVb/WdJenfWszod5rMclkW5DuTnCHK+njfytgwtT7hQT6mCUoe2tujA5djl+pAqPDRfzPIY3vxGD3o86UHn5iF3Z2kf7PthEedNetTeCV+DyKI8QlN947h2pamEXs3RvsUhj8zK7LVLJ6wKmXWIIgnkNzIHtO5WXBp2dPdKKtlpR/jss9NnqOy2D6jIjQzw5A0M4alIxm7+l1a1Z3YUckB1Ox9/YtXP0IU7h5TbC85Fjs3dyTI5coKj3uM0G5gmN4ffE3hry5q9aahMvkFo5TKyQUfewFFi5ldJyfPfTrG5/zrl2Eh0iukdOFAG5yZr8TEq0jQ5/vbFsUM9urhzEUVfbpjTCg0cyi1OT4Jxb03M5Bz++OwbEh2roxo6oM3cOeH9yXnA66Ume07x1+tUoQZwrx1BKlPTwMN3fYG2baioVzStSWfU7YTqCuRlnrAnQRZAH/4ysQX3GqSeOzO2uCeVurOVdmd8gfVIe46jGaX81GXeXA4Sdk1Gvp3jZhBkDYVXZmD3dI4yu2WNr/1yZ7BdQaqN+oNLnaTqIRk0omsKqxbojW6pmUYrPYOy9wvHxU+plyQderlsnKOQzas8difKzKc1exLkDTx2A9N48oov7cg4BfO5pYon7HwsinWYygss8JqFPDNCJWu5ymc4BxRlhucZZPtiGru1M324tFD3zL1JQHGiUwMpxlmTt+LZWiuuIV12gTtLS0PzPm/J0hVEsiUP10v3hmmYhWZs7iH8HSN4pSef6KMcH4zRmNxOfySyQVnJq8Z3VEsqde8gvrvT7QxOcHeBrd9OcA8V85RCGlTBXh/QpqIvswh2f4KJyNYyQGX2POFdnH8+uHGjJlAhbPvLPcV5fHegE/2vTHvf43SwxHdZmRmrAf2cwyVqpad217mzK9/kaLE7gYQyzuiiHpMqfHIiCSurmTs8kzWZonNrCHbiTkLMgC5hlftgiR/wp0RfH8/uLGDzlajdW6GPXnXuXcsO4tmStXCqrOwDlxxR1Q0a9+pOJvCOVj5Ox0XjWIDfkav+m+hRH+GGuELaMvNbOs6t7IbPt3l7PnaxzUk6IxRiLfu+MDvznjdU4y71YJIru6Mq3kyxjOUbVTySa7v/OmUtqMwdZKHcWSGuiRZy3ydSYwixNss6y8W9u2y5er0gW/PkKzPKiksMo6tFremxuVNd/lC7UFH6SD4vstxRI3mrzmqzomIryHLjzkIy8it8ie7n1IwZuJMmfPDFnY7ar9QEP8IA+PyOFFZTpVuU55EsytOots3SueaIv63c+YyM0qSPjaPQd8dtkJzflfgL6djc5xGuPNLurcfu6+T1DgXbnhL0Zk0X/+x8E0Nybs+LLwK6M/gCnLFGUXO94xnfYeRKHXHTsd1q7g9rvXQ5VaX0hjS2m8fZjLH+hJ7rNMBvR+7MVJ66MKda2e2Q1Y+YM7nC1u4EkmQ67by8kTtqYs0ImqySDWksxCMfzyFqkqDr6GbvOPQbI2+XoXtfAUn8hDa83vn4CK2D/9y90jqD2jMP51VmrFpSaeLWi6vKjExgSdpw76b3qf+pOfBJnM2oeaSjPj8fHNXRTU+ojY/TeLAe/EAXN6jreHHsg3nNnhzgvie7PTmfqlDzG3TzmerGhejirdtDM0mPZ1J/X/cN+9Bk/H/e6u18Bqnu8NORLdFMlMmGamY+UMCdDOcxrHH9dRqh5JvcZCWaCJ2bIaqp0HD2wLrz2ZLMWyTH1OOpY/nApd7klXyOJ5DV/MtM76xT3Ae0/YE53jkGz2t4yTFvI88pRAM5r63T4HfNv6yatyQ2H4cc20a7PDuSTzhos2jorDG8vcsKvbUxjlB0ZBn3bi05Qk6VzFDcEez/kBzluivlRYUGtoIJfFbxu/kgy7iMN9ElbIsfoIYwt6qTzxMpkf2F+8k6JWr3DSpMyIRT1H4FJeVZ/FWLySWCqhKXxPDIUEewQSFvZLgPdz4gtTuXhZtnzNnM0XIywJjOXLnzMpTzHYIY4WXBpTb7TtETZdbIPcyFx+CHqBR6e4DYnq2S1bK5NKxSychYcxS2NGsdGbK7PaRu56M0FK9z5A7fsibf6KMCWqhMsUr414eFBiD9ov9knI5ARtT6lR45fkBDR6QfkiTpDm77uh76pWIanHstI9YtN/XX2RZ63zsn/CWvJDgfvwuh9CAN5jBDl3OXwAZaLQ64n3Oia0jhva/guYBP3evRPMKFh3xqimJeiyKPjOGXIU8rILOJSw95i8Lt0xKyf4ZuInIFDEO2Hsi7e+siHjvhkeTHjHViI5svj5dGl6w0s8niS4sGtF8nlgWaMObf7iRrBPmsTOOeQ9rYuNREzTbkjJ/qSB8/w+ol/LN1b0HpahgSojigzcEf5KD+AH/HZ7feaCzcAqfgfZuvXd3+/mnVJfqqjhsZLiB1DduyJyPWacsz3Lcw1jJOHjPYVsP6pGfGjlNC7H8enZaQ6N4g5fbfR+jWR4NC1vwdb2eHzwfdkCfbZUSfuvOJ/6eqAAJt0ijzznVWLSF2nG9D5V6h0AfXjTn0g8qyfqlz3NeFOwNfy4dz3UsEHbynsatiRkM1/+OolTvh6H1Vp46aq66E4aanWLew9yar+4JUMLbqv/8k712ZITU/ljvtFPW9KwxqBXPvYdD4FKraPFh/3mSFnegJK0QiSY5L9y2gXQZ3oASMQNypjqJTcjOx277I8C2ZnNw73ym+pXCmjfbcW2zm8Z756YF84XLPmLQb/pHA8lOI+Bnlvqb7NmeXvV/60n0DRW+h0s9LjGJN+MQQn/iNHiut0zVm06luRm9UpmEm5R9HfLUiDfuLY1e40zUIa/yPxI4hj+es1TWrQh5ALfNlbCanIz47wA1mjkIY9bbLnc9m1an+d8Jc6KnkESJE9f9xRPuu4PMhu2AWuAMsUs7hq8yHNHBa1j+USm6oJnRB3n4cIekNle72zr0dd4q3g6rezUNWf72dIyezcs3y602aLTU6SGUH1r3Pfz7HWakruhHapqK50p0Sfn37w32HgWokl9xQRdSHuUfz1Pz440hFPXatim1zCrvKnW0KrqtJ9vTvq1b/TWS0jEkKjXubyAqNeOJD595GTSHVhkyaW/fmP7qE7Mzw7M6d8f3eKf7L6WA+zDSvudplxicS9PV8xtgC91ZHj+mf666iNgMUXcm9CWyNx+B1uE1AZ06ymrR3B/WWaIGC7EaLGO70HKmgZCvt2Bv6pr/2vTvTJRmjG+5tYkyevncZB9VAb+Dn0LjvceT0o0pjsyZ/s4Z6i5uVZgvHQRQymj/2kXxQ0QEaSm1Zj89AR3l8nrn3NJaVy/J5siCvodgDam0vdyiocu/2IQWfuvVkqGcdnY8jk2PQA0euQ73Vpd3h8x787b6pQZ3moc3ddzxOYd+QTx3F36cR7hiScXEnebOTPlQul4ku6co3uctnKF/JOsbkb4gIHvDcNyzosyINXcrRjzmcihYpqKQwq38lZKLSvZO1vnbv5IqFO9P8bkfnCKa8tdR/Fy7IKPKNdfPY0V/aWzQ6IC+67wPtXNeRACq9z9z3kwbiKMyThJSCNpkRBFPhOAeyje9OWlj3nVGdYide9IZkN04LiLplvu0ldPXIT2D48+H/ALFglWA="),
    'weight': numbers('float16', (1, 1, 3, 3), [0.6943359375, 0.1439208984375, -0.556640625, -0.63916015625, 1.0830078125, -0.070556640625, -0.2489013671875, 1.30859375, 2.134765625]),
    'bias': None,
    'mask': None,
    'grad_output': unpacked('float16', (2, 1, 11, 13), "eNoBPALD/ZIw073WP58zaDhhueQ/mL9uudY0P7g8OqEvBjq/Mla9szMTPsA7F74evO81TD4NL4y25DK7v5KgJT0eOGy3OD/XPDrAUzlYtBs8k7dlO9u9vi/pOu01ObwtPu6xtL+3PPq6mUA2NPK6br5utw44kLJDMWq3V7vGOyY1eEAJLWK1YztLMoez/ax1vZA8trgXwIK/lbxtODc6Yz5wPaa9QzmLvXO0pLTPNJM5bTvovKOzQD1hteE7LsHBvpa0fTR2OFM8/b2MtBiiIz2SMya9aa5mvEA4nDuQuX40fUAIvRKxHT2Ov9M3HD1gvaK9M7lWOoAzPT3su80+Mq1Fu6+z2UB/OqMpTLh/uug5ljy+O145m7CiLyy12zO3ufY7Mzmrtdwwpb2gOr+9MLiTMu694Dffwuez4TxVPBW5GTRxPIY/Di1RPqIyjjmeMHs1ijJXugg90TBGvbw1l7yEQXE3JTvkKTY6Ozp7tZm8TjNyOfE5i6VINHO6STkGvAY0wb34wRpAq751wKe9YLdruCY5TTwdO5A8SDuXOTQ/QTmsJ/w8syp/QKG3rcBjLZC1tLy4uAW/xzxStoywajn7tQk3HEDMuqG+iTk3PXi4Azg5u/w5SDR8qGewaTa3sba+D7Lfss89RDO0sregWLmLuixAITnHO+E4fb0Xuxg6aKs7MCY917hBvps7drjROMwwv7cMOJ7AhjrhqgXAS74huxC+Gbo3siq75LyauRBABb74PGeyAz1ov9w8Qj0WQB6sRuAKgA=="),
}
ALLOWED = {'grad_offset': 0.021016349309516874}  # how far each result may be off, in its largest entry
COMPARED = {  # entries that count, where not all do: a slope at a kink is a convention
    'grad_offset': unpacked('bool', (2, 18, 11, 13), "eNrtl0EKwCAMBDf//3TBDwhtiGOZvYo6iZsFq5ZSw8qH1XGc7aZx3gtwQBw8nHQgpq0sGI42xBwfNk5YbxiipUxhY6P7ypyAh+G8y6uc9BUFx9FS/b+wn+M4fJZpi+zRmB61IRPh"),
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
