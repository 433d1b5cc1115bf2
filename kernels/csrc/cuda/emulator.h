// CUDA on a CPU, for tests: every thread of a block is a fiber, blocks run one after the other.
//
// Barriers and shuffles are kept to the letter: a barrier that some thread of the block never reaches, or a shuffle that
// some lane of the warp never reaches, ends the program with a message. Threads run in turn from one barrier to the
// next, upwards or downwards (zs_emulator_set_order), so that a missing barrier shows as a different result. Shared memory is on the
// heap, of exactly the size asked for and filled with NaN, so that AddressSanitizer sees what leaves it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

// Of the threads of a block: 0 upwards, 1 downwards.
extern "C" __attribute__((visibility("default"))) void zs_emulator_set_order(int downwards);

namespace emulator {

void launch(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& kernel);
float* shared_memory();
void block_barrier();
uint32_t exchange(uint32_t value, int lane);   // the value that this lane of the warp brought
uint32_t ballot(bool bit);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);

}  // namespace emulator

#define ZS_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...) \
  emulator::launch(blocks, threads, shared_bytes, [=] { (void)(stream); kernel(__VA_ARGS__); })
#define ZS_SHARED(name) float* const name = emulator::shared_memory()

inline void __syncthreads() { emulator::block_barrier(); }
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline int __float_as_int(float value) { return static_cast<int>(__float_as_uint(value)); }
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<uint32_t>(bits)); }
inline float __shfl_xor_sync(uint32_t, float value, int mask) {
  return __uint_as_float(emulator::exchange(__float_as_uint(value), static_cast<int>(threadIdx.x % 32) ^ mask));
}
inline int __shfl_xor_sync(uint32_t, int value, int mask) {
  return static_cast<int>(emulator::exchange(static_cast<uint32_t>(value), static_cast<int>(threadIdx.x % 32) ^ mask));
}
inline uint32_t __ballot_sync(uint32_t, bool bit) { return emulator::ballot(bit); }
inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}
template <typename T>
T __ldg(const T* from) {
  return *from;
}
template <typename T>
T min(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}

typedef int cudaError_t;
constexpr cudaError_t cudaSuccess = 0;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
