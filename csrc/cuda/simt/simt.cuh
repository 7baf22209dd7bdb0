// SPDX-License-Identifier: BSD-3-Clause
// Launches of the SIMT kernels, for the plans of all paths: with a flag (ConvArgs::nonfinite) they
// mend what a tensor-core kernel of merged groups has written.
#pragma once

#include "cuda/sample_sort/sample_lists.cuh"

namespace dcnv2::cuda {

void launch_simt_forward(const ConvArgs& a, cudaStream_t stream);
void launch_simt_grad_offset_mask(const ConvArgs& a, cudaStream_t stream);
// Of the images of some lists, from image `first` on.
template <class T>
void launch_simt_grad_input(const ConvArgs& a, int64_t first, int64_t images,
                            const SampleLists<accumulator_t<T>>& lists, cudaStream_t stream);

}  // namespace dcnv2::cuda
