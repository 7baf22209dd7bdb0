// SPDX-License-Identifier: BSD-3-Clause
// The gradients of offset and mask, and of the input by columns in memory, a few images at a time.
#include "cuda/dispatch/merge_groups.h"
#include "cuda/sample_sort/cell_lists.cuh"
#include "cuda/sample_sort/sample_lists.cuh"
#include "cuda/simt/simt.cuh"
#include "cuda/tensor_core/columns.cuh"
#include "cuda/tensor_core/pack_weight.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int64_t kColumnBytes = int64_t(64) << 20;  // of several images
constexpr int64_t kMaxColumnBytes = int64_t(1) << 30;  // of one image

constexpr int kSumThreads = 256;

// Samples of the whole batch.
int64_t samples(const ConvArgs& a) { return a.g.out_pixels() * a.g.deform_groups * a.g.taps(); }

int64_t image_columns(const ConvArgs& a) {
  return a.g.out_height * a.g.out_width * a.g.taps() * ColumnSizes(a).row;
}

// How many images are processed at a time, and the layout of the workspace. Without grad_input
// there are neither columns nor lists, and all images run at once; if several blocks share a pixel,
// the workspace holds their partial sums of grad_offset and grad_mask. Otherwise it is at most
// kColumnBytes (or one image's columns), the lists of images_per_pass(g) images, and the partial
// sums of oversized cells: 32 bytes for each channel of a deform group and kOversized of their
// samples. The columns take the place of what only the sort of the lists needs.
struct Workspace {
  PackedWeight packed;
  int64_t column_images, list_images;
  int64_t columns = 0, partial = 0, total = 0;

  Workspace(const ConvArgs& a, Path path)
      : packed(columns_weight(a, path)), column_images(a.g.batch), list_images(a.g.batch) {
    if (a.grad_input == nullptr) {
      if (column_blocks(a) > 1) total = 3 * column_blocks(a) * samples(a) * int64_t(sizeof(float));
      return;
    }
    list_images = images_per_pass(a.g);
    column_images = std::clamp<int64_t>(kColumnBytes / image_columns(a), 1, list_images);
    const SortLayout lists = cell_lists_layout(a.g, list_images);  // first
    columns = lists.free();
    partial = columns + align_256(column_images * image_columns(a));
    total = std::max(lists.total, partial + int64_t(gather_workspace(lists, a.g.in_channels)));
  }
};

// Adds up the partial sums of `blocks` in order. The result is dense, and the sums have its strides.
__global__ void __launch_bounds__(kSumThreads)
    sum_blocks_kernel(const float* partial, int64_t count, int blocks, View4 result) {
  const int64_t i = int64_t(blockIdx.x) * kSumThreads + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
  for (int block = 0; block < blocks; ++block) sum += partial[block * count + i];
  store_as<float>(result.data, result.dtype, i, sum);
}

// The gradients of offset and mask of all images.
void launch_offset_mask(const ConvArgs& a, Path path, const Workspace& layout,
                        const PassMemory& memory, cudaStream_t stream) {
  const ImageRange all{0, a.g.batch};
  const int blocks = column_blocks(a);
  if (blocks == 1) {
    return launch_columns(a, all, path, layout.packed, memory.weight, nullptr, stream);
  }
  auto* partial = static_cast<float*>(memory.workspace);
  const int64_t count = samples(a);
  check(cudaMemsetAsync(partial, 0, layout.total, stream), "partial sums");
  ConvArgs sums = a;
  auto redirect = [&](View4& view, float* to) {
    if (view.data == nullptr) return;
    view.data = to;
    view.dtype = Dtype::kFloat32;
  };
  redirect(sums.grad_offset, partial);
  redirect(sums.grad_mask, partial + 2 * blocks * count);
  launch_columns(sums, all, path, layout.packed, memory.weight, nullptr, stream);
  auto add_up = [&](const View4& from, int64_t size, const View4& to) {
    if (to.data == nullptr) return;
    sum_blocks_kernel<<<ceil_div(size, kSumThreads), kSumThreads, 0, stream>>>(
        static_cast<const float*>(from.data), size, blocks, to);
    check(cudaGetLastError(), "sum of grad_offset and grad_mask");
  };
  add_up(sums.grad_offset, 2 * count, a.grad_offset);
  add_up(sums.grad_mask, count, a.grad_mask);
}

// All gradients of the images [first, end), which share their lists.
void launch_images(const ConvArgs& a, Path path, const Workspace& layout, int64_t first,
                   int64_t end, const PassMemory& memory, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const ColumnSizes sizes(a);
  const int64_t image_bytes = g.height * g.width * g.in_channels * int64_t(element_size(a.dtype));
  char* workspace = static_cast<char*>(memory.workspace);
  char* columns = workspace + layout.columns;
  GatherArgs gather{build_cell_lists(a, first, end - first, workspace, stream)};
  gather.dtype = a.dtype;
  gather.row_samples = 1;
  gather.result = static_cast<char*>(a.grad_input) + first * image_bytes;
  gather.channels = g.in_channels;
  gather.partial = reinterpret_cast<float*>(workspace + layout.partial);
  for (int64_t image = first; image < end; image += layout.column_images) {
    const ImageRange range{image, std::min(layout.column_images, end - image)};
    launch_columns(a, range, path, layout.packed, memory.weight, columns, stream);
    gather.first = image - first;
    gather.images = range.count;
    const char* row0 = columns - gather.first * image_columns(a);  // of the lists' first image
    gather.rows = {row0, uint32_t(sizes.row), sizes.group};
    gather.weights = {row0 + sizes.group - int(sizeof(float4)), uint32_t(sizes.row), sizes.group};
    launch_gather(gather, stream);
  }
}

void launch(const ConvArgs& a, Path path, const Workspace& layout, const PassMemory& memory,
            cudaStream_t stream) {
  if (a.grad_input == nullptr) {
    launch_offset_mask(a, path, layout, memory, stream);
    if (a.merged_groups > 1) launch_simt_grad_offset_mask(unmerge_groups(a), stream);
    return;
  }
  for (int64_t first = 0; first < a.g.batch; first += layout.list_images) {
    const int64_t end = std::min(a.g.batch, first + layout.list_images);
    launch_images(a, path, layout, first, end, memory, stream);
  }
}

}  // namespace

std::optional<PassPlan> plan_fused_input_offset_mask(const ConvArgs& a, Path path) {
  const bool columns = a.grad_input != nullptr;
  if (!columns_fit(a, path) || (columns && image_columns(a) > kMaxColumnBytes)) return std::nullopt;
  const Workspace layout(a, path);
  return PassPlan{.pass = columns ? "grad_input_offset_mask" : "grad_offset_mask",
                  .path = path,
                  .tile_cols = layout.packed.tile_cols,
                  .weight = plan_weight(a, layout.packed),
                  .workspace = size_t(layout.total),
                  .launch = [a, path, layout](const PassMemory& memory, cudaStream_t stream) {
                    launch(with_flag(a, layout.packed, memory.weight), path, layout, memory,
                           stream);
                  }};
}

}  // namespace dcnv2::cuda
