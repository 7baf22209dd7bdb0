# SPDX-License-Identifier: BSD-3-Clause
"""torch.func's transforms and forward-mode derivatives: the right value on every path, or an error.

Expected values come from the portable path in eager mode, which tests of its own check.
"""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import (
    functional_call,
    functionalize,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    vjp,
    vmap,
)

from dcnv2.nn import ModulatedDeformConv2dPack
from dcnv2.ops import (
    deform_conv2d,
    deform_psroi_pool,
    deform_roi_pool,
    multiscale_roi_align,
    portable,
    transforms,
)

ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16]], dtype=torch.float64)
CONV = ((1, 1), (0, 1), (1, 1))
ROI = ((3, 3), 0.5, 2, 0.1)
PSROI = (3, 0.5, 2, 3, 2, 0.1)
PYRAMID = ((3, 3), [0.5, 0.25], 2, False)
SCALES, ALIGN, LEVELS = PYRAMID[1], (3, 2, False), torch.tensor([0, 1])


def _pool(pool, options):
    return lambda x, offset, mask: pool(x, ROIS, offset, mask, *options)


# By operator: the function of dcnv2.ops, torch.ops.dcnv2's operator, and the portable path.
CALLS = {
    "deform_conv2d": (
        lambda x, o, w, b, m: deform_conv2d(x, o, w, b, *CONV, m),
        lambda *operands: torch.ops.dcnv2.deform_conv2d(*operands, *CONV),
        lambda *operands: portable.deform_conv2d(*operands, *CONV),
    ),
    "deform_roi_pool": tuple(
        _pool(pool, ROI)
        for pool in (deform_roi_pool, torch.ops.dcnv2.deform_roi_pool, portable.deform_roi_pool)
    ),
    "deform_psroi_pool": tuple(
        _pool(pool, PSROI)
        for pool in (
            deform_psroi_pool, torch.ops.dcnv2.deform_psroi_pool, portable.deform_psroi_pool
        )
    ),
    "multiscale_roi_align": (
        lambda x, y: multiscale_roi_align([x, y], ROIS, SCALES, *ALIGN, levels=LEVELS),
        lambda x, y: torch.ops.dcnv2.multiscale_roi_align([x, y], ROIS, LEVELS, *PYRAMID),
        lambda x, y: portable.multiscale_roi_align([x, y], ROIS, LEVELS, *PYRAMID),
    ),
}  # fmt: skip
SIZES = {
    "deform_conv2d": ((2, 4, 5, 6), (2, 8, 5, 7), (6, 4, 1, 2), (6,), (2, 4, 5, 7)),
    "deform_roi_pool": ((2, 4, 5, 6), (2, 2, 3, 3), (2, 1, 3, 3)),
    "deform_psroi_pool": ((2, 4, 5, 6), (2, 2, 3, 3), (2, 1, 3, 3)),
    "multiscale_roi_align": ((2, 4, 5, 6), (2, 4, 3, 3)),
}


def _operands(name):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, dtype=torch.float64, generator=generator) for size in SIZES[name]]


# ---- derivatives of a call: each takes the function and its operands


def _tangents(operands):
    return tuple(torch.cos(3 * operand.detach() + 1) for operand in operands)


def _loss(call):
    return lambda *operands: call(*operands).square().sum()


def _of_a_number(call):
    """Return a function of one number, which every operand depends on."""
    return lambda s, *operands: call(*(t * (1 + s) + s for t in operands)).sum((0, 2, 3))


def _at(transform, depth=1):
    def derivative(call, operands):
        function = _of_a_number(call)
        for _ in range(depth):
            function = transform(function)
        return function(operands[0].new_tensor(0.1), *operands)

    return derivative


def _forward_level(call, operands):
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(operand, tangent)
            for operand, tangent in zip(operands, _tangents(operands), strict=True)
        ]
        return forward_ad.unpack_dual(call(*duals)).tangent


