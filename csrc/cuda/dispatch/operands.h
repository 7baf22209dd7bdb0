// SPDX-License-Identifier: BSD-3-Clause
// Converts torch's tensors to the kernels' views: dtypes, layouts, workspaces, the current stream.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "checks.h"
#include "results.h"
#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

inline View4 view(const Tensor& t) {
  return {t.data_ptr(), kernel_dtype(t.scalar_type()), t.stride(0), t.stride(1), t.stride(2),
          t.stride(3)};
}
inline View4 view(const OptionalTensor& t) { return t ? view(*t) : View4{}; }

inline cudaStream_t current_stream(const Tensor& t) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Memory that torch's allocator keeps until the kernels queued so far have run.
inline Tensor new_workspace(const Tensor& like, size_t bytes) {
  return new_strided(like, {int64_t(bytes)}, {1}, aoti_torch_dtype_uint8());
}

// The tensor itself if it is channels-last and its vectors of channels are aligned, otherwise a
// copy that is.
inline Tensor channels_last(const Tensor& t, cudaStream_t stream) {
  const Shape sizes = sizes_of(t);
  const bool aligned = reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0;
  if (t.numel() == 0 || (aligned && has_strides(t, channels_last_strides(sizes)))) return t;
  Tensor copy = new_result(t, sizes, true);
  launch_copy(view(t), view(copy), sizes.data(), stream);
  return copy;
}

// A result that a kernel writes channels-last, to `memory` if that is given: a channels-last tensor
// of its size. finish() returns it or a contiguous copy, which is not allocated before: by then,
// what else the kernel needed may be free.
struct Result {
  Tensor written;
  bool copied;

  Result(const Tensor& like, const Shape& sizes, bool want_channels_last,
         const OptionalTensor& memory = {})
      : written(memory ? *memory : new_result(like, sizes, true)),
        copied(!want_channels_last && !has_strides(written, contiguous_strides(sizes))) {
    if (!want_channels_last && !copied) written = new_result(like, sizes, false);  // exact strides
  }

  Tensor finish(cudaStream_t stream) const {
    if (!copied) return written;
    const Shape sizes = sizes_of(written);
    const Tensor wanted = new_result(written, sizes, false);
    if (wanted.numel() > 0) launch_copy(view(written), view(wanted), sizes.data(), stream);
    return wanted;
  }
};

inline void fill_zero(const Tensor& t, cudaStream_t stream) {
  if (t.numel() == 0) return;
  const auto status = cudaMemsetAsync(t.data_ptr(), 0, t.numel() * t.element_size(), stream);
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string("dcnv2: memset: ") + cudaGetErrorString(status));
  }
}

}  // namespace dcnv2::cuda
