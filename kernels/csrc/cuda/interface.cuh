// The host side that the ops share: messages, checks, the status of a launch.
#pragma once

#include "device.cuh"
#include "zeroseg_cuda.h"

namespace zs {

int32_t refuse(const char* message);      // keeps the message, returns ZS_CUDA_BAD_ARGUMENT
int32_t launched(const char* what);       // the status of the launches just made on this thread

constexpr int64_t kMostBlocks = INT32_MAX;  // of one launch, on the x axis

inline bool aligned(const void* pointer, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

}  // namespace zs

// Leaves the function with a message unless `fine`.
#define ZS_REQUIRE(fine, message) \
  do {                            \
    if (!(fine)) return zs::refuse(message); \
  } while (0)
