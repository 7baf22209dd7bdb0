// SPDX-License-Identifier: BSD-3-Clause
// Forward and backward of the RoI poolings, which differ only in their Rule (roi_bins.h). Channels
// are ordered by the cell of the position-sensitive group first (deform_roi_pool has one cell), so
// that the channels of a bin are adjacent.
#pragma once

#include "cpu/simd/channel_spans.h"
#include "cpu/simd/kernels.h"
#include "cpu/roi/roi_bins.h"

namespace dcnv2::cpu {

// The cell of the position-sensitive group that a bin reads.
template <class Rule>
int64_t cell_of(const RoiPoolGeometry& g, int64_t bin_y, int64_t bin_x) {
  return Rule::group(g, bin_y, g.pooled_h) * g.group_size + Rule::group(g, bin_x, g.pooled_w);
}

// The input of each level.
template <class T>
std::vector<ChannelRows<T>> rows_by_cell(const RoiOperands& operands) {
  const RoiPoolGeometry& g = operands.g;
  const int64_t cells = g.group_size * g.group_size;
  std::vector<ChannelRows<T>> levels;
  for (int level = 0; level < g.levels; ++level) {
    const int64_t sizes[4] = {g.batch, g.channels, g.level[level].height, g.level[level].width};
    levels.emplace_back(operands.inputs[level], sizes, 0, cells);
  }
  return levels;
}

template <class T>
T bin_mask(const RoiOperands& operands, int64_t r, int64_t bin) {
  T mask = 1;
  if (operands.mask) load_rows(operands.mask, {r, 0, 1, bin, 1, operands.g.pooled_w}, &mask, 1);
  return mask;
}

template <class Rule, class T>
class PoolWorker {
 public:
  PoolWorker(const RoiOperands& operands, const Rois<T>& rois,
             const std::vector<ChannelRows<T>>& inputs, const View& output)
      : operands_(operands),
        g_(operands.g),
        rois_(rois),
        inputs_(inputs),
        output_(output),
        classes_(cut_by_group(0, g_.out_channels, g_.out_channels / g_.classes)),
        bin_(operands),
        result_({g_.pooled_w, g_.out_channels}) {}

  // One row of bins.
  void operator()(int64_t r, int64_t bin_y) {
    for (int64_t bin_x = 0; bin_x < g_.pooled_w; ++bin_x) {
      const T mask = bin_mask<T>(operands_, r, bin_y * g_.pooled_w + bin_x);
      for (const ChannelSpan& span : classes_) {
        pool(r, bin_y, bin_x, span, mask, result_.data() + bin_x * g_.out_channels + span.begin);
      }
    }
    store_rows(output_, {r, 0, g_.out_channels, bin_y * g_.pooled_w, g_.pooled_w, g_.pooled_w},
               result_.data(), g_.out_channels);
  }

 private:
  void pool(int64_t r, int64_t bin_y, int64_t bin_x, const ChannelSpan& span, T mask, T* out) {
    const int64_t n = rois_.image(r);
    if (n >= 0) bin_.fill(rois_, r, bin_y, bin_x, span.group);
    if (n < 0 || bin_.nan()) {
      std::fill_n(out, span.size(), n == kPaddingRoi ? T(0) : std::numeric_limits<T>::quiet_NaN());
      return;
    }
    const ChannelRows<T>& input = inputs_[rois_.level(r)];
    const T* image =
        input.image(n) + cell_of<Rule>(g_, bin_y, bin_x) * g_.out_channels + span.begin;
    pixels_.resize(bin_.size());
    weights_.resize(bin_.size());
    bin_.for_each([&](int64_t k, int64_t pixel, size_t i, size_t j) {
      pixels_[k] = image + pixel * input.stride();
      weights_[k] = bin_.y.weight[i] * bin_.x.weight[j];
    });
    kernels_.weighted_sum(pixels_.data(), weights_.data(), bin_.size(), span.size(), out);
    for (int64_t c = 0; c < span.size(); ++c) out[c] = out[c] / bin_.divisor() * mask;
  }

  const RoiOperands& operands_;
  const RoiPoolGeometry& g_;
  const Rois<T>& rois_;
  const std::vector<ChannelRows<T>>& inputs_;
  const View& output_;
  const Kernels<T>& kernels_ = kernels<T>();
  const std::vector<ChannelSpan> classes_;
  Bin<Rule, T> bin_;
  std::vector<const T*> pixels_;
  std::vector<T> weights_;
  Buffer<T> result_;
};

template <class Rule, class T>
void pool_forward(const RoiOperands& operands, const View& output) {
  const RoiPoolGeometry& g = operands.g;
  const Rois<T> rois(operands);
  const std::vector<ChannelRows<T>> inputs = rows_by_cell<T>(operands);
  run_tasks(g.rois * g.pooled_h, [&] {
    return [&, worker = PoolWorker<Rule, T>(operands, rois, inputs, output)](int64_t task) mutable {
      worker(task / g.pooled_h, task % g.pooled_h);
    };
  });
}

// The contribution of some channels to the gradients of offset and mask: for each bin the dot
// products of grad_output with the derivatives of the average with respect to x and y, and with the
// average.
template <class T>
struct BinShares {
  int64_t bins;
  Buffer<T> data;  // [spans, rois, bins, 3]

