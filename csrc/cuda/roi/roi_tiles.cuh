// SPDX-License-Identifier: BSD-3-Clause
// The gradient of RoI pooling's input by tiles: a block has a few pixels and channels of an image,
// looks for the rois, then for their bins, that touch its pixels, and adds those bins up in order.
// Takes every problem; sums do not depend on how many samples there are, or on who runs first.
#pragma once

#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// Bytes of the workspace.
size_t roi_tiles_workspace(const RoiPoolArgs& a);
void launch_roi_tiles(const RoiPoolArgs& a, void* workspace, cudaStream_t stream);

}  // namespace dcnv2::cuda
