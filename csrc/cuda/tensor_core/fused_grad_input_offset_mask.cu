// SPDX-License-Identifier: BSD-3-Clause
// The gradients of offset and mask, and of the input by way of columns, run of images by run of images.
#include "cuda/sample_sort/cell_lists.cuh"
#include "cuda/sample_sort/sample_lists.cuh"
#include "cuda/tensor_core/tile_config.cuh"
#include "cuda/tensor_core/columns.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int64_t kColumnBytes = int64_t(64) << 20;       // of a run of several images
constexpr int64_t kMaxColumnBytes = int64_t(1) << 30;    // of one image

int64_t image_columns(const ConvArgs& a) {
  return a.g.out_height * a.g.out_width * a.g.taps() * ColumnSizes(a).row;
}

// How the images are cut and where everything lies. Without grad_input there are neither columns nor
// lists, and one run takes all images. Else the workspace is at most the packed weight, kColumnBytes
// (or one image's columns), the lists of images_per_pass(g) images, and 32 bytes for a channel of a deform
// group and kOversized of their samples.
struct ColumnsPlan {
  int64_t images_at_once, list_images;
  int64_t columns = 0, lists = 0, partial = 0, total = 0;  // the packed weight lies at 0

  ColumnsPlan(const ConvArgs& a, Path path) {
    const PackedWeight packed = columns_weight(a, path);
    total = align_256((packed.count() + a.g.in_channels) * int64_t(element_size(a.dtype)));
    images_at_once = list_images = a.g.batch;
    if (a.grad_input == nullptr) return;
    list_images = images_per_pass(a.g);
    images_at_once = std::clamp<int64_t>(kColumnBytes / image_columns(a), 1, list_images);
    columns = total;
    lists = columns + align_256(images_at_once * image_columns(a));
    const SortLayout layout = cell_lists_layout(a.g, list_images);
    partial = lists + layout.total;
    total = partial + int64_t(gather_workspace(layout, a.g.in_channels));
  }
};

}  // namespace

bool fused_input_offset_mask_fits(const ConvArgs& a, Path path) {
  return columns_fit(a, path) && (a.grad_input == nullptr || image_columns(a) <= kMaxColumnBytes);
}

size_t fused_input_offset_mask_workspace(const ConvArgs& a, Path path) { return ColumnsPlan(a, path).total; }

void launch_fused_input_offset_mask(const ConvArgs& a, Path path, void* workspace,
                                    cudaStream_t stream) {
  const ColumnsPlan plan(a, path);
  char* base = static_cast<char*>(workspace);
  launch_pack_weight(a, columns_weight(a, path), base, stream);
  if (a.grad_input == nullptr) {
    return launch_columns(a, {0, a.g.batch}, path, base, nullptr, stream);
  }
  const ConvGeometry& g = a.g;
  const ColumnSizes sizes(a);
  const int64_t image_bytes = g.height * g.width * g.in_channels * int64_t(element_size(a.dtype));
  char* columns = base + plan.columns;
  for (int64_t list = 0; list < g.batch; list += plan.list_images) {
    const int64_t end = std::min(g.batch, list + plan.list_images);
    GatherArgs gather{build_cell_lists(a, list, end - list, base + plan.lists, stream)};
    gather.dtype = a.dtype;
    gather.row_samples = 1;
    gather.result = static_cast<char*>(a.grad_input) + list * image_bytes;
    gather.channels = g.in_channels;
    gather.partial = reinterpret_cast<float*>(base + plan.partial);
    for (int64_t first = list; first < end; first += plan.images_at_once) {
      const ImageRange range{first, std::min(plan.images_at_once, end - first)};
      launch_columns(a, range, path, base, columns, stream);
      gather.first = first - list;
      gather.images = range.count;
      const char* image = columns - gather.first * image_columns(a);  // the lists' first
      gather.rows = {image, uint32_t(sizes.row), sizes.group};
      gather.weights = {image + sizes.group - int(sizeof(float4)), uint32_t(sizes.row), sizes.group};
      launch_gather(gather, stream);
    }
  }
}

}  // namespace dcnv2::cuda
