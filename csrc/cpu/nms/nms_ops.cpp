// SPDX-License-Identifier: BSD-3-Clause
// Batched non-maximum suppression on the CPU: one task for each image.
#include "nms_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <vector>

#include "cpu/tensor/parallel.h"

namespace dcnv2::cpu {
namespace {

// Elements of a tensor of up to three axes and any strides.
template <class T>
class Elements {
 public:
  explicit Elements(const Tensor& t) : data_(static_cast<const T*>(t.data_ptr())) {
    for (int64_t axis = 0; axis < t.dim(); ++axis) stride_[axis] = t.stride(axis);
  }
  T at(int64_t i, int64_t j, int64_t k = 0) const {
    return data_[i * stride_[0] + j * stride_[1] + k * stride_[2]];
  }

 private:
  const T* data_;
  int64_t stride_[3] = {0, 0, 0};
};

template <class T>
struct Box {
  T x1, y1, x2, y2;

  T area() const { return (x2 - x1) * (y2 - y1); }
};

// The kept boxes of a group, with an array for each number, so that the loop over them vectorises.
template <class T>
class KeptBoxes {
 public:
  void add(const Box<T>& box) {
    x1_.push_back(box.x1);
    y1_.push_back(box.y1);
    x2_.push_back(box.x2);
    y2_.push_back(box.y2);
    area_.push_back(box.area());
  }

  // Whether the overlap of one of them with a box exceeds the threshold. Operations and their order
  // are those of torchvision's CPU kernel, for equal rounding. With a NaN coordinate, the area and
  // so the overlap are NaN, which exceeds nothing.
  bool suppress(const Box<T>& box, T threshold) const {
    const T area = box.area();
    for (size_t begin = 0; begin < area_.size(); begin += kBatch) {
      const size_t end = std::min(begin + kBatch, area_.size());
      int exceeded = 0;
      for (size_t i = begin; i < end; ++i) {
        const T width = std::min(x2_[i], box.x2) - std::max(x1_[i], box.x1);
        const T height = std::min(y2_[i], box.y2) - std::max(y1_[i], box.y1);
        const T shared = std::max(T(0), width) * std::max(T(0), height);
        const T both = area_[i] + area;
        exceeded |= shared / (both - shared) > threshold;
      }
      if (exceeded) return true;
    }
    return false;
  }

 private:
  static constexpr size_t kBatch = 64;
  std::vector<T> x1_, y1_, x2_, y2_, area_;
};

// The largest T that is at most `value`: numbers of type T exceed both or neither.
template <class T>
T round_down(double value) {
  const T rounded = static_cast<T>(value);
  return double(rounded) > value ? std::nextafter(rounded, -std::numeric_limits<T>::infinity())
                                 : rounded;
}

template <class T>
struct Candidate {
  T score;
  int64_t index;

  // As torch.sort orders descending scores: NaN comes first.
  bool before(const Candidate& other) const {
    const bool nan = score != score, other_nan = other.score != other.score;
    return nan || other_nan ? nan && !other_nan : score > other.score;
  }
};

// The boxes of an image that are there, by descending score and ascending index.
template <class T>
std::vector<Candidate<T>> candidates(const Elements<T>& scores, int64_t image, int64_t count) {
  std::vector<Candidate<T>> found;
  for (int64_t i = 0; i < count; ++i) {
    const T score = scores.at(image, i);
    if (score != -std::numeric_limits<T>::infinity()) found.push_back({score, i});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& one, const auto& other) { return one.before(other); });
  return found;
}

template <class T>
void suppress_images(const NmsCall& call, const NmsResults& results) {
  const Elements<T> boxes(call.boxes), scores(call.scores);
  const Elements<int64_t> groups(call.groups);
  const T threshold = round_down<T>(call.iou_threshold);
  auto* const indices = static_cast<int64_t*>(std::get<0>(results).data_ptr());
  auto* const counts = static_cast<int64_t*>(std::get<1>(results).data_ptr());
  run_tasks(call.images, [&] {
    return [&](int64_t image) {
      int64_t* const kept = indices + image * call.max_out;
      int64_t count = 0;
      std::unordered_map<int64_t, KeptBoxes<T>> kept_boxes;
      for (const auto& [score, at] : candidates(scores, image, call.boxes_per_image)) {
        if (count == call.max_out) break;
        const Box<T> box{boxes.at(image, at, 0), boxes.at(image, at, 1), boxes.at(image, at, 2),
                         boxes.at(image, at, 3)};
        KeptBoxes<T>& of_group = kept_boxes[groups.at(image, at)];
        if (of_group.suppress(box, threshold)) continue;
        of_group.add(box);
        kept[count++] = at;
      }
      counts[image] = count;
      std::fill(kept + count, kept + call.max_out, int64_t(-1));
    };
  });
}

struct NmsPass {
  static NmsResults run(const NmsCall& call) {
    const NmsResults results = new_nms_results(call);
    if (call.boxes.scalar_type() == ScalarType::Double) {
      suppress_images<double>(call, results);
    } else {
      suppress_images<float>(call, results);
    }
    return results;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CPU, m) { NmsOps<NmsPass>::implement(m); }

}  // namespace dcnv2::cpu
