# SPDX-License-Identifier: BSD-3-Clause
"""On a GPU: every family of convolution kernels, by name, against float64."""

import pytest
import torch

from dcnv2.ops import library, portable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or not library.LIBRARIES["cuda"].loaded,
        reason="needs a GPU and the CUDA library",
    ),
]

# Relative error in the L2 norm: a few roundings of the dtype.
LIMITS = {torch.float16: 1.5e-3, torch.bfloat16: 1.2e-2, torch.float32: 3e-6}
LAYERS = {  # batch, in, out, height, width, deform groups, kernel, dilation
    "wide": (2, 256, 320, 11, 19, 1, (3, 3), 2),
    "narrow": (3, 64, 64, 20, 17, 1, (3, 3), 1),
    "video": (1, 64, 128, 18, 33, 8, (3, 3), 1),
    "two_groups": (2, 256, 40, 9, 14, 2, (3, 2), 1),
    "odd_channels": (1, 72, 48, 15, 12, 3, (1, 5), 1),
    "many_taps": (1, 64, 64, 16, 16, 1, (5, 5), 1),
}


@pytest.fixture(params=["simt", "mma", "wgmma"])
def fastest(request):
    library.limit_conv_path(request.param)
    yield request.param
    library.limit_conv_path("wgmma")


def _operands(layer, dtype):
    batch, channels, out, height, width, groups, kernel, dilation = layer
    generator = torch.Generator("cuda").manual_seed(1)
    taps, reach = kernel[0] * kernel[1], [dilation * (k - 1) for k in kernel]
    size = [height + 2 - reach[0], width + 2 - reach[1]]

    def draw(*shape):
        return torch.randn(*shape, device="cuda", generator=generator).to(dtype)

    operands = [
        draw(batch, channels, height, width),
        draw(batch, 2 * groups * taps, *size) * 2,
        draw(out, channels, *kernel) * 0.1,
        draw(out),
        draw(batch, groups * taps, *size).sigmoid(),
    ]
    return operands, [(1, 1), (1, 1), (dilation, dilation)], draw(batch, out, *size)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_every_path_gives_float64s_values_and_gradients(fastest, layer, dtype):
    operands, options, grad = _operands(layer, dtype)
    wide = [t.double().requires_grad_() for t in operands]
    wanted = portable.deform_conv2d(*wide, *options)
    grads = torch.autograd.grad(wanted, wide, grad.double())
    ours = [t.clone().requires_grad_() for t in operands]
    out = torch.ops.dcnv2.deform_conv2d(*ours, *options)
    got = torch.autograd.grad(out, ours, grad)
    names = ("output", "input", "offset", "weight", "bias", "mask")
    errors = {
        name: ((a.double() - b).norm() / b.norm()).item()
        for name, a, b in zip(names, (out, *got), (wanted, *grads), strict=True)
    }
    assert max(errors.values()) < LIMITS[dtype], (fastest, errors)


@pytest.mark.parametrize("allowed", [False, True])
def test_float32_is_multiplied_with_11_bits_where_that_is_allowed_alone(allowed):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("TF32 needs compute capability 8.0")
    operands, options, _ = _operands(LAYERS["narrow"], torch.float32)
    wanted = portable.deform_conv2d(*(t.double() for t in operands), *options)
    out = torch.ops.dcnv2.deform_conv2d(*operands, *options, allowed)
    error = ((out.double() - wanted).norm() / wanted.norm()).item()
    assert (1e-5 < error < 2e-3) if allowed else error < LIMITS[torch.float32]


def test_an_unknown_path_is_an_error():
    with pytest.raises(ValueError, match="simt, mma or wgmma"):
        library.limit_conv_path("fast")
