// SPDX-License-Identifier: BSD-3-Clause
// The epilogue warps of fused_grad_offset_mask.cuh: they sample the corners, reduce them with the
// columns that the math warps compute, and write grad_offset, grad_mask and, if asked for, columns.
#pragma once

#include "cuda/tensor_core/bilinear_producer.cuh"
#include "cuda/tensor_core/column_store.cuh"
#include "cuda/tensor_core/corner_dots.cuh"
#include "cuda/tensor_core/offset_mask_smem.cuh"

namespace dcnv2::cuda {

__device__ __forceinline__ void store_narrow(const View4& view, int64_t at, float value) {
  if (view.dtype == Dtype::kFloat32) {
    static_cast<float*>(view.data)[at] = value;
  } else if (view.dtype == Dtype::kFloat16) {
    static_cast<__half*>(view.data)[at] = narrow<__half>(value);
  } else {
    static_cast<__nv_bfloat16*>(view.data)[at] = narrow<__nv_bfloat16>(value);
  }
}

// Each thread has one 16-byte vector of kItems rows in every swizzle atom of a tile. The corners of
// an item are loaded while the item before it is reduced, across tiles too.
template <class S>
struct OffsetMaskEpilogue {
  using M = typename S::M;
  using T = typename M::element;
  static constexpr bool kShareAddresses = S::kShareAddresses;
  static constexpr int kRows = M::kTileRows, kRowStep = M::kProducerThreads / kRowVecs;
  static constexpr int kItems = kRows / kRowStep, kAtoms = S::kAtoms;
  static_assert(kItems <= 2 && kAtoms <= 2 && kItems * kAtoms > 1);

  const GradOffsetArgs& f;
  S& shared;
  const Source source;
  const int thread, vec, row0;
  const int lanes;  // of a deform group of less than 128 bytes of channels, a power of 2
  std::conditional_t<kShareAddresses && sizeof(T) == 2, TensorDots<T, kItems>,
                     ThreadDots<T, kItems>>
      dots;

  // The corners of one sample's vector, being loaded.
  using Item = CornerLoads<1>;
  Item even, odd;
  ColumnTile current;  // whose last item may still be loading
  bool active = false;  // whether it is
  RawSample ahead[kAtoms][kItems] = {};  // of the next tile, where lanes do not share samples

  __device__ OffsetMaskEpilogue(const GradOffsetArgs& f, S& shared, int thread)
      : f(f),
        shared(shared),
        source(make_source<T>(f.conv, f.zeros)),
        thread(thread),
        vec(thread % kRowVecs),
        row0(thread / kRowVecs),
        lanes(1 << f.group_shift) {}

  // Before the first tile, where lanes do not share samples.
  __device__ void prefetch_first() {
#pragma unroll
    for (int atom = 0; atom < kAtoms; ++atom) {
#pragma unroll
      for (int i = 0; i < kItems; ++i)
        prefetch(ahead[atom][i], first_tile(), atom, row0 + i * kRowStep);
    }
  }

  // The items of a tile, atom by atom; while one is being loaded, the one before it is finished.
  __device__ void consume_tile(const ColumnTile& tile) {
    load<0, 0>(even, tile);
    finish_tiles();
    current = tile;
    active = true;
    load<kItems == 1, kItems - 1>(odd, tile);
    finish<0, 0>(even);
    if constexpr (kItems * kAtoms == 4) {
      load<1, 0>(even, tile);
      finish<0, 1>(odd);
      load<1, 1>(odd, tile);
      finish<1, 0>(even);
    }
  }
  __device__ void finish_tiles() {
    if (active) finish<kAtoms - 1, kItems - 1>(odd);
    active = false;
  }

  __device__ int channel_of(const ColumnTile& tile, int atom) const {
    return tile.channel + atom * kRowElements<T> + vec * kVecSize<T>;
  }
  // The lane's deform group; -1 past the last channel.
  __device__ int group_of(const ColumnTile& tile, int channel) const {
    if (kShareAddresses) return tile.group;
    return channel < int(f.conv.g.in_channels) ? channel / kVecSize<T> >> f.group_shift : -1;
  }

  // The block's first tile, and the one after another, where lanes do not share samples: there is
  // one pass over all groups.
  __device__ ColumnTile first_tile() const {
    return {.channel = ChannelTiles<S::kGrouped>(f, 0).begin * M::kTileCols};
  }
  __device__ ColumnTile next_tile(ColumnTile tile) const {
    tile.channel += M::kTileCols;
    if (!tile.last) return tile;
    tile.channel = first_tile().channel;
    ++tile.tap;
    return tile;
  }
  __device__ void prefetch(RawSample& raw, const ColumnTile& tile, int atom, int row) const {
    const int group = group_of(tile, channel_of(tile, atom));
    if (group < 0 || tile.tap == f.packed.taps || !shared.rows.exists(row)) return;
    raw = shared.table.prefetch(f.conv, row, group * f.packed.taps + tile.tap);
  }

