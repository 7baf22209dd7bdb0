# SPDX-License-Identifier: BSD-3-Clause
"""Every public layer and function that takes tensors, with operands for it."""

import torch
from torch import nn

import dcnv2.nn
from dcnv2 import compat, ops
from dcnv2.compat import basicsr, dcnv2_pytorch, detectron2, mmcv

_GENERATOR = torch.Generator().manual_seed(0)


def _random(*size):
    return torch.randn(size, generator=_GENERATOR)


X = _random(2, 4, 9, 8)
OFFSET, MASK = _random(2, 18, 9, 8), _random(2, 9, 9, 8).sigmoid()
WEIGHT, BIAS = _random(6, 4, 3, 3), _random(6)
ROIS = torch.tensor([[0, 0, 0, 3, 3.0], [1, 2, 2, 7, 6.0]])
SHIFTS = _random(2, 2, 3, 3)
BOXES = _random(2, 5, 4)
COARSE, LEVELS = _random(2, 4, 5, 4), torch.tensor([1, -1])
CONV = {"kernel_size": 3, "stride": 1, "padding": 1}
_POOL, _AUTHORS = (3, 4), (0.5, 3, 4)


def _layers():
    """(class, layer, operands), several for a class that has branches of its own."""
    nets = dcnv2.nn
    for kind in (nets.DeformConv2d, mmcv.DeformConv2d, basicsr.DeformConv):
        yield kind, kind(4, 6, **CONV), (X, OFFSET)
    yield nets.DeformConv2d, nets.DeformConv2d(4, 6, bias=False, **CONV), (X, OFFSET, MASK)
    for kind in (mmcv.ModulatedDeformConv2d, basicsr.ModulatedDeformConv, dcnv2_pytorch.DCNv2):
        yield kind, kind(4, 6, **CONV), (X, OFFSET, MASK)
    for kind in (nets.DeformConv2dPack, nets.ModulatedDeformConv2dPack):
        yield kind, kind(4, 6, **CONV), (X,)
        yield kind, kind(4, 6, max_offset=2, deform_groups=2, **CONV), (X,)
    yield kind, kind(4, 6, mask_scale=2, **CONV), (X,)
    for kind in (mmcv.DeformConv2dPack, mmcv.ModulatedDeformConv2dPack, basicsr.DeformConvPack,
                 basicsr.ModulatedDeformConvPack, dcnv2_pytorch.DCN):  # fmt: skip
        yield kind, kind(4, 6, **CONV), (X,)
    yield basicsr.DCNv2Pack, basicsr.DCNv2Pack(4, 6, **CONV), (X, X.flip(0))
    after = {"norm": nn.BatchNorm2d(6), "activation": nn.ReLU()}
    yield detectron2.DeformConv, detectron2.DeformConv(4, 6, **CONV), (X, OFFSET)
    yield detectron2.DeformConv, detectron2.DeformConv(4, 6, **CONV, **after), (X, OFFSET)
    kind = detectron2.ModulatedDeformConv
    yield kind, kind(4, 6, **CONV, **after), (X, OFFSET, MASK)
    for kind in (nets.DeformRoIPoolPack, nets.ModulatedDeformRoIPoolPack,
                 nets.DeformPSRoIPoolPack, nets.ModulatedDeformPSRoIPoolPack):  # fmt: skip
        yield kind, kind(*_POOL, hidden_channels=8), (X, ROIS)
    for kind in (mmcv.DeformRoIPoolPack, mmcv.ModulatedDeformRoIPoolPack):
        yield kind, kind(*_POOL, 8), (X, ROIS)
    yield mmcv.DeformRoIPool, mmcv.DeformRoIPool(3), (X, ROIS)
    yield mmcv.DeformRoIPool, mmcv.DeformRoIPool(3), (X, ROIS, SHIFTS)
    for no_trans in (False, True):
        kind = dcnv2_pytorch.DCNv2Pooling
        yield kind, kind(*_AUTHORS, no_trans, trans_std=0.1), (X, ROIS, SHIFTS)
        kind = dcnv2_pytorch.DCNPooling
        yield kind, kind(*_AUTHORS, no_trans, trans_std=0.1, deform_fc_dim=8), (X, ROIS)


def layers():
    """A list of (name, layer in evaluation, operands); branches predict something."""
    found = []
    torch.manual_seed(0)
    for kind, layer, operands in _layers():
        for name, parameter in layer.named_parameters():
            if any(part in name for part in ("conv_offset", "offset_fc", "mask_fc")):
                nn.init.normal_(parameter, std=0.2)
        home = kind.__module__.removeprefix("dcnv2.")
        found.append((f"{home}.{kind.__name__}-{len(found)}", layer.eval(), operands))
    return found


FUNCTIONS = [
    (ops.deform_conv2d, (X, OFFSET, WEIGHT, BIAS, 1, (1, 1), [1, 1], MASK)),
    (ops.deform_roi_pool, (X, ROIS, SHIFTS, None, 3)),
    (ops.deform_psroi_pool, (X, ROIS, SHIFTS, None, (3, 3))),
    (ops.batched_nms, (BOXES, BOXES[..., 0], torch.zeros(2, 5, dtype=torch.int64), 0.5, 3)),
    (ops.multiscale_roi_align, ([X, COARSE], ROIS, [0.5, 0.25], (3, 3))),
    (ops.multiscale_roi_align, ([X, COARSE], ROIS, [0.5, 0.25], 3, 2, False, LEVELS)),
    (ops.fpn_levels, (ROIS[:, 1:], [0.5, 0.25])),
    (mmcv.deform_conv2d, (X, OFFSET, WEIGHT, 1, 1)),
    (mmcv.modulated_deform_conv2d, (X, OFFSET, MASK, WEIGHT, BIAS, 1, 1)),
    (mmcv.deform_roi_pool, (X, ROIS, torch.empty(0), 3)),
    (basicsr.deform_conv, (X, OFFSET, WEIGHT, 1, 1)),
    (basicsr.modulated_deform_conv, (X, OFFSET, MASK, WEIGHT, BIAS, 1, 1)),
    (dcnv2_pytorch.dcn_v2_conv, (X, OFFSET, MASK, WEIGHT, BIAS, 1, 1, 1, 1)),
    (dcnv2_pytorch.dcn_v2_pooling, (X, ROIS, SHIFTS, 1.0, 3, 4, False)),
]


def public_names():
    """Classes and functions of the public modules that take tensors."""
    modules = (dcnv2.nn, compat.mmcv, compat.basicsr, compat.detectron2, compat.dcnv2_pytorch)
    named = [getattr(module, name) for module in modules for name in module.__all__]
    functions = [getattr(ops, name) for name in ops.__all__ if "autocast" not in name]
    return {*named, *functions} - {mmcv.register}
