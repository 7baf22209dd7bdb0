// SPDX-License-Identifier: BSD-3-Clause
// The element types of the kernels, without torch.
#pragma once

namespace dcnv2 {

enum class Dtype { kFloat64, kFloat32, kFloat16, kBFloat16 };

}  // namespace dcnv2
