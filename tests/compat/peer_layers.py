# SPDX-License-Identifier: BSD-3-Clause
"""Stand-ins for other projects' layers: their names, arguments, attributes and state_dict.

What they compute is torchvision's operator, which shares no code with ours. Written from the
documented layouts; a class here stands for the project that its namespace is named after.
"""

import torch
import torchvision
from torch import nn
from torch.nn.modules.utils import _pair


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
