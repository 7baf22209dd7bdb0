# SPDX-License-Identifier: BSD-3-Clause
"""Faults in the kernels of the CUDA library: the SIMT ones, which take every problem."""

from suites.mutants.patches import EQUALS, POOL, TILES, Patch


def _file(name, file, old, new, detected_by=EQUALS, built=None) -> Patch:
    return Patch(name, f"cuda/{file}", old, new, detected_by, cuda=(built or file,))


CUDA = [
    _file(
        "y and x of an offset exchanged",
        "common.cuh",
        "Acc(a.g.tap_y(p.y, tap)) + dy, Acc(a.g.tap_x(p.x, tap)) + dx",
        "Acc(a.g.tap_y(p.y, tap)) + dx, Acc(a.g.tap_x(p.x, tap)) + dy",
        built="forward.cu",
    ),
    _file(
        "mask never applied",
        "sampled_value.cuh",
        "return mask * interpolate(s, v);",
        "return interpolate(s, v);",
        built="forward.cu",
    ),
    _file(
        "mask read at the offset's channel",
        "common.cuh",
        "a.mask.index(p.n, channel, p.y, p.x)",
        "a.mask.index(p.n, deform_group, p.y, p.x)",
        built="forward.cu",
    ),
    _file(
        "an offset of a half type rounds the coordinate",
        "common.cuh",
        "Acc(a.g.tap_x(p.x, tap)) + dx",
        "Acc(__half2float(__float2half_rn(float(a.g.tap_x(p.x, tap)) + float(dx))))",
        "test_conv_definition.py::test_coordinates_are_exact_far_from_the_origin",
        built="forward.cu",
    ),
    _file(
        "bias of the first group for all",
        "forward.cu",
        "widen(bias[channel * a.bias_stride])",
        "widen(bias[o * a.bias_stride])",
    ),
    _file(
        "every weight group multiplies the first group's channels",
        "forward.cu",
        "group * channels + k % channels);",
        "k % channels);",
    ),
    _file(
        "kernel transposed",
        "forward.cu",
        """weight.index(group * outputs + o, k % channels, tap / g.kernel_w,
                                           tap % g.kernel_w)""",
        """weight.index(group * outputs + o, k % channels, tap % g.kernel_h,
                                           tap / g.kernel_h)""",
    ),
    _file(
        "one barrier too few",
        "tile_product.cuh",
        """      tile_b[k][c] = ok ? b(depth0 + k, col0 + c) : Acc(0);
    }
    __syncthreads();""",
        """      tile_b[k][c] = ok ? b(depth0 + k, col0 + c) : Acc(0);
    }""",
        built="forward.cu",
    ),
    _file(
        "mask left out of the input's gradient",
        "sample_lists.cu",
        "mask * c.weight[corner]",
        "c.weight[corner]",
    ),
    _file(
        "input's gradient of the first three corners alone",
        "grad_input.cu",
        "for (int corner = 0; corner < 4; ++corner) {",
        "for (int corner = 0; corner < 3; ++corner) {",
    ),
    _file(
        "mask left out of the offset's gradient",
        "grad_offset_mask.cu",
        "mask[i] * slope_y(sample[i], dot[i])",
        "slope_y(sample[i], dot[i])",
    ),
    _file(
        "gradient along y is that along x",
        "grad_offset_mask.cu",
        "at, mask[i] * slope_y(sample[i], dot[i])",
        "at, mask[i] * slope_x(sample[i], dot[i])",
    ),
    _file(
        "dot products of half the channels of a tile",
        "grad_offset_mask.cu",
        "for (int step = 8; step > 0; step /= 2) v +=",
        "for (int step = 4; step > 0; step /= 2) v +=",
        TILES,
    ),
    _file(
        "weight's gradient of the last run alone",
        "grad_weight.cu",
        "sum += partial[((split * groups",
        "sum = partial[((split * groups",
        "test_conv_definition.py::test_many_samples_of_one_pixel_add_up",
    ),
    _file(
        "weight's gradient of the first weight group for all",
        "grad_weight.cu",
        "group * outputs + o]);",
        "o]);",
    ),
    _file(
        "bias's gradient of one pixel in 32",
        "grad_weight.cu",
        "for (int row = 1; row < kBiasRows; ++row) total +=",
        "for (int row = 1; row < 1; ++row) total +=",
    ),
    _file(
        "mask of a pooling left out",
        "roi_pool.cu",
        "value[k] = mask * sums.value[k] / divisor;",
        "value[k] = sums.value[k] / divisor;",
        POOL,
    ),
    _file(
        "x and y of a bin's offset exchanged",
        "roi_bin.cuh",
        """offset_x = load_as<Acc>(a.offset.data, a.offset.dtype, at);
      offset_y =""",
        """offset_y = load_as<Acc>(a.offset.data, a.offset.dtype, at);
      offset_x =""",
        POOL,
        "roi_pool.cu",
    ),
    _file(
        "every image gets the gradients of all regions",
        "roi_tiles.cu",
        "roi.image == tile.image &&",
        "roi.image >= 0 &&",
        POOL,
    ),
    _file(
        "last pixel of a bin gets no gradient",
        "roi_tiles.cu",
        "if (s.high == at) sum += s.frac;",
        "if (s.high == at && s.high != size - 1) sum += s.frac;",
        POOL,
    ),
    _file(
        "rows of every tile weighed as those of the first",
        "roi_tiles.cu",
        "(of.y, tile.y + line, g.height)",
        "(of.y, line, g.height)",
        POOL,
    ),
]
