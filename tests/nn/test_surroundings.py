# SPDX-License-Identifier: BSD-3-Clause
"""What training code does round a module: activation checkpoints and wrappers."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack, ModulatedDeformRoIPoolPack

ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16]])


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = ModulatedDeformConv2dPack(4, 6, 3, padding=1, deform_groups=2)
        self.second = DeformConv2dPack(6, 4, 3, stride=2, padding=1)
        self.pool = ModulatedDeformRoIPoolPack(3, 4, 0.5, 2, hidden_channels=8)
        for name, parameter in self.named_parameters():
            if "conv_offset" in name or "offset_fc.4" in name:
                nn.init.normal_(parameter, std=0.3)

    def forward(self, x):
        return self.pool(self.second(self.first(x).relu()), ROIS)


def _input():
    return torch.randn(2, 4, 12, 15, generator=torch.Generator().manual_seed(1))


def _gradients(model, call=None):
    model.zero_grad()
    (call or model)(_input()).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_keeps_the_gradients(reentrant):
    model = _Net()
    wanted = _gradients(model)

    def call(x):
        return checkpoint(model, x.requires_grad_(), use_reentrant=reentrant)

    torch.testing.assert_close(_gradients(model, call), wanted, rtol=0, atol=0)


@pytest.fixture
def one_rank(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_distributed_data_parallel_trains_a_net(one_rank):
    model = _Net()
    wanted = _gradients(model)
    wrapped = DistributedDataParallel(copy.deepcopy(model))
    wrapped(_input()).square().sum().backward()
    found = {name: p.grad for name, p in wrapped.module.named_parameters()}
    torch.testing.assert_close(found, wanted)


def test_fully_sharded_data_parallel_trains_a_net(one_rank):
    model = _Net()
    wanted = _gradients(model)
    sharded = copy.deepcopy(model)
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    for layer in (sharded.first, sharded.second, sharded):
        fully_shard(layer, mesh=mesh)
    optimizer = torch.optim.SGD(sharded.parameters(), lr=0.1)
    sharded(_input()).square().sum().backward()
    found = {name: p.grad.full_tensor() for name, p in sharded.named_parameters()}
    torch.testing.assert_close(found, wanted)
    optimizer.step()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.sub_(0.1 * wanted[name])
    torch.testing.assert_close(sharded(_input()), model(_input()))
