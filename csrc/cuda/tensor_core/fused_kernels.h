// SPDX-License-Identifier: BSD-3-Clause
// For the plans of the fused kernels: which tile and which instruction a kernel uses, and its launch.
#pragma once

#include "cuda/dispatch/launch.h"
#include "cuda/sample_sort/split_cells.cuh"
#include "cuda/tensor_core/kernel_launch.cuh"
#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/split_k_plan.h"

namespace dcnv2::cuda {

// ---- Tile

// Chips with less shared memory than this use the narrowest tile only.
constexpr int kWideTileBytes = 144 << 10;

// Widest N tile that adds no padding; 64 if N <= 64, if rows cannot share sample addresses, or if
// shared memory is small.
inline int tile_cols(const ConvArgs& a, Path path, int64_t cols, bool share_addresses) {
  if (cols <= 64 || !share_addresses || shared_limit() < kWideTileBytes) return 64;
  if (path == Path::kMma || a.dtype == Dtype::kFloat32) return 128;
  return ceil_div(cols, 256) * 256 <= ceil_div(cols, 128) * 128 ? 256 : 128;
}

// Whether no shared-memory row, of `row_channels` channels, spans two deform groups, so that all
// lanes of a row need the same address.
inline bool rows_share_addresses(const ConvGeometry& g, int row_channels) {
  return g.deform_channels() % g.group_in() == 0 ||
         (g.deform_channels() % row_channels == 0 && g.group_in() % g.deform_channels() == 0);
}

// ---- Instruction

inline bool uses_wgmma_tf32(const ConvArgs& a, Path path) {
  return a.dtype == Dtype::kFloat32 && path == Path::kWgmma;
}

// The form in which the kernels read the packed weight.
inline OperandForm operand_form(const ConvArgs& a, Path path) {
  const bool split = uses_wgmma_tf32(a, path);
  return {split && !a.allow_tf32 ? 2 : 1, split};
}

// Calls f with the instruction (instruction.h) of a path.
template <class F>
auto with_instruction(const ConvArgs& a, Path path, F f) {
  if (path == Path::kMma) return f(ByMmaSync{});
  return uses_wgmma_tf32(a, path) ? f(ByWgmmaTf32{}) : f(ByWgmma{});
}

// ---- Launches, defined in fused_X.cuh for the instructions of fused_X_*.cu

template <class Instruction>
void launch_fused_forward(const ConvArgs& a, const PackedWeight& packed, const void* weight,
                          bool share_addresses, cudaStream_t stream);
// Of the images of the lists, which begin at `grad_output` and `grad_input`.
template <class Instruction>
void launch_fused_grad_input(const ConvArgs& a, const PackedWeight& packed, const void* weight,
                             const SampleLists<float>& lists, const OversizedCells& oversized,
                             const char* grad_output, void* grad_input, cudaStream_t stream);
// Writes the partial sums of the plan's blocks.
template <class Instruction>
void launch_fused_grad_weight(const ConvArgs& a, const SplitKPlan& plan, bool share_addresses,
                              void* workspace, cudaStream_t stream);

}  // namespace dcnv2::cuda