def _forward_over_a_recorded_backward(call, operands):
    leaves = [operand.clone().requires_grad_() for operand in operands]
    out = call(*leaves)
    with forward_ad.dual_level():
        grad_output = forward_ad.make_dual(torch.ones_like(out), out.detach().cos())
        grads = torch.autograd.grad(out, leaves, grad_output)
        return [forward_ad.unpack_dual(g).tangent for g in grads]


def _linearize(call, operands):
    """With trainable parameters: all operands but the first."""
    rest = [operand.clone().requires_grad_() for operand in operands[1:]]
    out, tangent = linearize(lambda x: call(x, *rest), operands[0])
    return out, [tangent(_tangents(operands)[0]) for _ in range(2)]


def _linearize_by_jvp(call, operands):
    """The same, without a trace of the call, which takes seconds for plain PyTorch."""
    tangent = _tangents(operands)[0]
    out, moved = jvp(lambda x: call(x, *operands[1:]), (operands[0],), (tangent,))
    return out, [moved, moved]


def _each(call, operands):
    return vmap(call)(*(torch.stack([t, t * 0.5, t * 0.9]) for t in operands))


def _gradients_of_each(call, operands):
    gradients = grad(_loss(call), tuple(range(len(operands))))
    return _each(gradients, operands)


def _vjp(call, operands):
    out, pullback = vjp(call, *operands)
    return out, pullback(out.cos())


def _vectorized(mode):
    def jacobian(call, operands):
        return torch.autograd.functional.jacobian(
            lambda s: _of_a_number(call)(s, *operands),
            operands[0].new_tensor(0.1),
            vectorize=True,
            strategy=mode,
        )

    return jacobian


DERIVATIVES = {
    "jvp": lambda call, operands: jvp(call, tuple(operands), _tangents(operands)),
    "forward level": _forward_level,
    "vjp": _vjp,
    "grad": lambda call, operands: grad(_loss(call), tuple(range(len(operands))))(*operands),
    "jacrev": _at(jacrev),
    "jacfwd": _at(jacfwd),
    "hessian": _at(hessian),
    "jacrev twice": _at(jacrev, 2),
    "jacfwd twice": _at(jacfwd, 2),
    "vmap": _each,
    "vmap of vmap": lambda call, operands: _each(
        lambda *ts: vmap(call)(*(torch.stack([t, -t]) for t in ts)), operands
    ),
    "per-sample gradients": _gradients_of_each,
    "vmap of jvp": lambda call, operands: vmap(lambda t: jvp(call, tuple(operands), t))(
        tuple(torch.stack([t, 2 * t]) for t in _tangents(operands))
    ),
    "linearize": _linearize,
    "functionalize": lambda call, operands: functionalize(call)(*operands),
    "forward level over a recorded backward": _forward_over_a_recorded_backward,
    "autograd's jacobian": _vectorized("reverse-mode"),
    "autograd's forward jacobian": _vectorized("forward-mode"),
}


def _check(derivative, name, *calls):
    operands = _operands(name)
    expected = _linearize_by_jvp if derivative == "linearize" else DERIVATIVES[derivative]
    wanted = expected(CALLS[name][2], operands)
    for call in calls:
        torch.testing.assert_close(DERIVATIVES[derivative](call, operands), wanted)


@pytest.mark.parametrize(
    "derivative",
    [pytest.param(n, marks=[pytest.mark.slow] * (n == "linearize")) for n in DERIVATIVES],
)
@pytest.mark.parametrize("name", CALLS)
def test_functions_and_operators_have_the_portable_paths_derivatives(name, derivative):
    _check(derivative, name, *CALLS[name][:2])
    assert not transforms.active()


