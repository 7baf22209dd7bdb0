// SPDX-License-Identifier: BSD-3-Clause
// What the dispatch of csrc/cuda asks of torch's CUDA side, for tensors in host memory: no device to
// guard and no stream. New tensors, workspaces among them, are filled with 0xff, NaN in every
// floating-point type, so that a kernel that reads or leaves unwritten bytes is noticed.
//
// operands.h includes this header in place of torch's, ahead of all that allocates.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>
#include <cstring>

namespace emulator {

inline AOTITorchError create_device_guard(int32_t, DeviceGuardHandle* made) {
  *made = nullptr;
  return 0;
}
inline AOTITorchError delete_device_guard(DeviceGuardHandle) { return 0; }

inline AOTITorchError current_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}

inline AOTITorchError empty_strided(int64_t rank, const int64_t* sizes, const int64_t* strides,
                                    int32_t dtype, int32_t device_type, int32_t device_index,
                                    AtenTensorHandle* made) {
  const AOTITorchError error =
      aoti_torch_empty_strided(rank, sizes, strides, dtype, device_type, device_index, made);
  if (error) return error;
  void* data = nullptr;
  int64_t bytes = 0;
  const bool unread = aoti_torch_get_data_ptr(*made, &data) ||
                      aoti_torch_get_storage_size(*made, &bytes);
  if (!unread && bytes > 0) std::memset(data, 0xff, bytes);
  return unread;
}

}  // namespace emulator

#define aoti_torch_create_device_guard emulator::create_device_guard
#define aoti_torch_delete_device_guard emulator::delete_device_guard
#define aoti_torch_get_current_cuda_stream emulator::current_stream
#define aoti_torch_empty_strided emulator::empty_strided

#include_next <torch/csrc/stable/accelerator.h>
