# SPDX-License-Identifier: BSD-3-Clause
"""In a training step the host never waits for the device: nothing that it does follows from values.

The forward pass runs on fake CUDA tensors, which have shapes and no values. An operator that would
have to wait (`item`, `nonzero`, an index of bools, ...) raises; copies from memory that is not
page-locked, and copies to the host, are counted.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys import total, toy_config, toy_images, toy_targets

from dcnv2.models import build_model
from dcnv2.structures import RunLengthMasks

ATEN = torch.ops.aten


class Host(TorchDispatchMode):
    """Computes with the host's own tensors for real, and notes the copies that the host waits for.

    To be entered inside of a `FakeTensorMode`, which computes everything else.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.pinned = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_device = any(isinstance(x, FakeTensor) for x in tensors)
        if function is ATEN._pin_memory.default:
            self.pinned.append(args[0])  # as if it were page-locked
            return args[0]
        device = kwargs.get("device")
        if not on_device and (device is None or torch.device(device).type == "cpu"):
            with unset_fake_temporarily():
                return function(*args, **kwargs)
        result = function(*args, **kwargs)
        if function in (ATEN.copy_.default, ATEN._to_copy.default):
            source = tensors[-1]
            kinds = source.device.type, result.device.type
            free = kwargs.get("non_blocking", False) and any(source is p for p in self.pinned)
            if "cuda" in kinds and "cpu" in kinds and not free:
                self.waits.append(f"{function} {list(source.shape)} from {kinds[0]} to {kinds[1]}")
        return result


def _forward(model, images, targets):
    """Runs a training step's forward pass on fake CUDA tensors; returns what the host waits for."""
    with FakeTensorMode(allow_non_fake_inputs=True), Host() as host:
        images = [image.to("cuda") for image in images]
        model.to("cuda")
        for _ in range(2):  # anchors are kept from the first
            host.waits.clear()
            model(images, targets)
    return host.waits


FPN = {"arch": "resnet50", "topology": "fpn", "norm": "frozen"}


@pytest.mark.parametrize(
    ("form", "masks", "changes"),
    [
        ({}, "runs", {"mimic.enabled": True, "box.ohem.kind": "image"}),
        pytest.param({}, "runs", {"box.ohem.kind": "batch"}, marks=pytest.mark.slow),
        pytest.param({}, "dense", {}, marks=pytest.mark.slow),
        pytest.param({"pool": "align", **FPN}, "runs", {}, marks=pytest.mark.slow),
    ],
)
def test_the_host_does_not_wait_in_the_forward_pass(shallow, form, masks, changes):
    config = toy_config(**form)
    for name, value in changes.items():
        part, _, field = name.rpartition(".")
        options = config
        for word in part.split("."):
            options = getattr(options, word)
        setattr(options, field, value)
    images = [(255 * image).byte() for image in toy_images()]
    targets = toy_targets(images)
    targets[0]["iscrowd"] = torch.tensor([0, 1])
    if masks == "runs":
        for target in targets:
            target["masks"] = RunLengthMasks.from_dense(target["masks"])
    assert _forward(build_model(config), images, targets) == []


class Questions(TorchDispatchMode):
    """Counts the operators that would ask a device for values."""

    kinds = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split("::")[-1].split(".")[0]
        bools = name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in self.kinds or bools:
            self.asked.append(name)
        return function(*args, **(kwargs or {}))


def test_the_host_does_not_wait_in_the_backward_pass():
    config = toy_config()
    config.mimic.enabled, config.mimic.crop_size = True, 32
    model, images = build_model(config), toy_images()
    loss = total(model(images, toy_targets(images)))
    with Questions() as questions:
        loss.backward()
    assert questions.asked == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("arch", "pool"), [("small", "mdpool"), ("resnet50", "align")])
def test_the_host_does_not_wait_on_a_gpu(arch, pool):
    config = toy_config(pool, arch=arch, topology="fpn")
    config.mimic.enabled, config.mimic.crop_size = True, 32
    model = build_model(config).cuda()
    images = [image.cuda() for image in toy_images()]
    targets = toy_targets(images)
    for step in range(2):
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            with torch.autocast("cuda", torch.bfloat16):
                losses = model(images, targets)
            total(losses).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
