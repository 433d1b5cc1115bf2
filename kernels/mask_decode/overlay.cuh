// The overlay of one pixel, with and without a guide.
#pragma once

#include "device.cuh"

namespace {

// round((before (255 - alpha) + color alpha) / 255) of one channel
__device__ inline uint32_t blend(uint32_t before, uint32_t color, uint32_t alpha) {
  return (before * (255 - alpha) + color * alpha + 127) / 255;
}

template <typename Args>
__device__ void tint_pixel(const Args& a, int64_t place, int label) {
  const bool tinted = label >= 0 && label < a.color_count;
  for (int c = 0; c < 3; ++c) {
    const uint32_t before = a.image[3 * place + c];
    a.picture[3 * place + c] = static_cast<uint8_t>(
        tinted ? blend(before, __ldg(a.colors + 3 * static_cast<int64_t>(label) + c), a.alpha) : before);
  }
}

}  // namespace