  BinShares(const RoiPoolGeometry& g, int64_t spans)
      : bins(g.pooled_h * g.pooled_w), data({spans, g.rois, g.pooled_h, g.pooled_w, 3}) {}
  T* at(const RoiPoolGeometry& g, int64_t span, int64_t r, int64_t bin) const {
    return data.data() + ((span * g.rois + r) * bins + bin) * 3;
  }
};

// Output channels that one task works on: each span belongs to one class of offsets.
struct PoolSlice {
  int64_t begin, end, first_span;
  std::vector<ChannelSpan> spans;
};

template <class T>
std::vector<PoolSlice> pool_slices(const RoiPoolGeometry& g) {
  const int64_t width = channels_at_once<T>(g.out_channels);
  std::vector<PoolSlice> slices;
  int64_t spans = 0;
  for (int64_t begin = 0; begin < g.out_channels; begin += width) {
    const int64_t end = std::min(begin + width, g.out_channels);
    slices.push_back({begin, end, spans, cut_by_group(begin, end, g.out_channels / g.classes)});
    spans += int64_t(slices.back().spans.size());
  }
  return slices;
}

// Owns one cell of one image of a level in one slice's channels and processes the RoIs in order:
// nothing races.
template <class Rule, class T>
class PoolBackwardWorker {
 public:
  PoolBackwardWorker(const RoiOperands& operands, const Rois<T>& rois,
                     const std::vector<ChannelRows<T>>& inputs, const ChannelRows<T>& grad_output,
                     const BinShares<T>& shares, const RoiGrads& grads)
      : operands_(operands),
        g_(operands.g),
        rois_(rois),
        inputs_(inputs),
        grad_output_(grad_output),
        shares_(shares),
        grads_(grads),
        bin_(operands),
        sums_({most_sums(g_, grads), kPanel<T>}) {}

  void operator()(int64_t level, int64_t image, int64_t cell, const PoolSlice& slice) {
    const RoiLevel& map = g_.level[level];
    const int64_t width = slice.end - slice.begin, pixels = map.height * map.width;
    const View& grad = grads_.inputs[level];
    if (!grad && !grads_.offset && !grads_.mask) return;
    if (grad) std::fill_n(sums_.data(), pixels * width, T(0));
    for (int64_t r = 0; r < g_.rois; ++r) {
      if (rois_.image(r) != image || rois_.level(r) != level) continue;
      for (int64_t bin = 0; bin < shares_.bins; ++bin) {
        if (cell_of<Rule>(g_, bin / g_.pooled_w, bin % g_.pooled_w) == cell) {
          add_bin(r, bin, cell, slice);
        }
      }
    }
    if (!grad) return;
    const int64_t cells = g_.group_size * g_.group_size;
    View to = advance(grad, (slice.begin * cells + cell) * grad.stride[1]);
    to.stride[1] *= cells;
    store_rows(to, {image, 0, width, 0, pixels, map.width}, sums_.data(), width);
  }

 private:
  // The pixels of the largest gradient.
  static int64_t most_sums(const RoiPoolGeometry& g, const RoiGrads& grads) {
    int64_t most = 0;
    for (int level = 0; level < g.levels; ++level) {
      if (grads.inputs[level]) most = std::max(most, g.level[level].height * g.level[level].width);
    }
    return most;
  }

  void add_bin(int64_t r, int64_t bin, int64_t cell, const PoolSlice& slice) {
    const T mask = bin_mask<T>(operands_, r, bin);
    for (size_t i = 0; i < slice.spans.size(); ++i) {
      const ChannelSpan& span = slice.spans[i];
      bin_.fill(rois_, r, bin / g_.pooled_w, bin % g_.pooled_w, span.group);
      const T* grad = grad_output_.image(r) + bin * grad_output_.stride() + span.begin;
      T* share = shares_.at(g_, slice.first_span + int64_t(i), r, bin);
      if (bin_.nan()) {
        std::fill_n(share, 3, std::numeric_limits<T>::quiet_NaN());
        continue;
      }
      if (grads_.offset || grads_.mask) {
        share_bin(r, cell, span, mask, grad, share);
      }
      if (grads_.inputs[rois_.level(r)]) scatter_bin(slice, span, mask, grad);
    }
  }

  void share_bin(int64_t r, int64_t cell, const ChannelSpan& span, T mask, const T* grad,
                 T* share) {
    const ChannelRows<T>& input = inputs_[rois_.level(r)];
    const T* image = input.image(rois_.image(r)) + cell * g_.out_channels + span.begin;
    pixels_.resize(bin_.size());
    dots_.resize(bin_.size());
    bin_.for_each([&](int64_t k, int64_t pixel, size_t, size_t) {
      pixels_[k] = image + pixel * input.stride();
    });
    kernels_.dot_rows(pixels_.data(), bin_.size(), grad, span.size(), dots_.data());
    T along_x = 0, along_y = 0, value = 0;
    bin_.for_each([&](int64_t k, int64_t, size_t i, size_t j) {
      along_x += bin_.y.weight[i] * bin_.x.slope[j] * dots_[k];
      along_y += bin_.y.slope[i] * bin_.x.weight[j] * dots_[k];
      value += bin_.y.weight[i] * bin_.x.weight[j] * dots_[k];
    });
    share[0] = along_x / bin_.divisor() * mask * bin_.x.by_offset;
    share[1] = along_y / bin_.divisor() * mask * bin_.y.by_offset;
    share[2] = value / bin_.divisor();
  }

