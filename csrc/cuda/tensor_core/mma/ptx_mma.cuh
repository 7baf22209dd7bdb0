// SPDX-License-Identifier: BSD-3-Clause
// mma.sync, one function for each shape and type.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace dcnv2::cuda {

#define DCNV2_MMA(SHAPE_AND_TYPES)                                                \
  asm volatile("mma.sync.aligned." SHAPE_AND_TYPES                                \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

// d[16, 8] += a[16, 16] * b[8, 16]^T, by one warp.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], __half) {
  DCNV2_MMA("m16n8k16.row.col.f32.f16.f16.f32");
}
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], __nv_bfloat16) {
  DCNV2_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}

// d[16, 8] += a[16, 8] * b[8, 8]^T, by one warp.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  DCNV2_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}

}  // namespace dcnv2::cuda
