# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the SIMT kernels of the CUDA library, which support every problem."""

from suites.mutants.patches import EQUALS, FAR, POOL, TILES, Patch

_COMMON = "common.cuh"
_FORWARD = "forward.cu"
_GRAD_OFFSET_MASK = "grad_offset_mask.cu"
_GRAD_WEIGHT = "grad_weight.cu"
_ROI_TILES = "roi_tiles.cu"


def _file(name, file, old, new, detected_by=EQUALS, built=None) -> Patch:
    return Patch(name, f"cuda/{file}", old, new, detected_by, cuda=(built or file,))


CUDA = [
    _file(
        "y and x of an offset exchanged",
        _COMMON,
        "dy, dx, a.g.height,",
        "dx, dy, a.g.height,",
        built=_FORWARD,
    ),
    _file(
        "mask never applied",
        "sampled_value.cuh",
        "return mask * interpolate(s, v);",
        "return interpolate(s, v);",
        built=_FORWARD,
    ),
    _file(
        "mask read at channel `deform_group`",
        _COMMON,
        "a.mask.index(p.n, channel, p.y, p.x)",
        "a.mask.index(p.n, deform_group, p.y, p.x)",
        built=_FORWARD,
    ),
    _file(
        "coordinates rounded to float16",
        _COMMON,
        "dy, dx, a.g.height,",
        "dy, Acc(__half2float(__float2half_rn(float(a.g.tap_x(p.x, tap)) + float(dx)))) - "
        "Acc(a.g.tap_x(p.x, tap)), a.g.height,",
        FAR,
        built=_FORWARD,
    ),
    _file(
        "bias of the first weight group used for all",
        _FORWARD,
        "widen(bias[channel * a.bias_stride])",
        "widen(bias[o * a.bias_stride])",
    ),
    _file(
        "first weight group's channels multiplied for every group",
        _FORWARD,
        "group * channels + k % channels);",
        "k % channels);",
    ),
    _file(
        "kernel transposed",
        _FORWARD,
        """weight.index(group * outputs + o, k % channels, tap / g.kernel_w,
                                             tap % g.kernel_w)""",
        """weight.index(group * outputs + o, k % channels, tap % g.kernel_h,
                                             tap / g.kernel_h)""",
    ),
    _file(
        "__syncthreads() missing after tiles are stored",
        "tile_product.cuh",
        """      tile_b[k][c] = ok ? b(depth0 + k, col0 + c) : Acc(0);
    }
    __syncthreads();""",
        """      tile_b[k][c] = ok ? b(depth0 + k, col0 + c) : Acc(0);
    }""",
        built=_FORWARD,
    ),
    _file(
        "grad_input: mask dropped",
        "sample_lists.cu",
        "mask * c.weight[corner]",
        "c.weight[corner]",
    ),
    _file(
        "grad_input without the fourth corner",
        "grad_input.cu",
        "for (int corner = 0; corner < 4; ++corner) {",
        "for (int corner = 0; corner < 3; ++corner) {",
    ),
    _file(
        "grad_offset: mask dropped",
        _GRAD_OFFSET_MASK,
        "mask[i] * slope_y(sample[i], dot[i])",
        "slope_y(sample[i], dot[i])",
    ),
    _file(
        "grad_offset: slope along x used for y",
        _GRAD_OFFSET_MASK,
        "mask[i] * slope_y(sample[i], dot[i])",
        "mask[i] * slope_x(sample[i], dot[i])",
    ),
    _file(
        "grad_offset: warp reduction without its first step",
        _GRAD_OFFSET_MASK,
        "for (int step = 8; step > 0; step /= 2) v +=",
        "for (int step = 4; step > 0; step /= 2) v +=",
        TILES,
    ),
    _file(
        "grad_weight only of the last split",
        _GRAD_WEIGHT,
        "sum += partial[((split * groups",
        "sum = partial[((split * groups",
        "test_conv_definition.py::test_many_samples_of_one_pixel_add_up",
    ),
    _file(
        "grad_weight written to the first weight group",
        _GRAD_WEIGHT,
        "group * outputs + o]);",
        "o]);",
    ),
    _file(
        "grad_bias of one row of pixels in 32",
        _GRAD_WEIGHT,
        "for (int row = 1; row < kBiasRows; ++row) total +=",
        "for (int row = 1; row < 1; ++row) total +=",
    ),
    _file(
        "pooling: mask dropped",
        "roi_pool.cu",
        "value[k] = mask * sums.value[k] / divisor;",
        "value[k] = sums.value[k] / divisor;",
        POOL,
    ),
    _file(
        "pooling: x and y of an offset exchanged",
        "roi_bin.cuh",
        """offset_x = load_as<Acc>(a.offset.data, a.offset.dtype, at);
      offset_y =""",
        """offset_y = load_as<Acc>(a.offset.data, a.offset.dtype, at);
      offset_x =""",
        POOL,
        "roi_pool.cu",
    ),
    _file(
        "pooling: gradients of all RoIs added to every image",
        _ROI_TILES,
        "roi.image == tile.image &&",
        "roi.image >= 0 &&",
        POOL,
    ),
    _file(
        "pooling: no gradient at the last pixel of an axis",
        _ROI_TILES,
        "if (s.high == at) sum += s.frac;",
        "if (s.high == at && s.high != size - 1) sum += s.frac;",
        POOL,
    ),
    _file(
        "pooling: row weights of the first tile used for all",
        _ROI_TILES,
        "(of.y, tile.y + line, g.height)",
        "(of.y, line, g.height)",
        POOL,
    ),
]