  void scatter_bin(const PoolSlice& slice, const ChannelSpan& span, T mask, const T* grad) {
    const int64_t width = slice.end - slice.begin;
    T* image = sums_.data() + span.begin - slice.begin;
    targets_.resize(bin_.size());
    weights_.resize(bin_.size());
    bin_.for_each([&](int64_t k, int64_t pixel, size_t i, size_t j) {
      targets_[k] = image + pixel * width;
      weights_[k] = bin_.y.weight[i] * bin_.x.weight[j] / bin_.divisor() * mask;
    });
    kernels_.scatter_rows(targets_.data(), weights_.data(), bin_.size(), grad, span.size());
  }

  const RoiOperands& operands_;
  const RoiPoolGeometry& g_;
  const Rois<T>& rois_;
  const std::vector<ChannelRows<T>>& inputs_;
  const ChannelRows<T>& grad_output_;
  const BinShares<T>& shares_;
  const RoiGrads& grads_;
  const Kernels<T>& kernels_ = kernels<T>();
  Bin<Rule, T> bin_;
  Buffer<T> sums_;  // [pixels of a level, channels of the slice]
  std::vector<const T*> pixels_;
  std::vector<T*> targets_;
  std::vector<T> weights_, dots_;
};

// Adds the partial sums of a RoI's spans in order: for an offset over the bins of its part and the
// channels of its class, for the mask over all channels.
template <class Rule, class T>
void finish_shares(const RoiOperands& operands, const Rois<T>& rois, const BinShares<T>& shares,
                   const std::vector<PoolSlice>& slices, const RoiGrads& grads, int64_t r) {
  const RoiPoolGeometry& g = operands.g;
  const int64_t parts_w = Rule::parts_w(g), parts = Rule::parts_h(g) * parts_w;
  std::vector<T> offset(grads.offset ? 2 * g.classes * parts : 0, T(0)), mask(shares.bins, T(0));
  for (const PoolSlice& slice : slices) {
    for (size_t i = 0; i < slice.spans.size(); ++i) {
      for (int64_t bin = 0; bin < shares.bins; ++bin) {
        const T poison[3] = {NAN, NAN, NAN};
        const T* share =
            rois.image(r) < 0 ? poison : shares.at(g, slice.first_span + int64_t(i), r, bin);
        mask[bin] += share[2];
        if (!grads.offset) continue;
        const int64_t part = Rule::part(g, bin / g.pooled_w, g.pooled_h) * parts_w +
                             Rule::part(g, bin % g.pooled_w, g.pooled_w);
        T* to = offset.data() + 2 * slice.spans[i].group * parts + part;
        to[0] += share[0];
        to[parts] += share[1];
      }
    }
  }
  for (int64_t c = 0; grads.offset && c < 2 * g.classes; ++c) {
    store_rows(grads.offset, {r, c, 1, 0, parts, parts_w}, offset.data() + c * parts, 1);
  }
  if (grads.mask) store_rows(grads.mask, {r, 0, 1, 0, shares.bins, g.pooled_w}, mask.data(), 1);
}

template <class Rule, class T>
void pool_backward(const RoiOperands& operands, const View& grad_output, const RoiGrads& grads) {
  const RoiPoolGeometry& g = operands.g;
  const Rois<T> rois(operands);
  std::vector<ChannelRows<T>> inputs;  // the gradients of the inputs need none
  if (grads.offset || grads.mask) inputs = rows_by_cell<T>(operands);
  const ChannelRows<T> grad_rows(grad_output, {g.rois, g.out_channels, g.pooled_h, g.pooled_w});
  const std::vector<PoolSlice> slices = pool_slices<T>(g);
  const int64_t spans = slices.back().first_span + int64_t(slices.back().spans.size());
  const int64_t cells = g.group_size * g.group_size, count = int64_t(slices.size());
  const BinShares<T> shares(g, spans);
  const int64_t per_level = g.batch * count * cells;
  run_tasks(g.levels * per_level, [&] {
    return [&, worker = PoolBackwardWorker<Rule, T>(operands, rois, inputs, grad_rows, shares,
                                                    grads)](int64_t task) mutable {
      worker(task / per_level, task % per_level / cells / count, task % cells,
             slices[task / cells % count]);
    };
  });
  if (!grads.offset && !grads.mask) return;
  run_tasks(g.rois, [&] {
    return [&](int64_t r) { finish_shares<Rule>(operands, rois, shares, slices, grads, r); };
  });
}

}  // namespace dcnv2::cpu
