# SPDX-License-Identifier: BSD-3-Clause
"""Stand-ins for other projects' layers: their names, arguments, attributes and state_dict.

What they compute is torchvision's operator, or the reference's RoI poolings, which share no code
with ours. Written from the documented layouts; a class here stands for the project that its
namespace is named after.
"""

from itertools import pairwise

import torch
import torchvision
from torch import nn
from torch.nn.modules.utils import _pair

import reference


def sample(layer, x, offset, mask):
    """torchvision's operator with a layer's options."""
    return torchvision.ops.deform_conv2d(
        x, offset, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, mask
    )


def split_thirds(planes):
    """Offsets and mask from a branch of 3*G*K channels, as everybody writes it."""
    first, second, logits = torch.chunk(planes, 3, dim=1)
    return torch.cat((first, second), dim=1), torch.sigmoid(logits)


class _Layer(nn.Module):
    groups_name = "deform_groups"
    fields = 3

    def __init__(self, cin, cout, size, stride=1, padding=0, dilation=1, groups=1, dg=1, bias=True):
        super().__init__()
        self.in_channels, self.out_channels, self.groups = cin, cout, groups
        self.kernel_size, self.stride = _pair(size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        setattr(self, self.groups_name, dg)
        self.weight = nn.Parameter(torch.randn(cout, cin // groups, *self.kernel_size) * 0.2)
        self.bias = nn.Parameter(torch.randn(cout)) if bias else None

    def branch(self, follow_dilation=True):
        """The convolution that predicts, with weights that move something."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        channels = self.fields * getattr(self, self.groups_name) * taps
        dilation = self.dilation if follow_dilation else 1
        options = (self.kernel_size, self.stride, self.padding, dilation)
        conv = nn.Conv2d(self.in_channels, channels, *options)
        nn.init.normal_(conv.weight, std=0.2)
        nn.init.normal_(conv.bias, std=0.2)
        return conv


def _fully_connected(*widths):
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class mmcv:  # noqa: N801 - named after the project, as those below
    """mmcv.ops."""

    class DeformConv2d(_Layer):
        fields = 2

        def __init__(self, *args, bias=False, im2col_step=32, **options):
            super().__init__(*args, bias=False, **options)
            self.im2col_step = im2col_step

        def forward(self, x, offset):
            return sample(self, x, offset, None)

    class DeformConv2dPack(DeformConv2d):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.conv_offset = self.branch()

        def forward(self, x):
            return sample(self, x, self.conv_offset(x), None)

    class ModulatedDeformConv2d(_Layer):
        def forward(self, x, offset, mask):
            return sample(self, x, offset, mask)

    class ModulatedDeformConv2dPack(ModulatedDeformConv2d):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.conv_offset = self.branch()

        def forward(self, x):
            return sample(self, x, *split_thirds(self.conv_offset(x)))

    class SecondOrderAlignment(ModulatedDeformConv2d):
        """A subclass with a forward of its own, as BasicVSR++ has one."""

        def forward(self, x, flow, mask):
            return super().forward(x, flow.repeat(1, 9, 1, 1), mask)

    class DeformRoIPool(nn.Module):
        def __init__(self, output_size, spatial_scale=1.0, sampling_ratio=0, gamma=0.1):
            super().__init__()
            self.output_size, self.spatial_scale = _pair(output_size), float(spatial_scale)
            self.sampling_ratio, self.gamma = int(sampling_ratio), float(gamma)

        def forward(self, x, rois, offset=None):
            options = (self.output_size, self.spatial_scale, self.sampling_ratio, self.gamma)
            return reference.deform_roi_pool(x, rois, offset, None, *options)

    class DeformRoIPoolPack(DeformRoIPool):
        def __init__(self, output_size, output_channels, deform_fc_channels=1024, *options):
            super().__init__(output_size, *options)
            self.output_channels, self.deform_fc_channels = output_channels, deform_fc_channels
            bins, width = self.output_size[0] * self.output_size[1], deform_fc_channels
            self.offset_fc = _fully_connected(bins * output_channels, width, width, 2 * bins)

        def offsets(self, seen):
            return self.offset_fc(seen.flatten(1)).view(-1, 2, *self.output_size)

        def forward(self, x, rois):
            return super().forward(x, rois, self.offsets(super().forward(x, rois)))

    class ModulatedDeformRoIPoolPack(DeformRoIPoolPack):
        def __init__(self, *options):
            super().__init__(*options)
            bins = self.output_size[0] * self.output_size[1]
            self.mask_fc = _fully_connected(
                bins * self.output_channels, self.deform_fc_channels, bins
            ).append(nn.Sigmoid())

        def forward(self, x, rois):
            pool = super(mmcv.DeformRoIPoolPack, self).forward
            seen = pool(x, rois)
            mask = self.mask_fc(seen.flatten(1)).view(-1, 1, *self.output_size)
            return pool(x, rois, self.offsets(seen)) * mask


class detectron2:  # noqa: N801
    """detectron2.layers, and the deformable bottleneck of its ResNet."""

    class DeformConv(_Layer):
        groups_name, fields = "deformable_groups", 2

        def __init__(self, *args, norm=None, activation=None, bias=False, **options):
            super().__init__(*args, bias=False, **options)
            self.norm, self.activation = norm, activation

        def forward(self, x, offset):
            return self.finish(sample(self, x, offset, None))

        def finish(self, x):
            x = x if self.norm is None else self.norm(x)
            return x if self.activation is None else self.activation(x)

    class ModulatedDeformConv(DeformConv):
        def forward(self, x, offset, mask):
            return self.finish(sample(self, x, offset, mask))

    class DeformBottleneckBlock(nn.Module):
        def __init__(self, channels, modulated, groups, dg):
            super().__init__()
            kind = detectron2.ModulatedDeformConv if modulated else detectron2.DeformConv
            self.deform_modulated = modulated
            self.conv1 = nn.Conv2d(channels, channels, 1)
            self.conv2_offset = nn.Conv2d(channels, (27 if modulated else 18) * dg, 3, padding=1)
            nn.init.normal_(self.conv2_offset.weight, std=0.2)
            norm = nn.BatchNorm2d(channels)
            options = {"padding": 1, "groups": groups, "dg": dg, "norm": norm}
            self.conv2 = kind(channels, channels, 3, activation=torch.relu, **options)
            self.conv3 = nn.Conv2d(channels, channels, 1)

        def forward(self, x):
            out = torch.relu(self.conv1(x))
            if self.deform_modulated:
                out = self.conv2(out, *split_thirds(self.conv2_offset(out)))
            else:
                out = self.conv2(out, self.conv2_offset(out))
            return torch.relu(self.conv3(out) + x)


class basicsr:  # noqa: N801
    """BasicSR, EDVR and chengdazhi's repository."""

    class ModulatedDeformConv(_Layer):
        groups_name = "deformable_groups"

        def forward(self, x, offset, mask):
            return sample(self, x, offset, mask)

    class ModulatedDeformConvPack(ModulatedDeformConv):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.conv_offset = self.branch()

        def forward(self, x):
            return sample(self, x, *split_thirds(self.conv_offset(x)))

    class DCNv2Pack(ModulatedDeformConvPack):
        def forward(self, x, feat):
            return sample(self, x, *split_thirds(self.conv_offset(feat)))

    class DeformConv(_Layer):
        groups_name, fields = "deformable_groups", 2

        def forward(self, x, offset):
            return sample(self, x, offset, None)

    class DeformConvPack(DeformConv):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.conv_offset = self.branch()

        def forward(self, x):
            return sample(self, x, self.conv_offset(x), None)


class dcn_v2:  # noqa: N801
    """CharlesShang's module: no groups, stride and padding required, always a bias."""

    class DCNv2(nn.Module):
        def __init__(
            self, cin, cout, kernel_size, stride, padding, dilation=1, deformable_groups=1
        ):
            super().__init__()
            self.in_channels, self.out_channels = cin, cout
            self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
            self.padding, self.dilation = _pair(padding), _pair(dilation)
            self.deformable_groups = deformable_groups
            self.weight = nn.Parameter(torch.randn(cout, cin, *self.kernel_size) * 0.2)
            self.bias = nn.Parameter(torch.randn(cout))

        def forward(self, input, offset, mask):
            return sample(self, input, offset, mask)

    class DCN(DCNv2):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            taps = self.kernel_size[0] * self.kernel_size[1]
            channels = 3 * self.deformable_groups * taps
            self.conv_offset_mask = nn.Conv2d(
                self.in_channels, channels, self.kernel_size, self.stride, self.padding
            )
            nn.init.normal_(self.conv_offset_mask.weight, std=0.2)

        def forward(self, input):
            return sample(self, input, *split_thirds(self.conv_offset_mask(input)))

    class DCNv2Pooling(nn.Module):
        def __init__(
            self, spatial_scale, pooled_size, output_dim, no_trans, group_size=1, part_size=None,
            sample_per_part=4, trans_std=0.0,
        ):  # fmt: skip
            super().__init__()
            self.spatial_scale, self.pooled_size = spatial_scale, pooled_size
            self.output_dim, self.no_trans, self.group_size = output_dim, no_trans, group_size
            self.part_size = pooled_size if part_size is None else part_size
            self.sample_per_part, self.trans_std = sample_per_part, trans_std

        def pool(self, x, rois, offset):
            options = (self.part_size, self.sample_per_part, self.trans_std)
            sizes = (self.pooled_size, self.spatial_scale, self.group_size)
            return reference.deform_psroi_pool(x, rois, offset, None, *sizes, *options)

        def forward(self, x, rois, offset):
            return self.pool(x, rois, None if self.no_trans else offset)

    class DCNPooling(DCNv2Pooling):
        def __init__(self, *options, deform_fc_dim=1024):
            super().__init__(*options)
            self.deform_fc_dim = deform_fc_dim
            bins = self.pooled_size**2
            widths = (bins * self.output_dim, deform_fc_dim, deform_fc_dim, 3 * bins)
            self.offset_mask_fc = _fully_connected(*widths)

        def forward(self, x, rois):
            seen = self.pool(x, rois, None).flatten(1)
            planes = self.offset_mask_fc(seen).view(-1, 3, self.pooled_size, self.pooled_size)
            first, second, logits = torch.chunk(planes, 3, dim=1)
            offset = torch.cat((first, second), dim=1)
            return self.pool(x, rois, offset) * torch.sigmoid(logits)
