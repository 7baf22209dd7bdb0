// SPDX-License-Identifier: BSD-3-Clause
// The operator batched_nms on CUDA.
#include "cuda/dispatch/run_plan.h"
#include "nms_ops.h"

#include "cuda/nms/nms.h"

namespace dcnv2::cuda {
namespace {

NmsView nms_view(const Tensor& t) {
  return {t.data_ptr(), t.stride(0), t.stride(1), t.dim() > 2 ? t.stride(2) : 0};
}

struct NmsPass {
  static NmsResults run(const NmsCall& call) {
    const torch::stable::accelerator::DeviceGuard guard(call.boxes.get_device_index());
    const cudaStream_t stream = current_stream(call.boxes);
    const NmsResults results = new_nms_results(call);
    if (call.images == 0) return results;
    const SortedScores sorted(call.scores);
    const NmsArgs a{.images = call.images,
                    .boxes_per_image = call.boxes_per_image,
                    .max_out = call.max_out,
                    .iou_threshold = call.iou_threshold,
                    .dtype = kernel_dtype(call.boxes.scalar_type()),
                    .boxes = nms_view(call.boxes),
                    .groups = nms_view(call.groups),
                    .scores = nms_view(sorted.scores),
                    .order = nms_view(sorted.order),
                    .indices = static_cast<int64_t*>(std::get<0>(results).data_ptr()),
                    .counts = static_cast<int64_t*>(std::get<1>(results).data_ptr())};
    PassRunner(call.boxes, stream).run(plan_batched_nms(a));
    return results;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CUDA, m) { NmsOps<NmsPass>::implement(m); }

}  // namespace dcnv2::cuda
