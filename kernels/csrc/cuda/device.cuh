// What the CUDA kernels are written in: CUDA C++ under nvcc, and, in tests, plain C++ under any host compiler, where
// emulator.h gives threadIdx, __syncthreads, shuffles and launches their meaning on a CPU. The kernels do not know which.
//
// Shared memory is dynamic only (ZS_SHARED), so that the emulator can give every block its own, of exact size.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define ZS_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...) \
  kernel<<<dim3(static_cast<unsigned>(blocks)), threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define ZS_SHARED(name) extern __shared__ float4 name##_memory[]; float* const name = reinterpret_cast<float*>(name##_memory)
#else
#include "emulator.h"
#endif

namespace zs {

// Numbers of 16 bits as they lie in memory.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

#ifdef __CUDACC__
__device__ inline float half_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ inline uint16_t float_to_half(float value) { return __half_as_ushort(__float2half_rn(value)); }
#else
inline float half_to_float(uint16_t bits) { return emulator::half_to_float(bits); }
inline uint16_t float_to_half(float value) { return emulator::float_to_half(value); }
#endif

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(Half value) { return half_to_float(value.bits); }
__device__ inline float to_float(BFloat value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }

__device__ inline void store(float* to, float value) { *to = value; }
__device__ inline void store(Half* to, float value) { to->bits = float_to_half(value); }
__device__ inline void store(BFloat* to, float value) {  // to nearest, ties to even; NaN stays NaN
  const uint32_t bits = __float_as_uint(value), rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  to->bits = static_cast<uint16_t>(value != value ? bits >> 16 | 0x40u : rounded);
}

// Two or four neighbouring elements in one load; the address must be a multiple of their size.
__device__ inline void load4(const float* from, float* to) {
  const float4 four = __ldg(reinterpret_cast<const float4*>(from));
  to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}
template <typename T>  // Half, BFloat
__device__ inline void load4(const T* from, float* to) {
  const uint2 four = __ldg(reinterpret_cast<const uint2*>(from));
  to[0] = to_float(T{static_cast<uint16_t>(four.x)}), to[1] = to_float(T{static_cast<uint16_t>(four.x >> 16)});
  to[2] = to_float(T{static_cast<uint16_t>(four.y)}), to[3] = to_float(T{static_cast<uint16_t>(four.y >> 16)});
}
__device__ inline void load2(const float* from, float* to) {
  const float2 two = __ldg(reinterpret_cast<const float2*>(from));
  to[0] = two.x, to[1] = two.y;
}
template <typename T>
__device__ inline void load2(const T* from, float* to) {
  const uint32_t two = __ldg(reinterpret_cast<const uint32_t*>(from));
  to[0] = to_float(T{static_cast<uint16_t>(two)}), to[1] = to_float(T{static_cast<uint16_t>(two >> 16)});
}

// Over the lanes of a group of `width` neighbours (a power of 2); all 32 lanes must call.
__device__ inline float max_over_lanes(float value, int from, int width) {
  for (int other = from; other < width; other *= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, other));
  return value;
}
__device__ inline float sum_over_lanes(float value, int from, int width) {
  for (int other = from; other < width; other *= 2) value += __shfl_xor_sync(~0u, value, other);
  return value;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace zs
