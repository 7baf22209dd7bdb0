// SPDX-License-Identifier: BSD-3-Clause
// The samples of a convolution in each cell, with one list for each deform group. Within a list,
// ids number the rows of the columns: output pixels of the lists' images, then taps.
#pragma once

#include "cuda/sample_sort/gather.cuh"

namespace dcnv2::cuda {

SortLayout cell_lists_layout(const ConvGeometry& g, int64_t images);
CellLists build_cell_lists(const ConvArgs& a, int64_t first_image, int64_t images, void* workspace,
                           cudaStream_t stream);

}  // namespace dcnv2::cuda
