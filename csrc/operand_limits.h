// SPDX-License-Identifier: BSD-3-Clause
// The values that options and sizes may take. dcnv2/ops/operand_limits.py is the same table for
// Python, which must work without a compiled library; tests/ops/test_checks.py compares the two.
#pragma once

#include <cstdint>

namespace dcnv2 {

template <class T>
struct Limit {
  const char* name;  // as in the operators' schemas
  T least, most;
};

// Products of two such options do not overflow 64 bits.
constexpr Limit<int64_t> kStride{"stride", 1, 2147483647};
constexpr Limit<int64_t> kPadding{"padding", 0, 2147483647};
constexpr Limit<int64_t> kDilation{"dilation", 1, 2147483647};
constexpr Limit<int64_t> kOutputSize{"output_size", 1, 2147483647};
constexpr Limit<int64_t> kGroupSize{"group_size", 1, 1048576};
constexpr Limit<int64_t> kPartSize{"part_size", 1, 1048576};
constexpr Limit<int64_t> kSamplingRatio{"sampling_ratio", 0, 65536};
constexpr Limit<int64_t> kSamplePerPart{"sample_per_part", 1, 65536};
constexpr Limit<int64_t> kMaxOut{"max_out", 1, 2147483647};

// Kernels compute in float32: numbers that overflow there are refused, and scales that vanish.
constexpr Limit<double> kSpatialScale{"spatial_scale", 1.1754943508222875e-38,
                                      3.4028234663852886e+38};
constexpr Limit<double> kGamma{"gamma", -3.4028234663852886e+38, 3.4028234663852886e+38};
constexpr Limit<double> kTransStd{"trans_std", -3.4028234663852886e+38, 3.4028234663852886e+38};
constexpr Limit<double> kIouThreshold{"iou_threshold", 0.0, 1.0};

// Pixel indices are int, and so is the one past the last pixel.
constexpr Limit<int64_t> kInputSide{"input", 0, 2147483646};
constexpr Limit<int64_t> kWeightAxis{"weight", 1, 2147483647};

}  // namespace dcnv2
