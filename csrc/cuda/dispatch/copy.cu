// SPDX-License-Identifier: BSD-3-Clause
// Copies between any two layouts of rank-4 tensors: tiles of 32 channels x 32 pixels go through
// shared memory, so that both sides are walked along the axis that is contiguous there. Between
// contiguous and channels-last tensors transpose.cu is several times faster.
#include "cuda/common/common.cuh"
#include "cuda/dispatch/transpose.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kSide = 32, kLines = 8;

struct CopySize {
  int64_t n, c, y, x;
};

// Grid: tiles of columns (all rows of an image in one line), tiles of channels, images.
template <class T>
__global__ void copy_kernel(View4 from, View4 to, CopySize size) {
  __shared__ T tile[kSide][kSide + 1];
  const int64_t pixels = size.y * size.x, n = blockIdx.z;
  const int64_t pixel0 = int64_t(blockIdx.x) * kSide, channel0 = int64_t(blockIdx.y) * kSide;
  // fast: the tile's axis that the 32 lanes walk (channels where those are contiguous)
  auto visit = [&](const View4& view, auto act) {
    const bool channels_fast = view.stride_c == 1;
    for (int line = threadIdx.y; line < kSide; line += kLines) {
      const int c = channels_fast ? threadIdx.x : line, p = channels_fast ? line : threadIdx.x;
      const int64_t channel = channel0 + c, pixel = pixel0 + p;
      if (channel < size.c && pixel < pixels) {
        act(tile[c][p],
            static_cast<T*>(view.data)[view.index(n, channel, pixel / size.x, pixel % size.x)]);
      }
    }
  };
  visit(from, [](T& held, const T& element) { held = element; });
  __syncthreads();
  visit(to, [](const T& held, T& element) { element = held; });
}

}  // namespace

void launch_copy(const View4& from, const View4& to, const int64_t size[4], cudaStream_t stream) {
  if (launch_transpose(from, to, size, stream)) return;
  const CopySize s{size[0], size[1], size[2], size[3]};
  const dim3 block(kSide, kLines);
  constexpr int64_t kMaxImages = 65535;  // of one launch
  for (int64_t n = 0; n < s.n; n += kMaxImages) {
    const int64_t images = std::min(kMaxImages, s.n - n);
    const dim3 grid(ceil_div(s.y * s.x, kSide), ceil_div(s.c, kSide), images);
    dispatch(from.dtype, [&](auto element) {
      using T = decltype(element);
      View4 source = from, target = to;
      source.data = static_cast<T*>(from.data) + n * from.stride_n;
      target.data = static_cast<T*>(to.data) + n * to.stride_n;
      copy_kernel<T><<<grid, block, 0, stream>>>(source, target, s);
    });
    check(cudaGetLastError(), "layout copy");
  }
}

}  // namespace dcnv2::cuda
