// What decoding shares with and without a guide: where an axis reads its map, and the overlay of a row.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "internal.h"

namespace {

// Where an axis of the photo reads its map: half-pixel centres, clamped at the edges.
struct Axis {
  std::vector<int64_t> low;          // (target) lower neighbour
  std::vector<float> below, above;   // (target) weights of the lower and of the upper neighbour

  Axis(int64_t source, int64_t target)
      : Axis(source, target, static_cast<double>(source) / static_cast<double>(target)) {}

  // step: how many source places a target place spans
  Axis(int64_t source, int64_t target, double step) : low(target), below(target), above(target) {
    for (int64_t i = 0; i < target; ++i) {
      const double position = std::clamp((i + 0.5) * step - 0.5, 0.0, static_cast<double>(source - 1));
      low[i] = std::min(static_cast<int64_t>(position), std::max<int64_t>(source - 2, 0));
      above[i] = static_cast<float>(position - static_cast<double>(low[i]));
      below[i] = 1.0f - above[i];
    }
  }
};

struct Cell {
  int64_t left, right;  // columns of the maps
  int64_t begin, end;   // pixels between them
};

inline std::vector<Cell> cells_of(const Axis& axis, int64_t columns) {
  std::vector<Cell> cells;
  const int64_t width = static_cast<int64_t>(axis.low.size());
  for (int64_t begin = 0, end; begin < width; begin = end) {
    for (end = begin + 1; end < width && axis.low[end] == axis.low[begin]; ++end) {
    }
    cells.push_back({axis.low[begin], std::min(axis.low[begin] + 1, columns - 1), begin, end});
  }
  return cells;
}

// out = (image * (255 - alpha) + colour * alpha) / 255, rounded, on `bytes` bytes of one colour.
ZS_CLONES void tint(const uint8_t* image, const uint8_t* colour, uint32_t alpha, int64_t bytes, uint8_t* out) {
  constexpr int64_t block = 48;  // pixels and vectors both end there
  uint16_t add[block];
  for (int64_t i = 0; i < block; ++i) add[i] = static_cast<uint16_t>(colour[i % 3] * alpha + 128);
  const uint16_t keep = static_cast<uint16_t>(255 - alpha);
  auto blend = [&](int64_t from, int64_t i) {
    const uint16_t sum = static_cast<uint16_t>(image[from + i] * keep + add[i]);
    out[from + i] = static_cast<uint8_t>(static_cast<uint16_t>(sum + (sum >> 8)) >> 8);
  };
  int64_t from = 0;
  for (; from + block <= bytes; from += block)
    for (int64_t i = 0; i < block; ++i) blend(from, i);
  for (int64_t i = 0; from + i < bytes; ++i) blend(from, i);
}

template <typename Label>
void overlay_row(const zs_overlay& overlay, int64_t y, int64_t width, const Label* labels) {
  const uint8_t* image = overlay.image + 3 * y * width;
  uint8_t* out = overlay.out + 3 * y * width;
  for (int64_t begin = 0, end; begin < width; begin = end) {
    const Label label = labels[begin];
    for (end = begin + 1; end < width && labels[end] == label; ++end) {
    }
    if (static_cast<int64_t>(label) < overlay.color_count)
      tint(image + 3 * begin, overlay.colors + 3 * static_cast<int64_t>(label), overlay.alpha, 3 * (end - begin),
           out + 3 * begin);
    else
      std::memcpy(out + 3 * begin, image + 3 * begin, static_cast<size_t>(3 * (end - begin)));
  }
}

inline void check_overlay(const zs_overlay* overlay, const char* message) {
  if (!overlay) return;
  zs::check(overlay->image && overlay->out && (overlay->colors || overlay->color_count == 0), message);
  zs::check(overlay->color_count >= 0 && overlay->alpha <= 255, message);
}

}  // namespace
