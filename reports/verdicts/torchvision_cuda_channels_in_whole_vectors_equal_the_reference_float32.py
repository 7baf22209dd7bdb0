# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa
# fmt: off
"""torchvision-cuda: 'channels in whole vectors equal the reference' [float32] does not hold.

Seen: output: NaN where the definition has none, or none where it has: 8; grad_weight: NaN where the definition has none, or none where it has: 256.

The definition below is the whole of this project's reference. Exit code 0: the failure is there.
Problem: ConvProblem(batch=1, in_channels=32, out_channels=16, height=8, width=5, kernel=(5, 3), stride=(2, 3), padding=(3, 1), dilation=(2, 1), groups=2, deform_groups=4, bias=True, mask=False, dtype='float32', dtypes=(), layouts=(), offsets='nan', seed=515)
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
OPTIONS = {'stride': (2, 3), 'padding': (3, 1), 'dilation': (2, 1)}
OPERANDS = {
    'input': unpacked('float32', (1, 32, 8, 5), "eNoN1vcjlm8bx3GbMkKJrIyEkqyMuM7jlkLyJUUlq1CKSKm0E1lJNGwViSISqXi4zuM2ShJSRqSSREqSohT19C98fnh/XpYL8unQJw0qEJKHBo/vU+E/0ZAeJIBXX9rTKudBmpahhZ4ncsGu5SNQv3XY5PiEvi5oI2XHWeR4VdPbxrpU2sqHCdRMgQgHZ9qseQIj7jjg66Rp5vS0IjxvaYaQw/Mw/3gJdW20oAcOh7AR/CpkTpgX/t7jh8Z2M8FxVA3HUl2x3GgQNa6UkXIDE+4vjbfUWN2OybyhD9d2O+MAFDK3auWBXToE5bOOYZyJIOHwb6XX89KgrrkUB5sXYOKPX3RoMBHCE+JpxbMm2rFHD1d1z2Xr5GVIh9dJ4mXmiH12ezAyfS343buNNf+N4Ysb7mQ0IplmiRrCLvE1WLc2hm0Qfk2TVbJpu/t6kHm1HzoWpMN/h1Lp3bRwzLSuZsS9zqHlpRIMNPNhLu4XhaR8Xu7jISFuZHI+StRGwX91N3B+siYGBG3BreJBKGY5G9r1YrFBXwWbl0yRS4KiVTuCPHH/saVVRqKqnMYBS/xx5SkKJKnBta5wIruTxZH/LQeOJi9H8OJZsMpTw6meefhgYIh4uq3DRz+caEtnGWa6LMAucSm8uceC7HX5TkduxGLl0qe064YbfJgjyLUcUyAHTLTRTeYyk+czztpkLbE4M5FbtbCnlpVU2EErpg7RyWXK8ENzmDR6OMFsviPUMryKNB6QQeFNhrh89CW7Y28j8qU/Qh5zXvJe4T+c3OaHmR9i8eo2bdSX/wZC3Y44fecraSmrwcTMEEw2ScBqvwgM/dOLi57kY9pGB9BerEZzH4bDuoA+VDfSgATmIv64dIrukHlJ112/T6wuvAK0GybSkgswKzkKbxZeAP5rl9ExIoER/FJIPpk+Yur/SoEScsBvdQLITBjA0ak+oqgnBRLChxifqLUQFmmD9PQZlA9WgwbrHHS55QhlXlpc3zPeTFljDvSpLMHl0tX02M16iP6liLaHP5OgHwaUL/8Srkq3gvvf0sl67wFy+l0LkbibS4p7x8DpTQXu/P4IrPg+kyGnpYy8mR+2CtyDuI0XUCLpHUn6GU8+ubjCIAxAMX2EO03D4N65AposIgnsL2GI0zsKaio6INRuRLWySnD63jCc+J8Q8iiJww7dKCLSL4GTN3Ng07NB4n80D57paJIP24tgJCgT90rFMDZX/oPIAgL53eJA7jvhY4sLEDLlj1Lb1fD8dV32leESjE2PwnNVq4hpwDZiMraZbuUpIKXDLDoc1oRTendgrkEDZCv+pBsFXtBdqQdoQMxTwtsVT5/+9kGrBUXgmL8Gpqxt4ad9EgTWmuHplzGQpeFELwYv5zb/WQv73fih7KoV+TCsC92TMYx+4iTds/A2E/5pNXgljNPx4ghUfZcEF2IXc0WVTOnDNzysfbsORFX6gnISLwff/iHt7pLcrxrinPujUcRBLJOs1c+BtAgBpno6AvbqfCQbtfm5YenZTIVTL5qoRePXjXOZdSmP0HD0IJlRFQxGwinscOpXmrgY0Vi6kKwR4ec6PrgAzavnQM7WIRLaZ1jpqquPAvxH8c7+Kloxbox+O9NpwXxVTIAvJCLoOeurHQ+mrTzon3gR18ceQ5XU68RFTJuo6npgcy2XhAeWWIyXpsLIqAmsXq+Pz72vg/7hbPK+9ya0bSqGouEU3Dj7MFbd24M/XCOpjXAU6lxPxRW1mnCtUQrVzyRUJbwco3I+eZCtkkAEzm2CiEeiUJPZgLIDkcStshN3mMYRz2g7bAn0wPEedQzXUqWtk3Vwe5rgeOp584hbvWSMbafMZUGsEFSEb6/jYXq/PtG9/5nI1hQRzbfauLbOGAzUVVD0SiZ7ubyPynArYeb7S8T85Xm8dGKAHPdtRkf6FW/qFmLG9fX42vobE1arAh926VHvvkyozIhDl1PabPP70/i9rRa4atX0kNRxut9SgnNcsoPpF76G3jr1EBt8HPKM/5IhCW1wt20mrsoKEKowAsOHhsAhIhEtFiiQOdLeoOctzJ3oXVel4y0FsnUDJKGwAA0yzoNtkhDseD0HyqNjmbLgObTxpQ6sHOPnmmYFwrmuU+TNsDhn5UJBTvEY0MzCcvNQZzFyPsSDftGsYHdH8sHg60R8zhTC3w+7QFFSjo69XYRhhueASJnBe9xD12tpQUxLOw0xaqz6fncX2ZhTil3fZnCzDeOgIjQMI5+20iuJHaRyRJXpFBZD89a7RNN6IbdecBaYJB7GPEtzNK5tBME+ARo0Lk7ZRUl0jXUqCXu6nTRt6WC8bS2QUxkDXb6XcbFaNYz4ZoGaeTSekvlCf+bFA2zZjQLiD5BZJguxw0awpCSeqs/xgOGrx4jHz0xysLKIZg4HU8WBAIv3Iovwc6wq3rz7gBn5JIb3lJ/hAOcArjtTDLWtL+mMlDEoK+imZXODUMBcgJiYhRA7gSioWCsLZPQ05BwPgNVP/NGpNw5vp+WwKS0usNTOkKTlfLdYtJ6DoyuXUm2Ft2D7+wG1d/+I+XOiYEdDF04qbIVV+UXk1ldH3J40k+j79eOaq/GUv6YJwgU344iLCgyq3cU8zw66IMOXXFtnASPiVqSlLp4oWsoBz2cO8Bi8pj6tQ3RzWxV5caEJXitdpW2qLxiyTQDnK9lhVjAXX1dPsJ9915GtwaIo725Gf0voYE0Zv4VBUgaqn9Tn9uwy5f56kAhbvovR9coJ+D60DjB0G51htBJ7edZhfusevB20htzi9wKdcHGwg7dw0KAbL4qF46LOMqLiF86cLL4LrDIPxzdejn1/cBvArIPk1rWZpOBxPK3JfQshS20gxkmE6+iSAFEJfFRP5wotvsUDZpnVoDR+ENo2XMehynx4tbbd3KR8DdWV6aZF89yh70o8nloxSH10a0CUn0slxxdz3yyKIAIGfCjbm0rzslqovY8/lm6YImrqpWjq5ISH3szjGo3JcJ5kdRGxdxEw6GmPaWb1kPn8Ha4/OAgmvPaQu0yBW/S7nn6aCCKF3Rpg8zqGFO0IpozwOeblMVE26koiVBashuvzKtj3rtNk4eRJ4pIxjXRvHbXbuBU2zd9F+M8ac7zVTlWxjRPoIGQOIe9W4vXAl8C4jBOlSQfWzc0RXMyOkdN9U8R/NJ8WpS/CnuNLyYX0hwzVqmcL/VjiHEix1sORHUqsAA+dOvKkNg61bO2xZnoeLHaJJTv5glnljFz0GHhJHHNkqZFcCJzffJ3dqxYPEws+kYGHlAoN3oZi+0xGfskfcl9mIVr4V1JJnlG6QoUfwqMmWJ2jGnCYM0C/+anBsr4jTErqfPCq3GTRbMHL0e2zRquLK4iBazmJMRfn8hl9h6LvLdgxsweV8/Yxnt3NpK3qEAoEngWLfbMhIyiala/pJBKtUmCc+wq6vsxD3XWleCI+mt7ZkIcx/Vy462VP2n+VweSUBgytvEaZr114x90aeyylODeEGXw+Hk97PkZAG780p9azHxqEBWHZlWxUPDWf8mdkk4ISJ/rFdzZ9WKbFGb5oZSHawtCOAk8cVs+GgCZ+KI7spOkxh3FcWhlEhJ3RICoEa7PzyDSPJKfzgCLRu2mAq+W6IObXfrDPLP/nXQ6z7PYzVnRBLPkzrc4RizDjeE9nwf3eS6jnGoVKEICdq1zA82wwHJiuprMs5NFsfS+pej8bi+Mm6PYOBThso0GWmGVhp4wucmf5YPZ8HkivDYNYg4/oYMvH/a/1X4Ou2kPIf3uIu7w/UZoZDo9PJEDN2wbmN89dom0hQOTCVuDZKjmUjhRH7RJert7aRWTny79E+dcJNmvFcwjZXoI/ttvAn3M7qc0FP1r28Ca+D2eZPw6uGPl7M9THrET9e8KgsCcWNT440Ix/v9dmKAyP59qg0YEfZOTdKYjaQVFlvHW5N28kaoQ/Z/3NZ+OqUgn8ZNqO9k2qqLvGk3EKvcFu8Mhl9vvFsfta7+F2Myf4/ceKeq4sYR+MhqGcKx+apzeDqt55rLuQCL6pUlyra0dgztsciuUsBprEgqB8Nxx2uQJJFVx41vEChTQu0Vb3h3Rt+3by5FcyLSl/hklTdeSe7lGgiW8htOINeS7di9/2yiC/GC9XoocHxfx5uf2XF4OvaCz+3HMRLfaHwZuzGtA2FY282pqQ0yzLirXvxRnOFGbY+mOAcwNseSEOP5Ys5Uib7sZHxaXYkzAKp4TOos7QWZIiVEgfcGqrLDvKISSwjzoYHoBnGvwoaZ2IJQr5aGb3kGw52Ub9V6fDsZYk8s7Ngbjtu0FSJzfBx7QiOOlqCOUXk2ivwn28ItyHx4uryN1j5oyUXiZ61cegz7sqOn+GFm6K1gSjxhpWvbgbW0O3w2ovATyyR4JcvORIXV0TQXrpKaK3Q427s/+fIWdFwszF/WBposnpV82Dsl3SnNGhJdiaq8i5ZLCbvk3n4yT8CIb0vQhTc8xRi4+P6kAMy2uUQrfpPaDWvlthKOIr3EzMxfPFCnhvVwPEKsvjs015TGngBNycTINdJi3EWH8Z52NrFGzI/fe7B9bTI2FJqJj8GN2d02nKIQnOw3/b7v6lBYf8B+mSJ5Ek5MVf2hQ3kz3KGUef2Y/I3SM1LN1yFhW8e0hwRT6p/qiNR/T2w6kjg/RkpTMub/wGDngIg6/EEcsSHyrbIMDMm8yDrZUWNKp+HkxjLOx9UEs3DG6GW/4bIelJMXA/foaFn8LhFEcUUj49wBE3C66H3zI46iTGETFqwHnG0uTj2G94O6sf71RI4zJfd3TU96tKyP4fplk+paWVakypuwR1uI30UWEcKC8XZtyUxIlzmjTOk1cDy+tFUOrCj37Rz2hvmxC0LEgko4fj6JOIEtyWy+KHiFyc/i4FbOcqeGjQCWXVu/BMgjA9mxWA/IcsAHqa2DuTfJxCzR1g7zELJJwzscR8LfqomcC+T1/YH9HpoDeeTExavWDqsS35OC6CnOpILLtfjKaXBeh59ZO4ds5yLD5N8PzpBFi4vBNGuqLxYPkk1Px8BWfH1cl+UWc0enacVY5pY5xKDxO95plcDb+DODfwLkQHhEGDeAi9cTCCJJx+gAU5fXRVwGrol/WEM+sMWd+jJ5ljpkro97eW8q6tIz8u/CRzfISYRE0OCR5IhPz5W2DlgLVFnN41/G6yD16JuVP/Z6rU5o4UfBsdpjqeYeQXJ4xx/pCGk3tWo71dEaZKJrIeyXrgHq4IKwyvkOJ8YdrJ6ELPXDUwLJzAm9fmEdGRHTB/dzQ8MZzNEVX6CHmygtgiIkU895qwI2kV5PFfDns1t5lIzUvHuqf3UH2BN4nJVkHbgHqaLWdFd0zJgOy387Tt+yZM/iQIxy8o4sqbpYS+esIMy5jjjNOjYKxdSPalbaRb/znDYLYd4d2MeOb4Umy908HUdErh5vl3IWS1LQl1yQdtp2NMWx+BzUV8EL1EhFMvPISxCZ6wptyu6n9vGqhCTTRcTOFQy6XbIUPnGhzsLMC+ViTdOTLYL6RNLZqmyBeHYFCuawS9GA+4PJxAp4V3wqY7X9kFKxKqDBcNVR3piEOjrHqc7uXHsxXzMU61DU/M4oMTL+7R7r3HoHZhDyv35iB287P0i3EKPeCHiKVG+DWIF8y2DlF50yjCxsTiYRrB9FTKQdMQhVVHX2G6VCCGjp2DgYJsUnNCEwsMe+nrre6oP98clv5zorKIBqZ2JZCmrhLYlSOJcxdnU5V9J3E7taUNNqp4mi0j9y7Ek+Wu7SDWNA4VbpH/OqgFOTWhcEDTgrNThA8bbwjiFrlzFgu9X6Jcgjrq9AihbsQM+kd4MWdYNQdmfj1HBl/9hPo7lGLhY9x6by+V5Z0JoWmmnDAVK/yQ+h2U3p+oiqrhQxtGHzM/tJMcqwp6dYKBqw+i2W1rFRi/d5vp+aztOCQkxJ3YFQ/zZZMx2OeMxRjnC7pVNxNfVWuirqiLAqI5lJfPG6Kjz2D3kzK0O2UE9I8UeVauRf/GhKOIZBcVtY2jhdKPyS3tGyDkVYZLNNrNa4KssD/5Ovm8hYcctP8Nl0tzyWxexIHsDGx2q8S6DYPIPBaFgPfKxOHFQZjcCFjhJcZ9tuwz8vEngqqdJI05IsjIn+yEunIekFeJhnypkxDnyMP5EzETi5s+MlExyxmNW7NgKmU2xlTfx8jh3djE34bWayKhz1UV/6r4wsRpbZz7Thkzp7MhQykEL80U5Fz9XwganO2nLikaULY/HXjeZ4P0hCnGfGimCq5cttV7MSgFG7HCW2zonyXnUFb4B2Xln9LLP7Nw0e4NqDpnJ2m7cQUV3EyJWqA1XWecRAePplMO709SfdWAbFDaDVFT73CT6jQY5tmg75wsCMoWwZr6M/h/xaHLzg=="),
    'offset': unpacked('float32', (1, 120, 3, 2), "eNolVnl4jlcW/1lqF0FCapeqompaMpVovnuuFjUUKaqpbWIdVdNGplpKpkcpIXaltk7T2te0mDT0++65lnYsQaqqEqGhpo8lDLVUaWKO5I/ved7vvu9733t+2zlYW5MQNoDwzoeOZ/8oSFsXAm8yyEkioG0QhfGOaSlhmxF8UUcA/z7u9jVcv5tF/ghCShvh5kcIh5cKZn5DvGwLYa8h3j5VsHSxQeow4Qb5gmYS4Px0QsJMwwt2E8Z/SdjUk3zIej+hgkXuy54f2Un4ZTThX4mE2GkOnZsIZk8XPPu8oNVbDteTBH8kCmYUG2QfMXh6YYArzCQ8O18w4BGPpVP1nJ8YtPzRYFQMYewBh4aVLZI/Ixy44PDis4SO7QmPBgkRJw1y9ZmzEwTdi41N6exR4x3HxfsF2ZNNaZ37UonXXCX8MVDx+NIhfYTg+CUHvyuEyh8JuuYJTj4wSKsoPPiKcJjWPC9k/NDnPHYbgilyeClK12LIZjb0uHXfYNVXzp7rYHnhPkGle4TmP+n3ThFO/scg/7JBqzziBvME/25F8FkhjFkcQtuegimRBnEFxEs+Fx64WFAwySB5eYjXzafSs3ZdLzh/UFBS4lD+FcKGVMfjZwoyPgzwWk+YvtGgsXI4LZrw9k2DrBkGLywS5AYFc8YRjjYU7rpW+MUsxZ6Fj9wQnrFO3++nmjhEyCtHuNPOc51HLW4NNZh9RPiAYhW5Sfm4T2inddoUwqmTIb/oNQ9b3vH9E4Sv3hPe+WeP7ARBx/cEiXuN/bypRVaQbJ0wz//9RbC1tUXYSYekBoLb9YVX17IY8SrBLo9HlF5ff82hi2LlF8Xj1FGH+GzCxWUCJsftcwQ9+wkXriJUyyzDou85o3t4JIwxaDpSzxStPDhBHdVqlxmC8kcdP3lf8X9AyI0XzPpYcOuq4bZpxFlLBL91EizRWqL1lzDRoEqs5yZfE59pbvn7QuKiLEFsQQAHXydMUK5e/1XQtivx3RXEpxXzv/cWXOzqcOBTxVW5aKd+GLVTcLAR8T2oHrcHkHElCL8/hJTVDtnpgjdVR5XCiKeuIVzfb1CrMnGFlYR9quk1ywwyJwkKC+LRWT26SvU8Uf1xfUUInb5x/NtdAu9xeOtxwdFBhGsViUs2k32zqsXpCYS4FOJtRwkL8gK4vNXw3F1k/xrlfVwVCztBeOwG9dBK4ZHXBd9uc5x5gxD/tMVLgx2onMX7VT36V3OI2uKQWz2AQ0K4t18xvSGY+NAbtbVGXdvSxqEwWT3aSzBd19p86jBIzz9cz95gMmHmM8rPh0H0bEFYt8VwaDqheiqhZlPClLoOn3TR+x+UZcw4/T+jmvjblTxCYZbLqS6HKzfmjMOArYR66oEpfR02thZ80EXwWYA4NIsw+rxDQPGfO0RrCTl0V+0kRDn+m2ojX7Vz/h+KVSfHR88Lmo5STDODqHNV61L/bYwgnpVPON1HeHNrj2kvWh7RwePmP4WDecJJ+v1XigTBuQa7agjPUx36oYbX/aweVg383piwTHEat1Yz8xwh+5pi9ibh8iKH6FkGGZkBrG5GaNxc0Ehz7dtY9WJz4m6ahZ2+MH50jMXSKaUa5reOCIamGX5Ss6F/lLfjlY/krgEMeUq/2SSIO72Vz/851GjoULuqYEhlxecY8QHlrtUgxytOaO7kGIycqJ6+o3u8SzhWXv2nGUS/EQaoZ29uIhS3E/Rvb/jseuE1d8inRlv+QX17dz0hPFrQeTWhZIrg5UjlqJzlPYcFFWMdioeLH13NYlUt9cjNUClnLdc5fryxx+YfiKc1UO3lCm5U11woMhiTYHj+t9oH7jiOU57yIoWzthEWniEOHBcevZwwaqxmzUjDu2arZiMsescK+iUIt98o3GKPIOpBCCemazY/9Rx3/4Zs40iLRnGOW+1XzDrp+vbnMHA48aRIj4p1DcLTAqiY4LjeQUL6u4J16uePCoSrX1CNFjhsXi64tEXgtb4G6tucGcKD1Es1m1hsfkYQv8jxxmnaR05pr6gUwI3hgrEHja1R3ZfWO2AvcUwa2SJrMXiw8jyWsLURoZdidihDude6E4uM36H3+72nPUi9kZDusE09HswQpCxUD3fw/EC1PGa7eqUuoUY/g6Rrgi4xDlyJ0P2EQTNdH/w2IVBBe/BEQeiUoPiSZvzhAE/8TmyVcIt66v9mylfiX8r8s22D5qn25arRwt/NEzv5CY/7c1X7RUEk5xk+rdl9rAXx1wsELY5r71Et35ay/Pw1mbB/uEO3NwTR+Yqnar6NZndhR8IQzZil84yN0RxLHO+w80+aXeHK8dfaj8MDvHuW8Fb1yaLaxDtUKxt6EFrucHh0klh09UjeaDjnY8LQPprv3YN2j2Z/8Rzhn88KprYVu6+PxwXVV9rrgrCLBj6K8LT+Tyxw3Lm+R0Sq863qWTSrHcKVxy3GrjU8XueH2uqlHO1pl/oKb08jvDBe/VUiSP9CcEX5LnmBUFgSwPxjhIyfQgi/Y3xSlMVHcYJaytmZCoRyrL5c6bAg29n+FS3Wb1bN3DYojtB3OwfQ/w3l4jHy4+MtMlapB7IF17aq7pBdiluMauU1zdoOmTqvnAvB1wsgSjm7sEPnJM2ih8+E71VNaU97EKk9Rvui70Hce47m2ROExYrv7zqT1H9S+Poa4mE6U418XvdvHUKs5svstQYFh4yPr+mRlBtA7jCdc84TZqtWl10P+ZWPWfTQGWCxZn2D42XfG0yCcceJXw2VcZt2KwAfMHxZ57RF84k7qgezphqkqB7ax6n+Ion7KH5LqgjylMsPtDf0Vh1lhis+ukf+Cu2tHxNneNWEzgQZX6nW2+qckBbP82Zp5hxS7lqop6495M6hl2biHvVG+K4AN6lp8Vgl7ddaV8t0A1ebfA5ZbFFun1HMUnUui9H8a6L5WuOwyyhij/RGgmEDBb1Uq5XnCC5/55Cs89dY5aX9OccdLqreU0MI6fwRoX28d7bB9G5lGRr2PSHpkmDvWT13rHCPoHClap7HnSe+oFwHVbcLfgnx0gzNu9shdP9M991rOKKNx7zyHrlXHZ9aoVn1SBl293YLNk0uvbYvN7YoqSv/B/IndzQ="),
    'weight': unpacked('float32', (16, 16, 5, 3), "eNoNl2dAjm0YhksT7ZJIE4VQkWg89/W2lJX9UUokshISEdqLtoZKi5Z2KVI99/VKQ0lTaCcZKSsiRJ/f9497n8dxLpv5Gow7xbi9e5Lp6b1/iJ96FNuhc5VOOzWGMrvrKBm4QO3C/2LMik5819zCbgqPRLeT9bgpcgv8XDyNbLNLgor1VaR0hic6VaniKp5Bep6ZotwXHiDgsJdYSoRR58uRbMR8LSy2FMKp4ockRVAMJiQlQHm0HVVEOJho2Uyf87A450wb5hgPVi6U8GW+FItBb54kruyswOVhtljeGYmXeD0pr9AqWFn8kkSfWsSOXlmHvgm3SUXFHrhp8pJWxBcgp/oGtG+MJmObbiL7zIU+eZtFdTlOjFSgDzjH7CRyT/ZCdMk7sqryEPxVKYfY0AVczZc5OBTswc4M8MTNr/k5n3YUoI9RCFTNfkX1C7SgSFodWYFEmKngjZlC3ng+xR47b4hDds5zuubhGypjEAWcHn242f8C7+6UZ1ffLKaJszIM+42cUXDJDGzm6nKNr6qyz2z1OWO8DvCrnQtjZRWkQWUfThwWwcbMNFrhmoY/1a9QxfB88HvsjL/5i2jEs1DkbqimRTJrkG+jDCdKLALCLsvSaV4iUL5cCsSFpGGgbpSKppuStGW8YJcjiPoqj8GNVkHbiZW4nJaD0BsB8G74AE4/d0CIcQxNdNKksn72aP7hGxy+5Uz8okJRVHAZ9MgLQnnsJ2ZGozcsaYqHvxoc/K+wGxReOuL6z+bgVLwfD0k+hbQVETj9vh9kLX9Hk185gTr7iR7S+Q/uOVwnE9nesOHCGKP8QRT0y4KpFRpgjLwuR63JDl/ke8Lg5hbISV6H+gt6ybQqNRiSM0HH1zqcpsx3pLZiFDunBcGOkqvk1nFLdO42x+c5Cyr1zj9E15nu8F7xITN1xYQEDXFx3fBlkrCNRYUFlfBbWh9vda7A5DPJ0CFXSUWVFpH2vFl4jzPGKkZn4ZvljbBz0wD1m5BEe0seJnhpJOxNeEJW1svCMuF+cBlWwR4xaU5m3nHqIpZPux4/g8DuuUT9/hHOWJkP2Ft8As8vcWzxlkwIaW8l00bCYce4G6YtDwMVZimOLl5FBwefk/t6e/CUSynYjC2DdSm36dSDsyRnUxfVmC4JzpdGmXa0x6hVc7nOTZ/YS/tmgV6sJhHwCKMXtwTAgxF/2K9+meSPLiaH+0dYTS9PbHb4BiJF1VQVJNBS1xQM4wW432PvQ5/od7rZqQmvXkiBRWZcVjL0TaUsjxjnDmvPbi8U5x57n40JaoL/xgLBpKoDD2RKcRZqA5yp/snsbGBggeI8zny9djh9VZHZL+qMdenqZAUpZfffyKKeD7fgxY5EMs2eF56o3mIcvA9BjcpSrnLWPWzcqUpe9+zBr7ftiOSUMBRV7YeCM7m4z9yL8udVoFYpgUdfHTCNz5eOngmGmbPbiMDidLQx5+Vo/j6BrbIXmUNi92jgttUQub0NZr/NZXc436APm7NQ4kclGT/gxRz7pQXrMACtk38j70AcdmAc1kwthAPt99FsqJvKGXmTpbn99JpvLzH7ewUTdnMgVD4JdQiXhmxvQc3BmdwXWmW4MZsAX1cpXuoKIB2L+Eh42UMIPnMT1R2kYMFMAvYam8ik5RCp6L4Mqy9Jk82LL0BD8Hzcta8Aitd+hcouZZZpOwFyXbwg0aGMZ7p4uTerCSPFq4qh63bD3fnR5OSvYLrt6gnU3ulLm8c/kCAxfXi9sRl8XJ5R+VwT+MmWwwZjX2atjQME/yqiqiXLUXdNGz3z8DnuPWsAu5ZPobi7GJyX8yHcJUhXDc6k+5K+oeiyMappbkU+/A7BryLbyPWb1mhqNwvuhdyGzRE7QSPaA78vy8b4rMX41ikWvKfX4VIzXs6F5c/g+aJYvPTzNc39bzeGOo/QonpXTAo7TK1HC2B73HqqNrqN/vgegCLX6/HAbj4wPPzCMGpeEii/oKhZ2Qwv1LaRNnjH7m0LxvCxYvC9/on9sT2PPeHmAIYZGzHqgD78F5Ft2P66mD77fh2ttaoY+MA1LF88SjMP+8OSokUw/TUL6qafsSxbA/2atZiq6BK847EVB3SUuM8oH9dV0hh3asyB+arfqbhrL0lZc4Fsu8eDJ/YexHKRWZzjGSx1yLxBPT6KEbUlf5kzmkDPe8jTqHYHvCLgSX0eWBPth1KMrOx/8Nn/N+YfkebmeDlggTMf3JxvA8+r5UCmrZOu+Lwa56u4VSiF11Oevwk096A1Jm68SJ3leBj1k3lQtjgQhDXXoPKZ7UTzbAt55HWTblxuitcurwUZwe+sVQUfODV4wzI+EU7UvDmwqzOL8N32Rh1HXo5gzhXY9SgcDu6Uhm+KdsThqjg+18+k/AcNYMytlSkx9ideUnlMat8ajpVaLAz/mCClV5XohaVRJEVXkLu8YhvmP/oDxjYN9MeYNFTwZIC42174brWSTe2VpvY1vcyzvTJEY7CSONWfZI6tPo9PdArBlXceHEktxwuiF+FXigIO2Qahv60Y8G8qh92BW4GKNxq6FITgw75vuOr0dbDgB/RodsSVaS5Edswb+Z66EPdDy+i4/UNC0zfhKx5ruKhSyz7QDcBgPI38NxbjTLtEbN1gSQtb5pLAsJl4A9bjSNYj+Nwmi4zLaVr6qL7yk8AhOH2cjxWxuAark0XQ/mMPnI94R78y87hLwgk1rzLGeUnmeCIFoLozlVWXfUl/mkvBo/HXcEdogijWzOYErjiKWxvEOfUax+iCrSGIDmvI/P3D5NW0O5DcroiPBUSwXegb3qtRg2S7M8Bk/ISBy8V0j7AWpBaNM4sOduHoySGS1RiEgmGthrr31+LnXiViG+qF4kZ/GKPfi/C1bANsUojAOsW5ePbPDpwaH2QvFOrQx+/bqH6oJOy51UZ0EpOoIWxnyTclKmxaRxIM8/GgswH3XWkaHSyZiTHd6TB+6R1k3DqKao/4uLL7d8HBBfOYfpPZ3KZ4LrXa0wpDm9aSiWXJtP1JCWTdPkJ79qjD8fY8zN95rDLegpcjlKELiQ590FYeCHGPnlCzW3qo1D0XV9OLhgchCEYk6kHlCQPTzklyqn8s4i6+uxec+vZhcYsD8TVS52wcaQfHkTcQvOYB832PAJcRU0UzSwMw2BNGdlU9h//m8aCLSQpW7vaEyPYtbCEaUBWbXrw86U2HNugQH9ko4FviT6/wruDwSL1Hp1keEPSIsgJfjxJ1ITWM/JeNl3sSUPPNPTggexRfBO8Ak7FPeGvU03CtnROo+SyE9IVB+BUfUYNtDnDGOAn9Y22g+r9pdJ6kCfj2zyQp1/+SF1umo0JaNjaarYEdRh/hvbAoTOUGktfPP6B5x+zydUXrYZblNciUfUkkd76gldkW+D4wi2ocqiXIPwl9WwTw8x450rVJHtpFBMnfrqe0PP8OeVDjCpKMLd4yDWJTZSPwy5cREH3gTUUhDuaNaRA7m+909+9f9FvnFkw9sxBru/mh7pIm+sUKk6BkYxBOtMMVe81hzqF8jD+ajqeCF8F4gTAejzEB1JgNJ9yFmUcgTywVkqH3pBdRevUfzHhZBvcrZfHPjkPkaJAL2qdpQuGFAOhpWA76rwU5bzoKsSbkLSxNPUZsak5CWu84ha0vQGp7C+X9ZIp5rTPBOPc6+0mpD14vfMqU5S+jpxXXkoVQz156UoIJbpn02hI5qP3Vyja0HGWGfbuBJ1iU7CnZiPOEw8Fr7BQVLF5CEnp20U2hfmBGrmHfLl3OU+sD2PvoF7RG2GB4oT/bcL8bthkn0DyTJPx2NAF8vifh+O9k+m2DX6Wp7wZMS9mKGyMqYckRX7hLpTC9PxtP9hbDurXPsODbXiZmRh09v1KCqxkdi9vEbyNjrcp9rHkTkm6y7Kn5d8BvRTDrcOQ1Vc+VhJGdkZAjNEgayFHY7FMEOfvi4eYbO+pudRcnVBQNp7Zng+3gKpil943JXngWDcbWUN/1XUT+UxEZ3B9POzNrkRFVBMPBG+haEM4MrYqFgo8fGYiIwgMfWMh4UQzHL90xVBV9yRYvjoDvobdhcU0I/dUbD7EzLqIj5wJYNdzAxoYaWBIyjRsu3oIDR0uZ111jVJZnH/046Q/ZhVWs+EAw3WoiSp5b9RHTqk4KgR/oHf7pRMczCF4dyqLn+Mcx+ZkMfCvrAtPer2xQjzR3a8t2+n4aBwXsz3Ns0ltx8+VRWPUnDjYIGNK6WwugcHgzTG7fh/eEprM9/usx4IYgt9AyC7sHdahN1GIAHxY2T79F7rQ9I/s1zZjj19+wS5yGGYtdnej06gJmdVyHWz225LtdKuxPG6GXG65i9jc5yHJ9yx5cv5MMcZXxVvpn4K3hQJToH1K9dTqqFw+iWY8gN/3yfbiuP0ZEzCVAKkALxWUtcJphCmlUukpOb7OA6wW+GHc1hchuEAel4DrSoOiB/V0LcG9EKRPr2Qp5OfX41yYSmBltuGlXIpytuAYlkrfBpHkTKKd30KUOg6iYng/NBrVQJJlO/H4gSX62Fmw9exmH0xMVTvMUIM9MBSVXfgahaD/YcW0jGyVtgXkqSZR4ycHXPx9ovm8t6fkdgIs0JSDqND/5eEYax4WWQOExU7B5NIg3dPNw7c098KrJBlcMyqLB2mLYtTKFecS/DaMrduLYkQnGmwlh5/DHgVg1P1cnMQayk1eD3P5EUjTnF3gGu6PssmAmdH0mHGg8ycpIfsOB93Fw22gO58opRVogIoO9W97g6qH5sHmNEMz6oMHpmXYdp9+6BXK37PDabAkQ+cfs3qPtZNbIPngpeBuT/tyh+cLikJZbgc8zv6Oephj4vZeEIFVR3OxTQSxQnLsvZws3jzeFTp+WDol3GNymzYeGV9fiotXuIFinQNMUPxvadkhz1FfFkXuyreDnfxaeFN/Fdn11+pEzDTgH/XG75H2kmwIgd8CSSkYK05KLU/TMgid4ZFUjWCWGw3j5ZrQd6CAbT/pBScQ4tOx5DLkaCJJBv0it8TXIkV0BNikP4b1lPDu525jOSTfG1T7fYVPaaqiuCSNBtv1k16FUbLZPBhOjbpxcPB03i/xbb/FG+v6unZ6aRCo2HS8hi9ZcwOJfIWD+OoY533oKczIf4oL9IvTrmCGxepkD09vM4EPraZpZF4VPX4uzS5Zew85mPVhVtAJE319B8cdLaOHH3TB9xQcQz14EGhdE4ZhjMWhpPGe+f+lnLXpN2XXpJfBGuh6F9MNB7ZMqmmu9JbdOaYFdtBQorv9A4vnC0Utjin1y8j1RMagGwbhfVLPtQ2XB8QK0W30X7+ZHA/qkQGJSLKO3SgO3L86md/rq6ObZJhBhJEWC1tXg9IY8GmI/yIBbKhza4kLkni6F5+EWWD9HnJm35Bb9klRG/h0sDKf7wHnhI9ii+ItOb04kf5bcrwgy6SNZs3aAW/O/7nF3K80xOwbTOmTh8RPeys1uv4npEjlM+MMP2ZrtdJ+xKYlXiqb7zuXSoYC1IOB4En2lmrD+YBm8rg9G1WheVNWJxWopATimNczmbz5EjWtvkji9XHb20mk4U9cPHvhPMrKnjeDj+BwoLeiAHXQB1uhcY4XOaqDeoT6ml+Thujkq3JPnVsIK42I8H5FLDofeIMtOx8JFP2to6ZdC3avxoF/cBHwedeR3fwk18XRB7V8SKGKWVDnaOIFrTmwiPI+a4KpNOzGIb4ERdUmu+lcrslnJAQqEj4Kgx1eKK7nY+vgV5f/mi+FH6uB+gyYs+S4ArifUaHr3PNDTUMFaHn8wLQ/ApRpi6HAgnnbnqXA2zlDFXSk1xLL8JGzfEot3Ph/GQe8t1EH4FtZMqFOusRcK8ujAvfkjrLXuXFpXPw19DPbQqjfCnMNJR3DwbQPEy0zn3uQPIxcFtFBPTRldDxaQe+dfQT7nIZW/w8fhem5mbjSrggU8rvDteEx8npxB5w+R9Ph3QdqUrA57w8RRRv84dJEgGL4HYNDzni6oDsJVt1sw68c+mj5PAfWl82hd+mpoyB+DuXsXQ5/JLfrH9RGVO5tE56ySgWPCD7DyfBQ2OW/D8g9/2AUDngZN4XywWUyY0RuWxvOoCk3NZSAvk4Ud4kHg73SICMqIcKa7F8J9+3Mw15TBd4t/wfFwXtDc9Ybc+1NM1zY0QmZns75dSxrmj7nCj4/2uFpcCODAU7zvt5YzP3iI8ZgYByFPRRT4l/el7irwkOoThx9SlQodc+F9qSZ83pSOHdV/wZl/P+ydr0iG7fzxmFssOaBiSGpOZSPVnkkeenFxf2kvuQ4CHI+GJ/h5RgGmlh3Hl8n95PU0baJixcN5/18K3GqXgx0XPkAKp59oLXSltnvVuKc+zQAiI4xfU0KgbfQkeZAUhtYRinjDcwsy6Wvh3FNrDPo8n2tkex181r5lxtVW45Hss0Qs+gk8S9TBpacYCLJPxM9/t0H6QDt42v8CicDnUF8uRYU6LcEoUoCwZ4QICPPj0tAmtmnsC/vfnTrS37cDZjk9BcHuQ2ReghFJWKwGAzFHmNbU+3BmozR9m1OJ75zy4NTEaTxx6zsUjMXQ2zvVwHJZE7334yIoCnhBl2goXGoYwsVhM0H1lRHwXb8HX/tz6Fb3bcgeuMPyrjyItRfVcWV9Oo2u84TU3h4yvLGD+jdVQHDKC2JjMZsbsC+BerznxRB/L+hrf0bzctPQunwPPBcfp+7rTZERbkeeiF5q6FDBXBuNwip3M1osylIv5fegVnoU7ZI9oWtvBXHKnE4t+nTZi8t4adFPK1hT7oV35F2YS9WZkLw4mCkgSbhikx+wgwzN+JFMtj75WpFcPgDzu2xxg7IXXHbMo/qdofhueQkYLR3AmsuV9JEQPxZ3TePu13tLBMPm4KGzTfCnLAyljVxxkPsYnKxkMMi8h1y4moDH384FR+Nf1OtbMiZ2peKiPllY+dyUm8GtInuWHaPpMk3sLODnLLvJkgeCElS1L4OxTcmhF4xLietiJxC7/R6aNsty/b+Lov47F2qzZQbXKk+Gs/MRL0e9J5fozeGD4z7+kF8SC9OTO4gFfwvM8XLDyjdJ4GS6B3sFq2mL3130y79LYxTm0UXqgUy4iC97fL4vveeaCu8+36Oa0Y1kHfca7qhtZo997GV95Q4Sx2VpePv2BVIRE073H1gCdaFa9O1bN9j1fQcZ2FvOPM2KJ81/rfFE3E1a/2wPs9lmCOjVufCuXQBjDx0EmdAUKhsDpHF0FfNm1QHYfTwDL7f6wJW0hZxVon/pvpn3cKmkF4TULYEcxwomWacG3eZbMjM3b4M7UsqcHXNTcKHqA8wZioS4rl9UtPsQPk2JgCn2Fa03ukoin64A5RUSWBa9FCwGbsOcamvDd/YryN438sTXlAdLvdVgcbkqSR27Zmi0aqpSOseTpvNX4jT3x/jXaD/G9QOdu0EXcs218cTGtfBsQzNYH7WBSMt4EuV8DoXW1OBErRzKSzhghbgC8KR6k+KSKPbbI2VUXsuPfdET9LSrBWn+NEj6+dzwgKskbF3JiyeCHmNDQg9cWLgDxB9ysEHDANZwA+D+TXP0Ot30z1uSIGjXTLA6cRCn7VSCBT3t8NWtDnTyd4P3vw4q4fGcDPzyJed+pOKB+bdBZ1MzlNxzYb7r+LJy2uewdgUPLlvAYMaRWdyWfZmM0vlg5AkzA5ejfqSoLAh652TRthY/DE8YhbMdArje6d9cfb9AZCgCvRyj0eD3TxC+kEky6/shyz4C/2xSgMM7PbHB/CzE2znimwVBeM5RCf84xcKZ/iCyj/sD1D8+hSsvo+gq+2dg99AQjy6bzn2+1hg64/Vg6/A+Oj/Jmjj47sKMEFM8rp1OTfcEkN4roTDFeKD3x0IYMl1SufrDb6Jy37XSwmsjQoQ8O+OJFKoYb4EV/VdhfVUP7T9Vjxs+7GbOhn0mF9X0K00/1BInE2/y8kMB3CipIaULT4Cl5AeyxcsIGjxa6UVOHhrv+U5TTiVSnyWeTHX0Ergt8RlbHmfh8eEt4FI1k3iETuPE/lZH+840ahuQDru2DZNquzhye9d6bLTj49qt5+d4vO8mMj4SuE3uJhyfqKAK4wtQJ8SNHJdKAMn6Uzize4zp03qEujOncUPWOFKXQw9AmdqRov/OMKpfdKDwSQSYqQrB3ecjlD92N4jpbIYOT2fYYOtHPeWu4+7hl+ii7k/6JSvxaLwGnXbyJAZ/UcS9hxWxpFMBdZ+swoogTZDTvEPENfqh/d1c+DVTCFpsPtMXX+rBSlkHGocUceSnPSi0K0Jww3Hyp8Yf+ERvsQ+fLkRYyzIKfcp0D2uGXwtd8fGMVlCSiESNA+/purAecC9cRk1FEAv1r4HVU1N2jcg4mXwrSgZaTfBv3hs0dt+Jqo78KFtjjXlp8mTVzUOw32gx2ogvRok7DeBvX4NrI37D3wVfSMfdH8T8wGk4FzhCqm/H0m1LQtE5RwlXNwXCQu8X8LR0Pj52PAvjp1Pokh8VeH7lXJhK7YCdW0OxNiYU5nYeJG4xv+kdiUzY5feVSEm5Qsfj3eDSIYVNehmkQzqROJ80Rp9QV5Dy4ed054iQlr6Xht82/aLvytLQI4oD32WOw1iwB6gnNmPj5QScdUERl++lINLyg17Iz8CoIGE4FH4D4xLOQ7/JDsPz2VG4QF2NjNIHONn9nj2/UZfY8IyxZiteGXY4h8LTx5vgqd9L/Pvvv+nXf4Zrqr6wOdUDhALjoKIgk7RalsDWBbKofhTZu9cGUf7eKJFPPUSIThk+cFyMkz8t4OebMZSw5oMHBtM4VVsf0pL970H31VrmYogflFc24XO9L8gnpUqKgybIwqUM/BnogJF175jRjH14zrmCNmbWVSSelsf+2p8Gy0c6SdolX9xhqwnnlYKJm5oavog1w2X6T1mlTC1yZuEh2s9fBHOvXyGhS+6Bv5gY9t+Jhgtpe5jbx0qhcSEfG/logllU009Mf0bjnFcC3DlX7jKJ+oagUrEetY/64uxLj3BJdhrN/hVBqoaLsP1ROHWrewvB3F+G4VcXwPyH0yGH9cOp62nMTrHLGHJ+G3h6x2FfTYbhmxXd1MOomDoGptCa0QRimbABuz4OAxXIh5dztZguWI9xR07B0M8tZEtDJ1V1UkZ1uZdk+IEAfPqRSf/K2AJO1IF2vCpkjhfTV3tG8YGlHFzJXQIrS1Yj6ymC+u3JsMHYB2xXlwGvvTRW/81HUNtRse3+Lrjf8pM5iTtZuUUqGDTiT1N+zyFzwrLZuyPGsO7BeqL19BRY/axFTV5jdPFXxcK/F6h9/gY83idMN+jNAfwRy0r887TV5hdhQjAAL6ny4qyPauAbl824zRNmM281UR5dN5xQeUbMwy/DIassKhQ2AbL5FmhR0wgNCraEL9WINngXQptMB70RvwHDdYrAMK2j8sjEFtBROggZlxOA/5E3VnSZMwdfRsEaURGgIRyYvkUG+wK9gWe9FmdFrg4b43mL/l6+l2Ql8GPY7BhSocQDDys24+VJX+TKzIDwB/x0+Kkjc8ZGEhOJMKdKM4ydumuA4m7BsOebK2gFOlOLuwch7LA4fK80h3cbk3Ffni1aHo5mJmsiSP6p42Tu4XSsKsgi95I8mbfKI7gyK59ccL0N+56UUP7Po+SwTWtlmbkMdfW4hluXq0LCxzAsWbURkxfocTvuW3C/CgeR8eN1qGXaQs6anSFaM6S56x+1YJvmusqtO6VAXJgHbXye4t/LnnDE4Cz8rLsHHIuZqCPES80iEsG6vRUvhrnjwPBp5lLVEzgcI05VTGuovuYYedVWChUWoVTbMhALBk6h09MHlaAcT/eotLLJfRU4VzoYUp2eUe2GIBL9eQv2pirg954XVPKFFahjIZqvXww+qoFgFRbCRA5sxEuwBAcO1NL7KnXMZ5bDtFTM5ep1PQCzl1Gs1+9ktPyRCFYid6irsil+dpFl8g62wKW1ynDqcTY+3iXDST0viOdMUlEz6Q7sWrICls0wAWFXigavknBsVgP60FTUHbtGLXLjiMq8u+BYmkk+R7jjnyP2cN32HGvt40/9m/9lhXs1+029ilw7tYzNHQpluS9k0ee0MYz7CuCMig9EqlCA23SonGoJXQEre8JOvlbFjnF7xuXqc9rfV0xThTdxD2/wRJ8TQ8TEYQT7o6XBVUtT3zg7D6zN46E8VYi2kzasOZeDDSUnDTPicpmPEbW0xlSUHD3iwrzZoIlVy8LhiLkzbtj/HAr+UHq3TB1K3yfDqe4pckkjnJw+k0u67m7DG9ZWmKuznrR7fyGnDA+S8v868Gp2BN2yuhbfpUZjUHYtey6pg12Dc7hsrwjaVoeRE8PzOTYmGbQHkuFnUwzdrZlNd7vn0R9f9jADb09B1f41UCi2kDP/OQe+Ba8gywejoXEjP1dsji6O0Ao2b7gHrk3KYtnpeLJuZi2sLxmnNz/tpFtvLoU9ZvtpbP082AqGcLaTF9z3qECjoTssGFBgNpgXkHz1QzD5aiU4dV5hfU/cpIt3TMNZK9Mov2QSCjf4Y5ilDZ6x1cX//hMFp3/9aWd4NF3VMwst5hjQoWm8UJP/h92xdYhZUm2Gs5K/YWT9IDUXzQH+gGJ62W+EfJAJoMcjpQxSf4kDr8A1EJUowv+2rkavSQeYLBkmXL6H1EXzAHbmHIbrffKctCuBOFN+MTV2uU0L3HZj1dJkcrlVHbJkVoIlNJFO5SLcKV+JZwyrUNX0Lf0R5w0bsneSfttUpBOlRMFzDt6WPoEmdiok8KolvpdtocKf41BAxxfbfy2FKKOF1HIWpQfSE9kb8cqwxboSQE4PtrdTzAnrZFYNlNCBWkM4EpgF1y+sYTf/0cYp+Ti6mDOGVGiK3WFaoG+VT2CLx3sy9/EuzMp0AqWkmTi29xscFGiH0J1ptEleE0p2vKF7D2eT6JhCouHdAmu77pJ2kz4UKmdw8HIJ9B7mskeKReDA7Rm4rmAAu1Q2oGXCARj508w0j6ynOWbSWHrIGOWLbxCXiVQSnFILlwcW0NNRr6jGd2WOyC6CfcvPEr0D5ThIc0HPTQaG/OOpw3gTVRX6S/3zzpEvv6Nxbu1jkDnQSFdMvWE9L8oys/vNsOyUJ7tpYSQ5kVqM+t7SuOPOQxB5G0a6OkQhXGYnBla+onpPZnPLd7eCzO0swl3jg8ulUqjCrWAIsAqhxRPFlKRmQcBLSzLuc4Dy/egnUJeFT7e60CS7JvT5cQmlZMrxrUFGZbrjMI1ZuB8u/jCCRDELXKAkyi54txI+Shfg1a/7qftYJdtYYAUL3FzwQEkY5Xc0YERnp1LScYv+aBDFTWbH0HMgBQvTfGHqNQ/X7940KBc+QSx5ntArWkXM+fMxTIeQKMz9eZvu+biJyH1eyqxc8YVtkb8L6wINqceZUcpzuYaYdn6hCyu24j1lF5i+VYgK5d3B1nuNtEdXkesg+RQ32gbBwPVUGJGqYuZFqNGL5n/Z38NjbFRgAL7uEoEfAQEw4rgQDH5vg/F1M7ArVQOGo8NA0GA91iWvAzMzNTqmNJuWXjCCtWuVcdFpP6g3TqZflM5gmdwSDHAKx7snjxLuyavQ+7aezZgUhXkbNxPtDUZUZrMWuC9fyN3tVogf1zeAn3YmKfp7H7SEbCszl3eQWsVOMDZRAmHOc5ju6AmcX+egQ2Mrvv7hhmV9MZgRU0WdXv8ACbkZ3J+Ky9kPdf98xDYZZsf5YKiqGFfw+BXa9HMRvjonwt6fIc7lFIWwkhMfMWG8mpluOwtz+BisOD8DE6S3g5VvDZrm59CwMQMYtvAjA102aFLIC+99FFBshze+5guAjFRu5eM4XXowSRgS15yGzCvT8OzKNDSq8mb1RKrB7GsB67FWlW74+pA1al6K34Sq6TE3Ue7xIhPkXboTDpowqNGaCnuag/C2nyF5/uAm1qj1wNp3OzgvdbogNU4Z88YiK4RCZoPgjGvkq7sccK7moPfMSjCLUQVZfE9eeHvgYg09EHI+DF/07uGMrn3gGXwRh/nqMckIDLNjZ6Os3kWMDvEE35xXNOF2BDzJqiXOZ3bQOYIXqT65gxf//nMnuVziuGEKK2rn44ECC3w2YYsfHvhC3L8uVvDnFRvyTgr2T5TSMt1Kw0Mrakj0bC2Ozvkq/Hixj5yrUic/I4S5gjldNEv6LO66pA2Cv1vQSOkmdEVtw3hXDc76mzk4rvaG6qyZhU+fZ9JV4glwRuwOI/Q7EbVuL4B52r7ImdtLGs9LcKwslsNphzL6bdor9An2I3ZfduHt/VXkamEU3hE2QGHzC7BvxxT72/QwY6hpD/MFS5nH/kKc7pvLoKgtnu7mWCJ5cQJkH0sD+FsBy8QSbddKmA7BeKX8KLjY5KCDXBD1DL0OZ4+1wdpqa/pCIgtDUm6hXYwN1k1bB3JmXEhKMcXEj+8w9nMj02dkjLoLlXBf5BjbmBUMzDE1/BU7jROw6hG2h7BEXDkENuRUEvLpBWW55ezdhDbsTdSHQjaYmJvuB11hF3KizpzouQhzk1rvQOnbRgjs+E3O8TfS+QfS0fLyfXhQb0W+rxEDR5XZzN81Xmh97BBe2H8dc88bwtP0uVClkEbDmoTxj50CvZ71zzP1urFMOZUIbYukcwr3Y/dviukqU+Th+SOY4LAY3Ol/9JroO9bh7w38r+sIPOtGGjTyFis8cqBkmT1lOiWJ15/l+NA6AMA9EUU7gDgHzubYz+sl65e4k2a3RfgiwxUz9x3H9zNOwurMxRC16iu9rpOMk3In4Gd6HD146CSdFjBM9kpXkGNTM+GxkB7VGfhMqutr6ebdX/DViulwuTINJuPegtjpRLJ8pQPO/ibIekfYULOfQ5j18DUNETVk1kYG4+29wlxb9x2wanwBjdwcShYKPwWJF8Vs371xIluvZMjVeMyGlWzAr9q8EC/EgMKENVpc06YB9kexcQUPnrixlRyvmAsdBb/IiWVb4MxgPfnnyhV8q3m5bRl87Cm31XQG8xZb1mXg6XAH+DiL4JL36dTHsBE06wRohMFqXHg1CM/VFSPN7oQPq/UYnxUDVN81mXydfx+aZgngmZ8f0LopX1//3HP6fuMmSL92l4KsMGe06AWMiL3F/7Z0EtC9RdZFalOfFWkwNGiOR451Y1GHFOdn22Yc6smgR45Hw465QxBSksvOsj4ITo8J+PMnQVbRXPzwpRfmPdBD9ZVfSPOqQFapTxpXWu2AhYV+eKBtAWZujEOLe1koEH0PQ7pUcOXjhsqe+mxyzNYM9w3/Y1p+IlTMSIVtcm5QvvE6MyWeh3o7SqjawAOYvfs+4/bKGEue85JT3HKwextOl/+Jg1DTv8ynXxvAobIRIr5XYOSS62xZiBRUT36E9wmThnBmBwl2n6RHDuqjc/4+2jvCR1RdlsG2P+/QYO96dA9UBrZQkkg2zqZaC8uhzX6KjTA6yuqNZ7NLuT9ogp8q9i5JI9duRZBH7pL4Sa0TPTj7MJBGY65+H806oYgYLkGtrHQhxp4L+xvLcZPAYfLbJBSd9s3h/GD/MfPlU1r5Ox1HVIzQPp8XrO+cwGMTQeBfzIPSNkGGno/iKRO3Au5WT+Kb6p2w4oMz2G90hIxbX+HVp9R/DBWkTWsKwfK8BzzZJAyPfkjjOQNBVJ5nzf6cFOK8nD1GR+rXceq7ryEbFUt41l6jVZ+3My0a+rBtqR9VCWqnP5nlbPRZD5q1sqoy0zCFzN1VSd8sPMl6np1iJw7HYGiBKebrWZHJTc0s+/omnWD20rI9U9AYo4AV98wg090ODd034fZHC3HIcQa3xrgMqtVC2UYRM/j05ipeMdmDf8CdxM8bxUQJGfD/55m/9z4F3xdzoV4sAR3S/PDB7FZgv/9h0751kZQzvLh76CbmDXiiUO10zHj7g/b1KnMXpT1kLxwZpe6GyWh/SpgTOsWPg1czkFkxHbthIY6/bMeccgXQcjeFl39S8cHTPMoXJoUh/zx57q8oPFS+jh7fro63TxbgsO9LyL3gj2vcfVD2wH2cXlcC9t+siGngIVj/XgqGBILofYuVUDejBlT+C4Kqvkg0ObiAiH3bB7Xb7hOpd9qwMTQe78h4UZOh6eBzb5Cs+/gaAtxDMO9MP0jONqbaFxYju/ocXlZLgU++h3HJOSf8T3U1RPfIMElRPUyeujZ2dr0w9NgrhFZXxnF+my9T+mUtbqw8AB3XSxnuvN20w5CXOyG5EDX2/iDhj5D4OYbA3VNx7BV5dZizdgZ9XxlLynrrkP/mK/JQ6TS54ROKPwc1yOYHDQYN5hmMzXAtDbP8zk5scGJmW6pyxbKM8IqqPHQG2nLXlYaBj7YDvrh2i310koGYWW+IZvobslRLCPlCprBkuTmRqhTkzj9sgFNtDDpVhGCtfTr+PB9BrurJ4wyFJUjHqyDt5Rd4lqfIxF1bBMcGeLG6upQE22wHI85f3OLnjFpShZU7GWlW76wnmrq/RmWNl7hhlxKkz1PiiAeFE5n61yTwO4du3K8AMWw6tg+zcDCoFzyNz/27p5soUPmXNe7WhDW8B9GGV4j7FnINPbTT6dKCOjpwxxDkThXAmasTtLtsN53H02vIzbqBOndmkrdrMvGZ0Ev23RFhKOk4BzlsOF5eOAPe9rfil8ka/Fw+CQqps2G/WjwbE2SJRhu5JH1TFvZaHcEXy8Jgn7gLntY6h85dvDgYG0guFb4Ep74ScA1TAN2kcPjV+QsWK7D4fuVxYmyXgDTNn2YL1oC7Yw91u7SSzquSp6rL96HQLinOgwdanMQpFmt3l5Dnjldh9kpH+mrRHjg48YS8PLIKCj2yyZ3gPzCjWBP3OGtySktm4TGreXhVWA0urTnGnOnVx6z2A+zLpZF0QD8VGtVusNPbRonTd30QeRJKcvp2o41uFMx6Pordu5bSVS6ziWWBNXruF0O+mit48akw+UCegKVXD9HjE8btQ9pE9JkbzJs0hinxv8yRVHvMzo8ii4k6N5z7DmWnWYL8Bw1S7B9Md/EKcmouuOKp3wpo2K6Bb+t8sfiyBc6DNFw06oHX18ozUYbTaaGbM4l1FeW2PXPFoqnHIBhxhJ6YmUsVlBbQd/98lUY/qIiung3JZ3bh+7AU+HIkpmK/cR/pSZCAyBkKsF6pAu7qnCGnn5kjuCYR1VPx9GkOAZEZwzikPojPRbbQ7hvNZLSpjLCHKkFdPhVc/BVxx/U0siE6nljXpUOwojZm+zrQ3UuiqXr+Q+IbsQYq3JNx45qVKNFoAoK2GtDtKotHVhzD6rZZoNm0H068++eRwhngMmUFDq5qOB55n7HmmQFHG6vpX7t/73dUDq4OIdTFCXHN+FNgq2wz0ZzZTLeiNOeQzg7MPVoHz18bAgooQY5IHLZdE0NVm2S0CeilT7Z7gug5RVjh+wTmPL0JY9014PVNDnzKi/EUfw0Givuj4eQ3dlGyKBn9S4BPzBsjxrRBalAUbz54QUS/jpGy2Hbq9Xg/udNzEuRWDaDOZAD0fWphTlhE0m8d//1jvREEPfCne19qQA2vIeru98KoHxZcpwUOUKF9mhX4tAeD5ssSZXNhPBn7Bn9su0mCe4NhfGwuJPoZYFHNRXy9vh4Vxy2wV6MGpwIaUOy/NpoecxV+GGghv9Uo/Xx/Jd6bDASJv09I/ZoI3I4L0HjeE5qqpIAb+z4R503KVH8GL5m00cZ9r6PxvCIPCqTex+chtXgYubRUfYS6fGJZg8356Dl4GAInU8Bu/ktaadsGdnYVqLjzPnswzwZ3P6wFTRMROJY7H2DbTmp7aS1UWJQwooec8P3UKFWzD6JaUbMqkhYOko+FSzFRXgIFZoaC1cFQ1PXup9IJCqhuXwtdX9XJIh4h7reIM1AUvQ4drm7D05MC8KWoEudoLWXrpW6C9rIUNDEdQLf/joHBmluYj0dwpoYzLi6QA00nFexu6SD3bzmQHw5a1LFPmJvHNsBSWR086jCNE6M2G4noHHTuF4AKhWM0fWsSGX9tyU1XoFT7VRE1H+EnXmnBONfpNhjoidHc1Y3wtb+ZsasRJg5x1vDbFol25Ezobowg3j9s8Kj0Y5ytdQu+GJdC9+c0aD4ugiqbTStlVJJg5oaD4NbmBw1KXfhMwAn4nnRSiXOB5LCiPGxoHSJBGzbhgm+GUDwmBUebeWHASAsSU2SpIVcPrA7dxDvnsvGbywF4eqmzYlhtFoRt6aBjQcWIaYfgWZAXLvNbA5fE4vTDe34xn48V4IdfWuBdKk4v/1ACkQo3uBkfCfP418EoG48lkYswUrUMOmUqkLPKEjrmNzEZB13BvO8W+Cs0k6fCb+ll/1gmryMeqtKkqFV5LZmJC4Hz2wjX8h2jj+Xi4d1rbzJiIYhVIx/pylATzA+U5F7V6sLfySlMkuxarDLLhFaZcDzxeBXISuXAOSNPWs//k7xrryOTgq1odGsUz+UqEV/JOdyrRo6oXczH2divTJUk58BO/nsQo2FH7v+W436Km4MaFv/8fZoYmZEwbli+ypv6icughqcBfjtXTaykBXBkaiXJHzoOnRdncLdcUqacj0HwKViWi+O7SXG/FnY7BsPpqHKU3hyDiV+a6SnvQTC8poNftw8RUbXpYOI2wbY9Pwvp8rEYU2oG/12/gltOxRCpQzHA68gls5Y2YCCfDrl7vQWviZbCuwIvvJFCwZC/EY7oTBoEnuinf6rtyQ7nS5QvPAoX9BvTslu15KLdcmwPlCYJPNpkfcQ43X7uMhh+EofTFvNo/h91GPQ4Bk1qD8nyFb6gtPU/crG3DTbIHIIVyrwQfXcLtrX2wP6z02DcVRmW3VACX5sgRBcbyE5wITLzhMizpC3oNRKLj7LV4dodKXaq8gtZvAGYX68O0M98F6GmKQQzmu6T7beWc6r+RLI5r1KxaKU8BhpnA7czGw643YAnHokwcPIG+Vw6Dxsc+bm7eBdhd4E/2bptGaeUvUHLVE+BU+0jlnnuj1uthcnXuWPYezEWHLOPEPGQONQ4qoUSQtGQMW4BVnzuJFgild62dYSQWlHu0S++OGJvja0LHGnZPSV68ud07oPOXlh/dBi8mq5AbXMR6Hw5QWynWskODw/YGriLqs18AlPSc/GYmgsxyfhBGLHXZNFoEnzbi4Q8iCO7yqTguggv9SsCbA3Yhbtul5EvF0bJgy9CYNkgwLUXcKp8s+MPCdB8QlarF1BdQQ7OjApH5397+bx+u+Ft85mQedCDym2aj0dGl9GlXeOU524KW/L2P+hpKIbZ0rkQzdgb5k/FwhqJEky1mY7Fy34R3SDKvDy/Fp9N1CE7nktlEoMwI3YVy5uugxtH7uKK9zIkTLyQ7Morgxep8tyZG8PBcsQa8nX98YBCCPLGWlMX7WrW+eI0GHv/FV9d6WTnzBHn3u3ygrJofu5w9hXyx+Mvufv6BJa4/yQbD50i25ew0LG9jfgs1YOk0mPA83kIdbqrUPu/GXDmShEVvXSZ/uG2s6ssv2HGvCf4WN6WaJQOUevyu9Ca8wqPhdZUptydhR/jFnPunrqOv2rkyyNuTMcqZyVMvakKTnPi4PrGbjrtYwRMf7KY2/BrBSc06SpsTx1CB3lDDEkoguHLX+FBA0HxNw2srUgRHK8vxJ6ii7CqvJhM6gaiVY83LtIVMZTMnMsp89EmdY9DcY/KdRi7ogfhcyPwe4AyqTTLh5q70+nDUWs0lzaGSz8TyPb5q9GvZS2EC9ug3P43xLVFBY+RvYjd/nhdThr8DJrxWnQe3NaQwcghFeR7K8DZWizN0R27BhHbZsKfJBEa+LOevhN0A74owL6oNTQsMQN44gVZt8O5MB4/HQ4/1IVJm0xSGy5BzKTVmYRtQmj36D7zhT8B/wqoob76FHPZZwbJ+yAGf4Ru0C9hpWj5dJA8/9LB+vUrc6s3WdHr8x5hsqEQ3LtgAru/DtFTn3oqXlxPhIyu0yh19DwZ359KwprUmfP+IuiwMJje+5ebl1L1QHB2vqHuiQAaZ5wM973ToOt4A7xZMJtTLxoAMbpZOPU7i5adtMai5lyUXn8FFjbzQZZQJJj90iUJr1uhes0dmAgsQ9XQnzRp9wkYHuGlrxX30VMpUWR5SCvZpTyBojMFcPTeQfq9Vxfvng4mh42E8cnGxTSg5R2571VCtU39sKe0gt1WWoLe8UJcNriLHHaIZwf7uujOx5U4yzyJvWepjApJ4uSitCyG/TGkz62TSIYoD1n7qxBKzuWTTdVCIOTURE9XBtPhJj+U/hJNuspi0bP3BpMZN07aGk2BpzYKltgsolk1hngxei/dn3/b0Dpbm87x6icDbd2g2LUMC/al0JdFDnh0RRn5UTIHawfDWemQpeSR4Db4stURHGMk8EXEPPrxVgBZObcBdeo+EZkmZ9gUvAuO9b6At3apWDvpB5EtthhTshbUlTbgyDYH8vHZErjP6ceFhZ+J9stC2pJRhpeUfXD+jmD66mw2fDZIIDyHY9kygUHK6XvNmGg8wcqjBK6bJWCf0gvU+HOP/BQyJ4/PauDJah/U+2hCtuoHsvId6w0v5XOQ58EUu1b1IT1et5Kk7thMWhw8UV4qAZwZO0zOlcHJyHJYtGcOiuSch+j0j+z+A2GQ/iKb1B1wZxIlBsFAvIIUPHlGBxd50aiJLConnUIief7lePBXqv7xC3s0jwfXHX1H7+TLcXPNk9DcSxU/dfFztroth1ZbQ87kOiNIcchn7tzeiFqx91BlSzb1cYjGzY2+VDy6FA+8aKeNUQuo7kN3JMYboH99AExWX4Vd0gHAybmMU1MS3K26rpiWNAlrbCuBmQqiSxUVQDF1N9mv6kV0f5rAjZwJSPopD929cihg7gUFaYfo8FwPSByRR2V+Ba7jmqsoeb+H2sb7UHGNYsN57UbcC5elqEjqctpaa4Qrf2eSA9pp8CG1iyrm3ofFlqoczk8XeGP7iX6PYzAg8QqKJ5fi57uU/Jh/D9wOJMCrFakosP04fBnm514eOwffL8cRDcM2sKxtQTFLIejYKw0f7DahnpQiZvj1MM/4PtP/AdWztV8="),
    'bias': numbers('float32', (16,), [0.6890232563018799, 0.0183423962444067, 0.6833477020263672, -0.22419337928295135, 0.3777610659599304, -1.0196435451507568, 0.5936172008514404, 0.33422353863716125, 1.4407764673233032, -2.25719952583313, 0.5382434129714966, 0.8542912006378174, 0.7584586143493652, 0.5499188899993896, 1.0075175762176514, -1.6726418733596802]),
    'mask': None,
    'grad_output': unpacked('float32', (1, 16, 3, 2), "eNoBgAF//tqNfD5MhhU/q3mQPRwL175GxLa+zwd8vxwY8DuyWRdA6vr5PsnNhT/wGSw/EU2wP7dRsT7G7NK+YbV3v+/vrT4H5cE/OXqMP+oZVj8uDdq++wORvysrNb9jxz6+THa1PhV5l760r9+++GCoP7b8EkDj7aA+kAdwP5wduz+CRxO++/QJP+N8ET7IbdC+uGJYP288pT/Tucy8/6LyPg0//L4cPWK/IKotP0ybbr0GXjs/4Cotv2TxrzwZVS8/e9xPvw9yQT76z0I+vdtMP4At/78Udce9dK4xP0DG/L+u6Vy/5aUMvwXMl75j6hQ/mAA4vaiPdL5LLu2/WwuQP5myRj7YfsG/jsDjPmgR0j7aNqU+R6aGP6F7tD79mcW/L76Av6DGZL9cuDs/MmvJv78Ul7120jk/MNiav9KDND8JBGw9nUroPnNAKz8UCDg/AHW1vyCnpT6meSO+zesoPrEEIz9a95U+aicsP+PM0j71Z9C/kAoZv8C33z5xOIa/sovHvgaKvVM="),
}
ALLOWED = {'output': 0.00015448270955162907, 'grad_weight': 6.359016665749972e-06}  # how far each result may be off, in its largest entry
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
