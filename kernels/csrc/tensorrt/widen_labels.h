#pragma once

#include <cstdint>

namespace zs::trt {

// to[i] = from[i] for `count` labels, both device memory; queued on the stream. Returns a zs_cuda_status.
int32_t widen_labels(int16_t const* from, int32_t* to, int64_t count, void* stream);

}  // namespace zs::trt
