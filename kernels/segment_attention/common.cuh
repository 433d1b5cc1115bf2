// What assignment and pooling share.
#pragma once

#include "interface.cuh"

namespace {

using Args = zs_cuda_segment_attention_args;

constexpr int THREADS = 128;  // of a block, at most

template <int N>
__device__ inline void copy_shared(const float* from, float* to) {  // N floats, in as few loads as there can be
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
  } else if constexpr (N == 2) {
    const float2 two = *reinterpret_cast<const float2*>(from);
    to[0] = two.x, to[1] = two.y;
  } else {
    to[0] = from[0];
  }
}

}  // namespace
