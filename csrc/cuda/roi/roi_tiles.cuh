// SPDX-License-Identifier: BSD-3-Clause
// The gradient of the input of a RoI pooling by tiles: a block owns a few pixels and channels of an
// image, searches the rois and then the bins that touch its pixels, and adds those bins up in
// order. It supports every problem, and its sums are deterministic.
#pragma once

#include "cuda/dispatch/roi_passes.h"

namespace dcnv2::cuda {

// Bytes of the workspace.
size_t roi_tiles_workspace(const RoiPoolArgs& a);
void launch_roi_tiles(const RoiPoolArgs& a, void* workspace, cudaStream_t stream);

}  // namespace dcnv2::cuda
