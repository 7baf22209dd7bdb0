// SPDX-License-Identifier: BSD-3-Clause
// Which problems the kernel of fused_grad_offset_mask.cuh supports, and its launch.
#include "cuda/tensor_core/columns.cuh"
#include "cuda/tensor_core/fused_kernels.h"
#include "cuda/tensor_core/pack_weight.cuh"

namespace dcnv2::cuda {

namespace {

// Whether wgmma multiplies floats: shared memory must hold grad_output and both splits of the
// weight.
bool floats_fit_warpgroups(const ConvArgs& a, Path path) {
  return uses_wgmma_tf32(a, path) && column_block_groups(a) * a.g.group_out() <= 2 * kFewOutputs;
}

template <class F>
auto with_column_instruction(const ConvArgs& a, Path path, F f) {
  const bool mma_sync = a.dtype == Dtype::kFloat32 && !floats_fit_warpgroups(a, path);
  return with_instruction(a, mma_sync ? Path::kMma : path, f);
}

}  // namespace

bool columns_fit(const ConvArgs& a, Path path) {
  const ConvGeometry& g = a.g;
  const int64_t vecs = deform_vecs(a);
  const bool lanes_fit = vecs == 1 || vecs == 2 || vecs == 4 || vecs == 8;
  const bool apart = one_group_per_tile(a, path);
  if (path == Path::kSimt || !(apart || lanes_fit)) return false;
  if (g.groups != 1 && g.group_in() % column_tile(a, path) != 0) return false;
  if (apart && a.grad_input != nullptr)
    return false;  // it is a GEMM of its own (fused_grad_input.cuh)
  if (a.merged_groups > 1 && a.grad_input != nullptr) return false;  // columns can't be mended
  const int grad_tiles = column_block_groups(a) * columns_weight(a, path).k_tiles;
  return with_column_instruction(
      a, path, [&](auto by) { return column_stages<decltype(by)>(a, path, grad_tiles) >= 2; });
}

PackedWeight columns_weight(const ConvArgs& a, Path path) {
  const OperandForm form = floats_fit_warpgroups(a, path) ? operand_form(a, path) : OperandForm{};
  return backward_weight(a, column_tile(a, path), form);
}

void launch_columns(const ConvArgs& a, const ImageRange& images, Path path,
                    const PackedWeight& packed, const void* weight, char* columns,
                    cudaStream_t stream) {
  with_column_instruction(a, path, [&](auto by) {
    launch_fused_columns<decltype(by)>(a, images, path, packed, weight, columns, stream);
  });
}

}  // namespace dcnv2::cuda
