// SPDX-License-Identifier: BSD-3-Clause
// How channels are cut into pieces of work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/simd/kernels.h"

namespace dcnv2::cpu {

// Channels [begin, end) of one weight group, deform group or offset class.
struct ChannelSpan {
  int64_t begin, end;
  int64_t group;
  int64_t size() const { return end - begin; }
};

// [begin, end) cut wherever a group of `per_group` channels ends.
inline std::vector<ChannelSpan> cut_by_group(int64_t begin, int64_t end, int64_t per_group) {
  std::vector<ChannelSpan> spans;
  while (begin < end) {
    const int64_t group = begin / per_group;
    const int64_t next = std::min(end, (group + 1) * per_group);
    spans.push_back({begin, next, group});
    begin = next;
  }
  return spans;
}

// Channels that the backward passes process at once: a panel, or half a panel if there are few
// channels, so that a single image still has work for several threads. It depends only on the
// number of channels: neither the batch nor the threads may change the order of a sum.
template <class T>
int64_t channels_at_once(int64_t channels) {
  return channels >= 4 * kPanel<T> ? kPanel<T> : kPanel<T> / 2;
}

}  // namespace dcnv2::cpu
