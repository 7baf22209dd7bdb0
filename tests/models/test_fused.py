# SPDX-License-Identifier: BSD-3-Clause
"""Fused convolutions give what the modules give one by one, with all gradients.

cuDNN's kernels are tested on a GPU; on a CPU, everything around them with stand-ins.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import Conv2dNormActivation
from toys import toy_config

from dcnv2.models import BackboneConfig, build_model, fused
from dcnv2.models.fused import Bottleneck, ConvReLU, fuse
from dcnv2.models.layers import FrozenBatchNorm2d
from dcnv2.models.resnet import make_stage

CASES = {"plain": "plain", "deformable": "dcnv2"}


def _stage(kind="plain", norm="frozen", groups="resnet50"):
    """Blocks with a stride and a shortcut, whose norms are not the identity."""
    torch.manual_seed(0)
    config = BackboneConfig(arch=groups, norm=norm, convs=(kind,) * 4)
    stage = make_stage(config, 1, 256, 2)[:2].double()
    for module in stage.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for buffer in (module.weight, module.running_var):
                buffer.uniform_(0.5, 2)
            for buffer in (module.bias, module.running_mean):
                buffer.normal_()
    return stage


def _results(module, x):
    x = x.clone().requires_grad_()
    out = module(x)
    out.square().mean().backward()
    grads = {name: p.grad for name, p in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    return {"out": out, "x": x.grad, **grads}


@pytest.fixture
def kernels(monkeypatch):
    """Stand-ins for cuDNN's kernels on any device, and how often they were called."""
    calls = []

    def conv_relu(x, weight, bias, *geometry):
        calls.append("relu")
        return F.relu(F.conv2d(x, weight, bias, *geometry))

    def conv_add_relu(x, weight, z, alpha, bias, *geometry):
        calls.append("add relu")
        return F.relu(F.conv2d(x, weight, bias, *geometry) + alpha * z)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(fused, "fused_dtype", lambda x: x.dtype)
    return calls


@pytest.mark.parametrize("kind", CASES.values(), ids=CASES)
@pytest.mark.parametrize("arch", ["resnet50", "resnext101_32x8d"])
def test_blocks_give_the_modules_results(kernels, monkeypatch, kind, arch):
    stage, x = _stage(kind, groups=arch), torch.randn(2, 256, 6, 5).double()
    got = _results(stage, x)
    assert kernels.count("add relu") == 2
    assert kernels.count("relu") == (4 if kind == "plain" else 2)
    monkeypatch.setattr(fused, "fused_dtype", lambda x: None)
    torch.testing.assert_close(got, _results(stage, x))


def test_norms_that_learn_are_not_fused(kernels):
    _results(_stage(norm="group"), torch.randn(2, 256, 6, 5).double())
    assert kernels == []


def test_heads_and_blocks_of_detectors_are_fused():
    config = toy_config("align", arch="resnet50", topology="fpn", norm="frozen")
    model = build_model(config)
    assert isinstance(model.rpn.head.conv[0], ConvReLU)
    assert isinstance(model.roi_heads.mask_head[0], ConvReLU)
    assert all(isinstance(block, Bottleneck) for block in model.backbone.body.layer1)


def test_convolutions_and_relus_alone_are_fused(kernels, monkeypatch):
    parts = {
        "bias": {},
        "norm": {"norm_layer": nn.BatchNorm2d},
        "silent": {"activation_layer": None},
    }
    model = nn.ModuleDict(
        {k: Conv2dNormActivation(4, 6, 3, **v) for k, v in parts.items()}
    ).double()
    model["bias"] = Conv2dNormActivation(4, 6, 3, norm_layer=None).double()
    fuse(model)
    assert [type(part) is ConvReLU for part in model.values()] == [True, False, False]
    x = torch.randn(2, 4, 5, 5).double()
    got = _results(model["bias"], x)
    assert kernels == ["relu"]
    monkeypatch.setattr(fused, "fused_dtype", lambda x: None)
    torch.testing.assert_close(got, _results(model["bias"], x))


def test_modules_with_hooks_are_called(kernels):
    stage, seen = _stage(), []
    stage[1].bn3.register_forward_hook(lambda *_: seen.append("norm"))
    stage[1].conv1.register_forward_pre_hook(lambda *_: seen.append("convolution"))
    stage(torch.randn(2, 256, 6, 5).double())
    assert seen == ["convolution", "norm"]
    assert len(kernels) == 4


def test_folded_weights_follow_every_change(kernels, monkeypatch):
    """They are kept between calls, also between inference and training."""
    stage, x = _stage(), torch.randn(2, 256, 6, 5).double()

    def change(step):
        block = stage[1]
        if step == 1:
            block.bn1.running_var.mul_(2)
        elif step == 2:
            with torch.no_grad():
                block.conv1.weight.add_(1)
        elif step == 3:
            block.bn3.bias = torch.ones_like(block.bn3.bias)
        elif step == 4:
            block.load_state_dict({k: v * 0.5 for k, v in block.state_dict().items()})
        elif step == 5:
            block.conv3.weight = nn.Parameter(block.conv3.weight.detach() * 3)

    for step in range(6):
        change(step)
        fresh = copy.deepcopy(stage)
        with torch.inference_mode():
            got = stage(x)
        with monkeypatch.context() as patch:
            patch.setattr(fused, "fused_dtype", lambda x: None)
            torch.testing.assert_close(got.clone(), fresh(x).detach())
            wanted = _results(fresh, x)
        torch.testing.assert_close(_results(stage, x), wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kernels_of_cudnn(monkeypatch, kind, dtype):
    """Half types stay as near to float64 as the modules one by one."""
    stage = _stage(kind).cuda().to(memory_format=torch.channels_last)
    x = torch.randn(2, 256, 30, 27, device="cuda").double().to(memory_format=torch.channels_last)
    exact = _results(stage, x)
    stage.float()
    calls = []
    apply = fused._ConvReLU.apply
    monkeypatch.setattr(fused._ConvReLU, "apply", lambda *a: calls.append(1) or apply(*a))
    with torch.autocast("cuda", dtype):
        got = _results(stage, x.to(dtype))
    assert len(calls) == (6 if kind == "plain" else 4)
    monkeypatch.setattr(fused, "fused_dtype", lambda x: None)
    with torch.autocast("cuda", dtype):
        usual = _results(stage, x.to(dtype))
    for name, wanted in exact.items():
        error, before = ((r[name].double() - wanted).norm() for r in (got, usual))
        assert error <= 1.5 * before + torch.finfo(dtype).eps / 2 * wanted.norm(), name
