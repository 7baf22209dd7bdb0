// SPDX-License-Identifier: BSD-3-Clause
// The instructions that math warps multiply with. A fused kernel has a translation unit for each of
// them, which includes the kernel and the header of that instruction. The header has functions
// dispatch_*_tile, which call f(Type<M>) with the math warps M for a problem.
#pragma once

#include <type_traits>

namespace dcnv2::cuda {

struct ByMmaSync {};  // mma_sync.cuh
struct ByWgmma {};  // wgmma.cuh: halves
struct ByWgmmaTf32 {};  // wgmma_tf32.cuh: floats

template <class T>
struct Type {
  using type = T;
};
template <int kValue>
using Int = std::integral_constant<int, kValue>;

}  // namespace dcnv2::cuda
