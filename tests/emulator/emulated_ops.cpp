// SPDX-License-Identifier: BSD-3-Clause
// The launchers of csrc/cuda as C functions for Python, on contiguous tensors in host memory.
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <vector>

#include "emulator.h"
#include "../../csrc/cuda/launch.h"
#include "../../csrc/cuda/paths.h"

using namespace dcnv2;
using namespace dcnv2::cuda;

namespace {

View4 view(void* data, int dtype, int64_t c, int64_t y, int64_t x) {
  return {data, Dtype(dtype), c * y * x, y * x, x, 1};
}

// A workspace full of NaN, exactly as large as asked for.
struct Workspace {
  size_t bytes;
  char* data;
  explicit Workspace(size_t bytes)
      : bytes(bytes), data(static_cast<char*>(::operator new(bytes, std::align_val_t(256)))) {
    std::memset(data, 0xff, bytes);
  }
  ~Workspace() { ::operator delete(data, std::align_val_t(256)); }
};

template <class F>
int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

}  // namespace

extern "C" {

struct ConvOperands {
  int64_t geometry[17];  // in the order of ConvGeometry
  int32_t dtype, offset_dtype, path, allow_tf32;  // path: 0 plain, 1 mma, 2 wgmma
  void *input, *offset, *mask, *weight, *bias, *output, *grad_output;  // images channels last
  void *grad_input, *grad_offset, *grad_mask, *grad_weight, *grad_bias;
};

static ConvArgs make_args(const ConvOperands& o) {
  ConvArgs a{};
  std::memcpy(&a.g, o.geometry, sizeof(o.geometry));
  static_assert(sizeof(a.g) == sizeof(o.geometry));
  const ConvGeometry& g = a.g;
  const int64_t samples = g.deform_groups * g.taps();
  a.dtype = Dtype(o.dtype);
  a.allow_tf32 = o.allow_tf32;
  a.input = o.input;
  a.offset = view(o.offset, o.offset_dtype, 2 * samples, g.out_height, g.out_width);
  if (o.mask) a.mask = view(o.mask, o.offset_dtype, samples, g.out_height, g.out_width);
  a.weight = view(o.weight, o.dtype, g.group_in(), g.kernel_h, g.kernel_w);
  a.bias = o.bias;
  a.bias_stride = 1;
  a.output = o.output;
  a.grad_output = o.grad_output;
  a.grad_input = o.grad_input;
  if (o.grad_offset) {
    a.grad_offset = view(o.grad_offset, o.offset_dtype, 2 * samples, g.out_height, g.out_width);
  }
  if (o.grad_mask) a.grad_mask = view(o.grad_mask, o.offset_dtype, samples, g.out_height, g.out_width);
  if (o.grad_weight) a.grad_weight = view(o.grad_weight, o.dtype, g.group_in(), g.kernel_h, g.kernel_w);
  a.grad_bias = o.grad_bias;
  return a;
}

int emulate_forward(const ConvOperands* o) {
  return guarded([&] {
    const ConvArgs a = make_args(*o);
    if (o->path == 0) return launch_forward(a, nullptr);
    const Workspace workspace(fused_forward_workspace(a));
    launch_fused_forward(a, Path(o->path), workspace.data, nullptr);
  });
}

int emulate_grad_weight(const ConvOperands* o) {
  return guarded([&] {
    const ConvArgs a = make_args(*o);
    if (o->path == 0) {
      const Workspace workspace(grad_weight_workspace(a));
      return launch_grad_weight(a, workspace.data, nullptr);
    }
    const Workspace workspace(fused_grad_weight_workspace(a));
    launch_fused_grad_weight(a, Path(o->path), workspace.data, nullptr);
  });
}

int emulate_grad_bias(const ConvOperands* o) {
  return guarded([&] {
    const ConvArgs a = make_args(*o);
    const Workspace workspace(grad_bias_workspace(a));
    launch_grad_bias(a, workspace.data, nullptr);
  });
}

// As conv_ops.cpp chooses among the passes.
int emulate_sample_gradients(const ConvOperands* o) {
  return guarded([&] {
    const ConvArgs a = make_args(*o);
    const Path path = Path(o->path);
    const bool offset_mask = a.grad_offset.data || a.grad_mask.data;
    const bool fused = fused_input_offset_mask_fits(a, path);
    if (fused) {
      const Workspace workspace(fused_input_offset_mask_workspace(a));
      return launch_fused_input_offset_mask(a, path, workspace.data, nullptr);
    }
    if (offset_mask) launch_grad_offset_mask(a, nullptr);
    if (a.grad_input == nullptr) return;
    const Workspace workspace(grad_input_workspace(a));
    launch_grad_input(a, workspace.data, nullptr);
  });
}

struct PoolOperands {
  int64_t rois, batch, channels, height, width, out_channels, pooled_h, pooled_w;
  double spatial_scale, offset_scale;
  int64_t sampling, group_size, part_size, classes;
  int32_t psroi, dtype;
  void *input, *boxes, *offset, *mask, *output, *grad_output;
  void *grad_input, *grad_offset, *grad_mask;
};

static RoiPoolArgs make_pool_args(const PoolOperands& o) {
  RoiPoolArgs a{};
  a.g = {o.rois,       o.batch,      o.channels,      o.height,       o.width,    o.out_channels, o.pooled_h,
         o.pooled_w,   o.spatial_scale, o.offset_scale, o.sampling, o.group_size,   o.part_size, o.classes};
  a.psroi = o.psroi;
  a.dtype = Dtype(o.dtype);
  a.input = o.input;
  a.rois = {o.boxes, a.dtype, 5, 1, 0, 0};
  const int64_t parts_y = o.psroi ? o.part_size : o.pooled_h, parts_x = o.psroi ? o.part_size : o.pooled_w;
  if (o.offset) a.offset = view(o.offset, o.dtype, 2 * o.classes, parts_y, parts_x);
  if (o.mask) a.mask = view(o.mask, o.dtype, 1, o.pooled_h, o.pooled_w);
  a.output = o.output;
  a.grad_output = o.grad_output;
  a.grad_input = o.grad_input;
  if (o.grad_offset) a.grad_offset = view(o.grad_offset, o.dtype, 2 * o.classes, parts_y, parts_x);
  if (o.grad_mask) a.grad_mask = view(o.grad_mask, o.dtype, 1, o.pooled_h, o.pooled_w);
  return a;
}

int emulate_pool(const PoolOperands* o) {
  return guarded([&] { launch_roi_pool(make_pool_args(*o), nullptr); });
}
int emulate_pool_backward(const PoolOperands* o) {
  return guarded([&] {
    const RoiPoolArgs a = make_pool_args(*o);
    launch_roi_pool_grad_offset_mask(a, nullptr);
    if (o->grad_input) {
      const Workspace workspace(roi_pool_grad_input_workspace(a));
      launch_roi_pool_grad_input(a, workspace.data, nullptr);
    }
  });
}
}
