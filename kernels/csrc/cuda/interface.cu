#include <cstdio>

#include "interface.cuh"

namespace zs {

static thread_local char last_error[256] = "";

int32_t refuse(const char* message) {
  std::snprintf(last_error, sizeof last_error, "%s", message);
  return ZS_CUDA_BAD_ARGUMENT;
}

int32_t launched(const char* what) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return ZS_CUDA_OK;
  std::snprintf(last_error, sizeof last_error, "%s: %s", what, cudaGetErrorString(error));
  return ZS_CUDA_LAUNCH_FAILED;
}

}  // namespace zs

int32_t zs_cuda_abi_version(void) { return ZS_CUDA_ABI_VERSION; }

const char* zs_cuda_last_error(void) { return zs::last_error; }