# PyTorch refuses forward mode over compiled code that records gradients.
COMPILED = ("jvp", "forward level", "grad", "jacrev", "per-sample gradients", "hessian")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "derivative", "backend"),
    [
        ("deform_conv2d", "jvp", "eager"),
        ("deform_conv2d", "forward level", "eager"),
        *(("deform_conv2d", derivative, "aot_eager") for derivative in COMPILED),
        ("deform_conv2d", "linearize", "eager"),
        ("deform_roi_pool", "jvp", "aot_eager"),
        ("deform_psroi_pool", "per-sample gradients", "aot_eager"),
    ],
)
def test_compiled_derivatives_equal_eager_ones(name, derivative, backend):
    torch._dynamo.reset()
    operands = _operands(name)
    function = CALLS[name][0]
    compiled = torch.compile(
        lambda *operands: DERIVATIVES[derivative](function, operands), backend=backend
    )
    wanted = DERIVATIVES[derivative](function, operands)
    torch.testing.assert_close(compiled(*operands), wanted, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("derivative", ["jvp", "forward level", "grad"])
def test_a_compiled_operator_has_the_portable_paths_derivatives(derivative):
    torch._dynamo.reset()
    operands, (_, operator, portable_path) = _operands("deform_conv2d"), CALLS["deform_conv2d"]
    compiled = torch.compile(
        lambda *operands: DERIVATIVES[derivative](operator, operands), backend="aot_eager"
    )
    wanted = DERIVATIVES[derivative](portable_path, operands)
    torch.testing.assert_close(compiled(*operands), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("derivative", ["jvp", "forward level"])
def test_a_compiled_function_has_derivatives(derivative):
    torch._dynamo.reset()
    compiled = torch.compile(CALLS["deform_conv2d"][0], backend="aot_eager")
    _check(derivative, "deform_conv2d", compiled)


class _Module(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, *operands):
        return self.call(*operands)


@pytest.mark.parametrize("name", CALLS)
def test_exported_programs_have_derivatives(name):
    program = torch.export.export(_Module(CALLS[name][0]), tuple(_operands(name)))
    targets = [node.target for node in program.graph.nodes]
    assert getattr(torch.ops.dcnv2, name).default in targets
    for derivative in ("jvp", "forward level", "grad", "per-sample gradients"):
        _check(derivative, name, program.module())


# ---- derivatives of the backward operator


@pytest.mark.parametrize("derivative", ["jvp", "forward level", "grad", "jacfwd", "vmap"])
def test_backward_operators_have_derivatives(derivative):
    operands, (_, _, wanted) = _operands("deform_conv2d"), CALLS["deform_conv2d"]
    bias = operands.pop(3)
    grad_output = torch.randn(2, 6, 5, 7, dtype=torch.float64)

    def operator(grad_output, *operands):
        needs = [True] * 5
        grads = torch.ops.dcnv2.deform_conv2d_backward(grad_output, *operands, *CONV, False, needs)
        return torch.cat([g.flatten() for g in grads]).view(1, 1, 1, -1)

    def gradients(grad_output, *operands):
        _, pullback = vjp(wanted, *operands[:3], bias, operands[3])
        return torch.cat([g.flatten() for g in pullback(grad_output)]).view(1, 1, 1, -1)

    operands.insert(0, grad_output)
    torch.testing.assert_close(
        DERIVATIVES[derivative](operator, operands), DERIVATIVES[derivative](gradients, operands)
    )


# ---- modules


def test_a_module_as_a_function_of_its_parameters():
    torch.manual_seed(0)
    layer = ModulatedDeformConv2dPack(4, 6, (1, 2))
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    x, parameters = torch.randn(2, 4, 6, 7), dict(layer.named_parameters())

    def loss(parameters):
        return functional_call(layer, parameters, (x,)).square().sum()

    wanted = torch.autograd.grad(layer(x).square().sum(), list(parameters.values()))
    found = grad(loss)(parameters)
    torch.testing.assert_close(tuple(found.values()), wanted, rtol=1e-4, atol=1e-4)


def test_a_tensor_that_outlived_its_transform_is_an_operand():
    operands, kept = _operands("deform_conv2d"), []

    def keep(x):
        kept.append(x * 1)
        return x.sum()

    grad(keep)(operands[0])
    weight = operands[2].requires_grad_()
    out = deform_conv2d(kept[0], operands[1], weight, padding=(0, 1))
    wanted = deform_conv2d(operands[0], operands[1], weight, padding=(0, 1))
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(out.sum(), weight), torch.autograd.grad(wanted.sum(), weight)
    )
