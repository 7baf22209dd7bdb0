// SPDX-License-Identifier: BSD-3-Clause
// The launchers of csrc/cuda as C functions for Python, on tensors in host memory. Results and
// workspaces come filled with NaN, and workspaces are exactly as large as was asked for.
#include <cstdio>
#include <exception>
#include <new>

#include "cuda/dispatch/launch.h"
#include "emulator.h"

using namespace dcnv2;
using namespace dcnv2::cuda;

namespace {

struct Operand {
  void* data;
  int64_t dtype, stride[4];

  View4 view() const {
    if (data == nullptr) return {};
    return {data, Dtype(dtype), stride[0], stride[1], stride[2], stride[3]};
  }
};

class Workspace {
 public:
  explicit Workspace(size_t bytes)
      : data_(static_cast<char*>(::operator new(bytes, std::align_val_t(256)))) {
    std::memset(data_, 0xff, bytes);
  }
  ~Workspace() { ::operator delete(data_, std::align_val_t(256)); }
  operator void*() const { return data_; }

 private:
  char* data_;
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

struct ConvCall {
  int64_t geometry[17];  // in the order of ConvGeometry
  int64_t path, allow_tf32;
  Operand input, offset, mask, weight, bias, output, grad_output;
  Operand grad_input, grad_offset, grad_mask, grad_weight, grad_bias;
};

static ConvArgs conv_args(const ConvCall& call) {
  ConvArgs a{};
  static_assert(sizeof(a.g) == sizeof(call.geometry));
  std::memcpy(&a.g, call.geometry, sizeof(call.geometry));
  a.dtype = Dtype(call.input.dtype);
  a.allow_tf32 = call.allow_tf32 != 0;
  a.input = call.input.data;
  a.offset = call.offset.view();
  a.mask = call.mask.view();
  a.weight = call.weight.view();
  a.bias = call.bias.data;
  a.bias_stride = call.bias.stride[0];
  a.output = call.output.data;
  a.grad_output = call.grad_output.data;
  a.grad_input = call.grad_input.data;
  a.grad_offset = call.grad_offset.view();
  a.grad_mask = call.grad_mask.view();
  a.grad_weight = call.grad_weight.view();
  a.grad_bias = call.grad_bias.data;
  return a;
}

int emulated_conv(const ConvCall* call) {
  return guarded([&] {
    const ConvArgs a = conv_args(*call);
    const Path path = Path(call->path);
    if (path == Path::kSimt) return launch_forward(a, nullptr);
    launch_fused_forward(a, path, Workspace(fused_forward_workspace(a, path)), nullptr);
  });
}

// As conv_ops.cpp chooses among the passes.
int emulated_conv_backward(const ConvCall* call) {
  return guarded([&] {
    ConvArgs a = conv_args(*call);
    const Path path = Path(call->path);
    if (a.grad_bias) launch_grad_bias(a, Workspace(grad_bias_workspace(a)), nullptr);
    if (a.grad_weight.data && path == Path::kSimt) {
      launch_grad_weight(a, Workspace(grad_weight_workspace(a)), nullptr);
    } else if (a.grad_weight.data) {
      launch_fused_grad_weight(a, path, Workspace(fused_grad_weight_workspace(a, path)), nullptr);
    }
    if (a.grad_input && fused_grad_input_fits(a, path)) {
      launch_fused_grad_input(a, path, Workspace(fused_grad_input_workspace(a, path)), nullptr);
      a.grad_input = nullptr;
    }
    const bool offset_mask = a.grad_offset.data || a.grad_mask.data;
    if (!offset_mask && !a.grad_input) return;
    if (fused_input_offset_mask_fits(a, path)) {
      return launch_fused_input_offset_mask(a, path, Workspace(fused_input_offset_mask_workspace(a, path)),
                                            nullptr);
    }
    if (offset_mask) launch_grad_offset_mask(a, nullptr);
    if (a.grad_input) launch_grad_input(a, Workspace(grad_input_workspace(a)), nullptr);
  });
}

struct PoolCall {
  int64_t rois, batch, channels, height, width, out_channels, pooled_h, pooled_w;
  double spatial_scale, offset_scale;
  int64_t sampling, group_size, part_size, classes, psroi;
  Operand input, boxes, offset, mask, output, grad_output;
  Operand grad_input, grad_offset, grad_mask;
};

static RoiPoolArgs pool_args(const PoolCall& call) {
  RoiPoolArgs a{};
  a.g = {call.rois,          call.batch,        call.channels,     call.height,     call.width,
         call.out_channels,  call.pooled_h,     call.pooled_w,     call.spatial_scale,
         call.offset_scale,  call.sampling,     call.group_size,   call.part_size,  call.classes};
  a.psroi = call.psroi != 0;
  a.dtype = Dtype(call.input.dtype);
  a.input = call.input.data;
  a.rois = call.boxes.view();
  a.offset = call.offset.view();
  a.mask = call.mask.view();
  a.output = call.output.data;
  a.grad_output = call.grad_output.data;
  a.grad_input = call.grad_input.data;
  a.grad_offset = call.grad_offset.view();
  a.grad_mask = call.grad_mask.view();
  return a;
}

int emulated_pool(const PoolCall* call) {
  return guarded([&] { launch_roi_pool(pool_args(*call), nullptr); });
}

int emulated_pool_backward(const PoolCall* call) {
  return guarded([&] {
    const RoiPoolArgs a = pool_args(*call);
    launch_roi_pool_grad_offset_mask(a, nullptr);
    if (!a.grad_input) return;
    launch_roi_pool_grad_input(a, Workspace(roi_pool_grad_input_workspace(a)), nullptr);
  });
}
}
