// SPDX-License-Identifier: BSD-3-Clause
// The plan of the gradient of the input by a matrix product. The kernel is in fused_grad_input.cuh.
#include <limits>

#include "cuda/common/vec16.cuh"
#include "cuda/dispatch/merge_groups.h"
#include "cuda/simt/simt.cuh"
#include "cuda/tensor_core/fused_kernels.h"
#include "cuda/tensor_core/pack_weight.cuh"

namespace dcnv2::cuda {

namespace {

// Whether no tile of `cols` columns has channels of two deform groups.
bool one_group_a_tile(const ConvGeometry& g, int cols) {
  return g.deform_channels() % g.group_in() == 0 ||
         (g.deform_channels() % cols == 0 && g.group_in() % g.deform_channels() == 0);
}

int grad_input_cols(const ConvArgs& a, Path path) {
  const int cols = tile_cols(a, path, a.g.group_in(), true);
  return one_group_a_tile(a.g, cols) ? cols : 64;
}

// The product for the images of some lists, from image `first` on.
void launch_images(const ConvArgs& a, Path path, const PackedWeight& packed, int64_t first,
                   int64_t images, const PassMemory& memory, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const int64_t size = int64_t(element_size(a.dtype));
  const auto lists = build_sample_lists<float>(a, first, images, memory.workspace, stream);
  const char* grad_output = static_cast<const char*>(a.grad_output) +
                            first * g.out_height * g.out_width * g.out_channels * size;
  const OversizedCells oversized =
      sum_oversized_cells(lists, a.dtype, grad_output, g.out_channels, stream);
  void* grad_input =
      static_cast<char*>(a.grad_input) + first * g.height * g.width * g.in_channels * size;
  with_instruction(a, path, [&](auto by) {
    launch_fused_grad_input<decltype(by)>(a, packed, memory.weight, lists, oversized, grad_output,
                                          grad_input, stream);
  });
  if (a.merged_groups == 1) return;
  dispatch_vec16(a.dtype, [&](auto element) {
    launch_simt_grad_input<decltype(element)>(unmerge_groups(a), first, images, lists, stream);
  });
}

// Whether vector indices of grad_output, of the images of some lists, fit 32 bits.
bool vecs_fit(const ConvArgs& a) {
  const int64_t bytes = images_per_pass(a.g) * a.g.out_height * a.g.out_width * a.g.out_channels *
                        int64_t(element_size(a.dtype));
  return bytes / kVec16Bytes <= std::numeric_limits<uint32_t>::max();
}

}  // namespace

std::optional<PassPlan> plan_fused_grad_input(const ConvArgs& a, Path path) {
  if (path == Path::kSimt || !one_group_a_tile(a.g, grad_input_cols(a, path)) || !vecs_fit(a)) {
    return std::nullopt;
  }
  const PackedWeight packed = backward_weight(a, grad_input_cols(a, path), operand_form(a, path));
  const int64_t images = images_per_pass(a.g);  // that the lists take at a time
  return PassPlan{
      .pass = "grad_input",
      .path = path,
      .tile_cols = packed.tile_cols,
      .weight = plan_weight(a, packed),
      .workspace = size_t(sample_lists_workspace(a.g, images, sizeof(float))),
      .launch = [a, path, packed, images](const PassMemory& memory, cudaStream_t stream) {
        const ConvArgs flagged = with_flag(a, packed, memory.weight);
        for (int64_t first = 0; first < a.g.batch; first += images) {
          launch_images(flagged, path, packed, first, std::min(images, a.g.batch - first), memory,
                        stream);
        }
      }};
}

}  // namespace dcnv2::cuda
