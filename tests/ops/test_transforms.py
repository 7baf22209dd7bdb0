# SPDX-License-Identifier: BSD-3-Clause
"""torch.func's transforms and forward-mode derivatives, which never go wrong without a word."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap

from dcnv2.nn import ModulatedDeformConv2dPack
from dcnv2.ops import deform_conv2d, deform_psroi_pool, deform_roi_pool, transforms

ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16]], dtype=torch.float64)


@pytest.fixture
def operands():
    generator = torch.Generator().manual_seed(0)
    sizes = ((3, 2, 4, 6, 7), (3, 2, 36, 6, 7), (6, 4, 3, 3), (3, 2, 18, 6, 7))
    return [torch.randn(size, dtype=torch.float64, generator=generator) for size in sizes]


def _conv(x, offset, weight, mask):
    return deform_conv2d(x, offset, weight, padding=1, mask=mask)


def test_vmap_is_a_loop(operands):
    x, offset, weight, mask = operands
    wanted = torch.stack([_conv(x[i], offset[i], weight, mask[i]) for i in range(3)])
    torch.testing.assert_close(vmap(_conv, (0, 0, None, 0))(x, offset, weight, mask), wanted)


@pytest.mark.parametrize("operand", range(4))
def test_tangents_are_those_of_the_gradients(operands, operand):
    """<J v, g> = <v, J^T g> for the compiled gradient's J^T."""
    primals = [t if i == 2 else t[0] for i, t in enumerate(operands)]
    tangent = torch.randn_like(primals[operand])

    def along(value):
        return _conv(*primals[:operand], value, *primals[operand + 1 :])

    out, forward = jvp(along, (primals[operand],), (tangent,))
    value = primals[operand].clone().requires_grad_()
    grad_output = torch.randn_like(out)
    (backward,) = torch.autograd.grad(along(value), value, grad_output)
    torch.testing.assert_close((forward * grad_output).sum(), (backward * tangent).sum())
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(along(forward_ad.make_dual(primals[operand], tangent)))
        torch.testing.assert_close(dual.tangent, forward)
    assert not transforms.active()


def test_gradients_for_each_sample(operands):
    x, offset, weight, mask = operands

    def loss(weight, x, offset, mask):
        return _conv(x, offset, weight, mask).square().sum()

    each = vmap(grad(loss), (None, 0, 0, 0))(weight, x, offset, mask)
    leaf = weight.clone().requires_grad_()
    for i in range(3):
        (wanted,) = torch.autograd.grad(loss(leaf, x[i], offset[i], mask[i]), leaf)
        torch.testing.assert_close(each[i], wanted)


def test_jacobians_agree_both_ways(operands):
    x, offset, weight, mask = (t[0] if i != 2 else t for i, t in enumerate(operands))

    def pooled(shift):
        out = _conv(x, offset + shift, weight, mask)
        places = torch.full((2, 2, 3, 3), 0.1, dtype=torch.float64) * shift
        first = deform_roi_pool(out, ROIS, places, None, 3, 0.5, 2)
        return (first + deform_psroi_pool(out, ROIS, places, None, 3, 0.5)).sum((0, 2, 3))

    shift = torch.tensor(0.3, dtype=torch.float64)
    forward, backward = jacfwd(pooled)(shift), jacrev(pooled)(shift)
    assert forward.abs().min() > 0
    torch.testing.assert_close(forward, backward)


def test_a_module_as_a_function_of_its_parameters():
    torch.manual_seed(0)
    layer = ModulatedDeformConv2dPack(4, 6, 3, padding=1)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    x, parameters = torch.randn(2, 4, 6, 7), dict(layer.named_parameters())

    def loss(parameters):
        return functional_call(layer, parameters, (x,)).square().sum()

    found = grad(loss)(parameters)
    wanted = torch.autograd.grad(layer(x).square().sum(), list(parameters.values()))
    torch.testing.assert_close(tuple(found.values()), wanted, rtol=1e-4, atol=1e-4)
