#include "widen_labels.h"

#include "device.cuh"
#include "zeroseg_cuda.h"

namespace zs::trt {

namespace {

constexpr int THREADS = 256;

__global__ void widen_labels_kernel(int16_t const* from, int32_t* to, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (i < count) to[i] = from[i];
}

}  // namespace

int32_t widen_labels(int16_t const* from, int32_t* to, int64_t count, void* stream) {
  auto kernel = &widen_labels_kernel;
  ZS_LAUNCH(kernel, ceil_div(count, THREADS), THREADS, 0, stream, from, to, count);
  return cudaGetLastError() == cudaSuccess ? ZS_CUDA_OK : ZS_CUDA_LAUNCH_FAILED;
}

}  // namespace zs::trt
