# SPDX-License-Identifier: BSD-3-Clause
"""The deformable convolutions as modules."""

import pytest
import torch
import torchvision
from torch import nn

from dcnv2.nn import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack
from dcnv2.ops import deform_conv2d

GEOMETRY = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)}
PACKS = [DeformConv2dPack, ModulatedDeformConv2dPack]


def _with_random_offsets(pack, std=0.3):
    torch.manual_seed(1)
    nn.init.normal_(pack.conv_offset.weight, std=std)
    nn.init.normal_(pack.conv_offset.bias, std=std)
    return pack


def test_deform_conv2d_accepts_torchvisions_arguments_and_weights():
    theirs = torchvision.ops.DeformConv2d(6, 8, groups=2, **GEOMETRY)
    ours = DeformConv2d(6, 8, groups=2, **GEOMETRY)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "bias"]
    input, offset, mask = (
        torch.randn(2, 6, 9, 8),
        torch.randn(2, 36, 4, 11),
        torch.rand(2, 18, 4, 11),
    )
    torch.testing.assert_close(ours(input, offset, mask), theirs(input, offset, mask))
    torch.testing.assert_close(ours(input, offset), theirs(input, offset))


def test_initial_weights_equal_those_of_conv2d():
    torch.manual_seed(3)
    theirs = nn.Conv2d(6, 8, groups=2, **GEOMETRY)
    torch.manual_seed(3)
    ours = DeformConv2d(6, 8, groups=2, **GEOMETRY)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("pack", "fields"), [*zip(PACKS, (2, 3), strict=True)])
@pytest.mark.parametrize("bias", [True, False])
def test_state_dict_keys_and_shapes(pack, fields, bias):
    state = pack(6, 8, groups=2, deform_groups=3, bias=bias, **GEOMETRY).state_dict()
    wanted = {
        "weight": (8, 3, 3, 2),
        "bias": (8,),
        "conv_offset.weight": (fields * 3 * 6, 6, 3, 2),
        "conv_offset.bias": (fields * 3 * 6,),
    }
    if not bias:
        del wanted["bias"]
    assert {name: tuple(value.shape) for name, value in state.items()} == wanted


@pytest.mark.parametrize(
    ("pack", "options", "share"),
    [
        (DeformConv2dPack, {}, 1.0),
        (ModulatedDeformConv2dPack, {}, 0.5),
        (ModulatedDeformConv2dPack, {"mask_scale": 2.0}, 1.0),
    ],
)
def test_a_converted_convolution_starts_at_its_full_or_half_output(pack, options, share):
    conv = nn.Conv2d(6, 8, groups=2, bias=False, **GEOMETRY)
    deformed = pack(6, 8, groups=2, deform_groups=3, bias=False, **GEOMETRY, **options)
    keys = deformed.load_state_dict(conv.state_dict(), strict=False)
    assert keys.missing_keys == ["conv_offset.weight", "conv_offset.bias"]
    assert keys.unexpected_keys == []
    input = torch.randn(2, 6, 9, 8)
    torch.testing.assert_close(deformed(input), share * conv(input))


def test_pack_equals_its_branch_and_its_operator():
    pack = _with_random_offsets(
        ModulatedDeformConv2dPack(6, 8, groups=2, deform_groups=3, mask_scale=1.5, **GEOMETRY)
    )
    input = torch.randn(2, 6, 9, 8)
    predicted = nn.functional.conv2d(
        input, pack.conv_offset.weight, pack.conv_offset.bias, (2, 1), (1, 2), (2, 1)
    )
    offset, mask = predicted[:, :36], 1.5 * predicted[:, 36:].sigmoid()
    wanted = deform_conv2d(input, offset, pack.weight, pack.bias, (2, 1), (1, 2), (2, 1), mask=mask)
    torch.testing.assert_close(pack(input), wanted)
    torch.testing.assert_close(pack.predict(input), (offset, mask))


@pytest.mark.parametrize("pack", PACKS)
def test_every_parameter_has_a_gradient_in_the_first_step(pack):
    module = pack(6, 8, deform_groups=2, **GEOMETRY)
    module(torch.randn(2, 6, 9, 8)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("pack", PACKS)
def test_offsets_have_a_gradient_with_frozen_input_and_kernel(pack):
    module = _with_random_offsets(pack(6, 8, **GEOMETRY))
    module.weight.requires_grad_(False)
    module(torch.randn(2, 6, 9, 8)).sum().backward()
    assert (module.conv_offset.weight.grad != 0).any()


@pytest.mark.parametrize("pack", PACKS)
def test_autocast_returns_halves_and_float32_gradients(pack):
    module = _with_random_offsets(pack(6, 8, **GEOMETRY))
    input = torch.randn(2, 6, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(input)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pack", PACKS)
def test_modules_move_to_any_dtype(pack, dtype):
    module = _with_random_offsets(pack(6, 8, **GEOMETRY)).to(dtype)
    assert module(torch.randn(2, 6, 9, 8, dtype=dtype)).dtype == dtype


def test_channels_last_is_kept():
    module = ModulatedDeformConv2dPack(6, 8, **GEOMETRY).to(memory_format=torch.channels_last)
    input = torch.randn(2, 6, 9, 8)
    out = module(input.contiguous(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert module.weight.grad.stride() == module.weight.stride()
    torch.testing.assert_close(out, module(input))


def test_errors_name_wrong_channel_counts():
    with pytest.raises(ValueError, match="in_channels must be positive and divisible by groups"):
        DeformConv2d(6, 8, 3, groups=4)
    with pytest.raises(ValueError, match="out_channels must be positive and divisible by groups"):
        DeformConv2d(6, 8, 3, groups=3)
    with pytest.raises(ValueError, match="deform_groups must divide in_channels = 6, got 4"):
        DeformConv2dPack(6, 8, 3, deform_groups=4)
    with pytest.raises(TypeError, match="kernel_size must be one whole number or two"):
        DeformConv2d(6, 8, "3")


def test_repr_shows_the_options():
    text = repr(ModulatedDeformConv2dPack(6, 8, 3, deform_groups=2, mask_scale=2.0))
    assert "6, 8, kernel_size=(3, 3)" in text
    assert "deform_groups=2, mask_scale=2.0" in text
