// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/dispatch/paths.h"

#include <atomic>
#include <limits>
#include <stdexcept>
#include <string>

#include "build_info.h"
#include "cuda/dispatch/merge_groups.h"

namespace dcnv2::cuda {

namespace {

#ifdef DCNV2_SM90A
constexpr bool kBuiltForHopper = true;
#else
constexpr bool kBuiltForHopper = false;
#endif

constexpr int64_t kMaxIndex = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxTaps = 1 << 20;  // for which tap_position (sample_address.cuh) is exact

// The fastest path that is allowed; tests lower it to reach every kernel.
std::atomic<Path> fastest{Path::kWgmma};

// Why the tensor-core kernels do not support a problem; null if they do.
const char* unsupported_reason(const ConvArgs& a, int capability) {
  const ConvGeometry g = merge_groups(a, Path::kMma).g;
  const int64_t vector = a.dtype == Dtype::kFloat32 ? 4 : 8;
  if (a.dtype == Dtype::kFloat64) return "float64 has no tensor-core kernel";
  if (capability < 80) return "the tensor-core kernels need compute capability 8.0 or higher";
  if (g.group_in() % vector != 0 || g.deform_channels() % vector != 0 ||
      g.group_out() % vector != 0) {
    return "channels of a deform group, and of all groups or of some merged ones, must be "
           "multiples "
           "of 8 (float32: 4)";
  }
  if (g.batch * g.height * g.width > kMaxIndex || g.out_pixels() > kMaxIndex ||
      g.out_height * g.stride_h + g.kernel_h * g.dilation_h > kMaxIndex ||
      g.out_width * g.stride_w + g.kernel_w * g.dilation_w > kMaxIndex) {
    return "the tensor-core kernels count at most 2^31 - 1 pixels";
  }
  if (g.taps() > kMaxTaps) return "the tensor-core kernels take at most 2^20 taps";
  return nullptr;
}

}  // namespace

const char* path_name(Path path) {
  return path == Path::kWgmma ? "wgmma" : path == Path::kMma ? "mma" : "simt";
}

Choice choose_path(const ConvArgs& a, int capability) {
  const Path limit = fastest.load(std::memory_order_relaxed);
  if (limit == Path::kSimt) return {Path::kSimt, "the simt kernels were asked for"};
  if (const char* why = unsupported_reason(a, capability)) return {Path::kSimt, why};
  if (limit == Path::kMma) return {Path::kMma, "the mma.sync kernels were asked for"};
  if (capability / 10 != 9) return {Path::kMma, "warpgroup products need compute capability 9.0"};
  if (!kBuiltForHopper) return {Path::kMma, "the library was built without 9.0a"};
  return {Path::kWgmma, ""};
}

int current_capability() {
  int device = 0, major = 0, minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    throw std::runtime_error("dcnv2: can't read the device's compute capability");
  }
  return major * 10 + minor;
}

}  // namespace dcnv2::cuda

// Returns "path: reason" for a layer whose channels fit. `dtype` is a name of torch, `capability`
// is major * 10 + minor.
DCNV2_EXPORT const char* dcnv2_conv_path(const char* dtype, int capability) {
  using namespace dcnv2;
  using namespace dcnv2::cuda;
  thread_local std::string answer;
  const std::string name = dtype;
  ConvArgs a{};
  a.g = {1, 64, 32, 32, 64, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1};
  a.dtype = name == "float64"   ? Dtype::kFloat64
            : name == "float32" ? Dtype::kFloat32
            : name == "float16" ? Dtype::kFloat16
                                : Dtype::kBFloat16;
  const Choice choice = choose_path(a, capability);
  answer = std::string(path_name(choice.path)) + ": " + choice.reason;
  return answer.c_str();
}

// Limits the fastest path to "simt", "mma" or "wgmma" (the default); anything else changes nothing
// and returns 1.
DCNV2_EXPORT int dcnv2_set_fastest_path(const char* name) {
  using dcnv2::cuda::fastest;
  using dcnv2::cuda::Path;
  const std::string path = name;
  if (path == "simt") {
    fastest = Path::kSimt;
  } else if (path == "mma") {
    fastest = Path::kMma;
  } else if (path == "wgmma") {
    fastest = Path::kWgmma;
  } else {
    return 1;
  }
  return 0;
}