  template <int kAtom, int kItem>
  __device__ void load(Item& item, const ColumnTile& tile) {
    const ConvArgs& a = f.conv;
    const int channel = channel_of(tile, kAtom);
    const bool valid = channel < int(a.g.in_channels);
    item.load(row0 + kItem * kRowStep, 0, [&](int row) {
      SampleAddress r;
      if constexpr (kShareAddresses) {
        r = shared.table.at(tile.tap % kTableTaps, row);
        if (!valid) r = {source.zeros, 0, 0, r.weight};
      } else {
        r = consume_address<SampleKind::kSlopes>(
            a, source,
            {batch_pixel(f, shared.rows, row), tile.tap, 0, valid && shared.rows.exists(row)},
            ahead[kAtom][kItem]);
      }
      if (valid) r.at += channel * int(sizeof(T));
      return r;
    });
    if constexpr (!kShareAddresses) {
      prefetch(ahead[kAtom][kItem], next_tile(tile), kAtom, row0 + kItem * kRowStep);
    }
  }

  __device__ __forceinline__ ColumnStore<S> columns() const {
    return {f, shared, current.tap, vec, lanes};
  }

  // Reduces an item of the current tile.
  template <int kAtom, int kItem>
  __device__ void finish(Item& item) {
    const int buffer = current.index % 2, row = row0 + kItem * kRowStep;
    if (kAtom == 0 && kItem == 0) shared.column_full[buffer].wait(current.index / 2 & 1);
    const uint4 column = *reinterpret_cast<const uint4*>(
        shared.column[buffer] + column_offset<kRows>(row, kAtom * kRowVecs + vec));
    if constexpr (kShareAddresses) {
      // Dead code kept as a ptxas 13.0 register-pressure workaround: columns_fit() lets no columns
      // through where tiles belong to one deform group. Without this branch ptxas hoists more of
      // the next item's loads and spills: 17 % slower. Re-measure per toolkit.
      if (f.columns != nullptr) {
        const int channel = channel_of(current, kAtom);
        const bool exists = channel < int(f.conv.g.in_channels) && shared.rows.exists(row);
        if (exists) store_vec16(columns().address(row, 0, channel), column);
      }
    }
    dots.template add<kItem>(column, item.value[0]);
    constexpr bool kLast = kAtom == kAtoms - 1 && kItem == kItems - 1;
    if (kLast) {
      arrive_for_warp(shared.column_empty[buffer]);
    }
    if constexpr (!kShareAddresses) {
      const int channel = channel_of(current, kAtom), group = group_of(current, channel);
      if (f.columns != nullptr) {
        lanes == 1 ? columns().store_pair(row, channel, column, item.weight[0])
                   : columns().store(row, group, channel, column, item.weight[0]);
      }
      write_lanes(kItem, group, item);
    } else if (kLast) {
      if (current.last) write_rows();
    }
  }

  // Writes the gradients of the thread's rows; every lane of a row writes one of them.
  __device__ __forceinline__ void write_rows() {
    const int mine = vec / 4, row = row0 + mine * kRowStep;
    float sums[4];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      float v[4];
      dots.reduce(i, kRowVecs, v);
      for (int corner = 0; corner < 4; ++corner)
        sums[corner] = i == mine ? v[corner] : sums[corner];
    }
    if (mine >= kItems || vec % 4 >= kOutputs || !shared.rows.exists(row)) return;
    const Pixel p = batch_pixel(f, shared.rows, row);
    const int channel = current.group * f.packed.taps + current.tap;
    const float4 w = shared.table.weight(current.tap % kTableTaps, row);
    if (vec % 4 == kGradMask) {
      if (f.conv.grad_mask.data == nullptr) return;
      const View4& to = f.conv.grad_mask;
      store(to, to.index(p.n, channel, p.y, p.x) + block_start(f.mask_elements),
            sample_gradient(w, sums, kGradMask));
    } else {
      if (f.conv.grad_offset.data == nullptr) return;
      const View4& to = f.conv.grad_offset;
      store(to, to.index(p.n, 2 * channel + vec % 4, p.y, p.x) + block_start(f.offset_elements),
            sample_gradient(w, sums, vec % 4));
    }
  }
  // Where the partial sums of this block begin, of `elements` each.
  __device__ __forceinline__ int64_t block_start(int64_t elements) const {
    return S::kGrouped ? blockIdx.y * elements : 0;
  }
  __device__ __forceinline__ void store(const View4& to, int64_t at, float value) {
    if (S::kGrouped && f.conv.nonfinite != nullptr && !isfinite(value)) *f.conv.nonfinite = 1;
    store_narrow(to, at, value);
  }

  // Writes the gradients of a sample whose deform group is the channels of a few lanes.
  __device__ __forceinline__ void write_lanes(int index, int group, const Item& item) {
    const int row = row0 + index * kRowStep;
    float sums[4];
    dots.reduce(index, lanes, sums);
    if ((vec & (lanes - 1)) != 0 || group < 0 || !shared.rows.exists(row)) return;
    const ConvArgs& a = f.conv;
    const int channel = group * f.packed.taps + current.tap;
    const float4& w = item.weight[0];
    if (a.grad_offset.data != nullptr) {
      const View4& to = a.grad_offset;
      const int64_t at = shared.table.grad_offset[row] + 2 * channel * to.stride_c;
      store(to, at, sample_gradient(w, sums, kGradY));
      store(to, at + to.stride_c, sample_gradient(w, sums, kGradX));
    }
    if (a.grad_mask.data != nullptr) {
      const View4& to = a.grad_mask;
      const int64_t at = shared.table.grad_mask[row] + channel * to.stride_c;
      store(to, at, sample_gradient(w, sums, kGradMask));
    }
  }
};

}  // namespace dcnv2::cuda
