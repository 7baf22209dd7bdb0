// SPDX-License-Identifier: BSD-3-Clause
// The gradients of offset and mask, and of the input by way of columns, run of images by run of images.
#include "../gather.cuh"
#include "choice.cuh"
#include "columns.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int64_t kColumnBytes = int64_t(64) << 20;       // of a run of several images
constexpr int64_t kMostColumnBytes = int64_t(512) << 20;  // of one image

int64_t image_columns(const ConvArgs& a) {
  return a.g.out_height * a.g.out_width * a.g.taps() * a.g.in_channels *
         int64_t(element_size(a.dtype));
}

int64_t align(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// How the images are cut and where everything lies. Without grad_input there are neither columns nor
// lists, and one run takes all images. Else the workspace is at most the packed weight, kColumnBytes
// (or one image's columns), the lists of images_a_run(g) images, and a float for 128 / channels of a
// deform group of their samples.
struct Plan {
  int64_t run_images, list_images;
  int64_t columns = 0, lists = 0, partial = 0, total = 0;  // the packed weight lies at 0

  Plan(const ConvArgs& a, Path path) {
    const PackedWeight packed = columns_weight(a, path);
    total = align((packed.count() + a.g.in_channels) * int64_t(element_size(a.dtype)));
    run_images = list_images = a.g.batch;
    if (a.grad_input == nullptr) return;
    list_images = images_a_run(a.g);
    run_images = std::clamp<int64_t>(kColumnBytes / image_columns(a), 1, list_images);
    columns = total;
    lists = columns + align(run_images * image_columns(a));
    const ListLayout layout = sample_lists_layout(a.g, list_images, Taps::kTogether, sizeof(float));
    partial = lists + layout.total;
    total = partial + int64_t(gather_workspace(layout, a.g.in_channels));
  }
};

}  // namespace

bool fused_input_offset_mask_fits(const ConvArgs& a, Path path) {
  return columns_fit(a, path) && (a.grad_input == nullptr || image_columns(a) <= kMostColumnBytes);
}

size_t fused_input_offset_mask_workspace(const ConvArgs& a, Path path) { return Plan(a, path).total; }

void launch_fused_input_offset_mask(const ConvArgs& a, Path path, void* workspace,
                                    cudaStream_t stream) {
  const Plan plan(a, path);
  char* base = static_cast<char*>(workspace);
  launch_pack_weight(a, columns_weight(a, path), base, stream);
  if (a.grad_input == nullptr) {
    return launch_columns(a, {0, a.g.batch}, path, base, nullptr, stream);
  }
  const ConvGeometry& g = a.g;
  const int64_t image_elements = g.height * g.width * g.in_channels;
  const int64_t image_rows = g.out_height * g.out_width * g.taps();
  for (int64_t list = 0; list < g.batch; list += plan.list_images) {
    const int64_t end = std::min(g.batch, list + plan.list_images);
    GatherArgs gather{build_sample_lists<float>(a, list, end - list, Taps::kTogether,
                                                base + plan.lists, stream)};
    gather.dtype = a.dtype;
    gather.rows = base + plan.columns;
    gather.result = static_cast<char*>(a.grad_input) +
                    list * image_elements * int64_t(element_size(a.dtype));
    gather.channels = g.in_channels;
    gather.partial = reinterpret_cast<float*>(base + plan.partial);
    for (int64_t first = list; first < end; first += plan.run_images) {
      const Run run{first, std::min(plan.run_images, end - first)};
      launch_columns(a, run, path, base, base + plan.columns, stream);
      gather.first = first - list;
      gather.images = run.images;
      gather.first_row = gather.first * image_rows;
      launch_gather(gather, stream);
    }
    launch_finish_gather(gather, stream);
  }
}

}  // namespace dcnv2::cuda
