// mask_decode on the CPU.
//
// A row of the photo is a blend of two rows of every map; along it, between two neighbouring centres of the maps'
// places ("a cell"), every map is a straight line. A segment that is highest at both ends of a cell is highest all
// along it, so most cells need one line instead of K; only the cells where the winner changes compare all of them.

#include <algorithm>
#include <cmath>
#include <vector>

#include "internal.h"

namespace {

// Where an axis of the photo reads its map: half-pixel centres, clamped at the edges.
struct Axis {
  std::vector<int64_t> low;      // (target) lower neighbour
  std::vector<float> fraction;   // (target) weight of the upper one

  Axis(int64_t source, int64_t target) : low(target), fraction(target) {
    const double step = static_cast<double>(source) / static_cast<double>(target);
    for (int64_t i = 0; i < target; ++i) {
      const double position = std::clamp((i + 0.5) * step - 0.5, 0.0, static_cast<double>(source - 1));
      low[i] = std::min(static_cast<int64_t>(position), std::max<int64_t>(source - 2, 0));
      fraction[i] = static_cast<float>(position - static_cast<double>(low[i]));
    }
  }
};

// out[i] = a[i] * (1 - t) + b[i] * t
ZS_CLONES void blend_rows(const float* a, const float* b, float t, int64_t count, float* out) {
  const float s = 1.0f - t;
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] * s + b[i] * t;
}

// The highest map at every place of a row: rows of `columns` values, one per segment; the lowest segment wins a tie.
ZS_CLONES void row_winners(const float* row, int64_t segments, int64_t columns, float* best, int32_t* winner) {
  std::copy(row, row + columns, best);
  std::fill(winner, winner + columns, 0);
  for (int64_t k = 1; k < segments; ++k) {
    const float* value = row + k * columns;
    const int32_t index = static_cast<int32_t>(k);
    for (int64_t j = 0; j < columns; ++j) {
      const bool higher = value[j] > best[j];
      best[j] = higher ? value[j] : best[j];
      winner[j] = higher ? index : winner[j];
    }
  }
}

ZS_CLONES void fill_line(float a, float b, const float* fraction, int64_t count, int16_t label, float* confidence,
                         int16_t* labels) {
  for (int64_t x = 0; x < count; ++x) confidence[x] = a * (1.0f - fraction[x]) + b * fraction[x];
  for (int64_t x = 0; x < count; ++x) labels[x] = label;
}

// confidence and labels hold the best of earlier segments; the new one takes over where it is higher.
ZS_CLONES void raise_line(float a, float b, const float* fraction, int64_t count, int16_t label, float* confidence,
                          int16_t* labels) {
  constexpr int64_t chunk = 64;
  int32_t higher[chunk];  // the width of a float, so that both loops run in vectors
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t n = std::min(chunk, count - begin);
    const float* t = fraction + begin;
    float* best = confidence + begin;
    for (int64_t x = 0; x < n; ++x) {
      const float value = a * (1.0f - t[x]) + b * t[x];
      higher[x] = value > best[x];
      best[x] = std::max(value, best[x]);
    }
    for (int64_t x = 0; x < n; ++x) labels[begin + x] = higher[x] ? label : labels[begin + x];
  }
}

struct Cell {
  int64_t column, begin, end;  // pixels [begin, end) lie between the places column and column + 1
};

std::vector<Cell> cells_of(const Axis& axis) {
  std::vector<Cell> cells;
  const int64_t width = static_cast<int64_t>(axis.low.size());
  for (int64_t begin = 0, end; begin < width; begin = end) {
    for (end = begin + 1; end < width && axis.low[end] == axis.low[begin]; ++end) {
    }
    cells.push_back({axis.low[begin], begin, end});
  }
  return cells;
}

}  // namespace

int32_t zs_mask_decode(const float* maps, int64_t segments, int64_t rows, int64_t columns, const int16_t* table,
                       int64_t height, int64_t width, int16_t* labels, float* confidence, int32_t threads) {
  return zs::guarded([&] {
    zs::check(maps && table && labels && confidence, "mask_decode: null array");
    zs::check(segments > 0 && rows > 0 && columns > 0 && height > 0 && width > 0, "mask_decode: sizes must be positive");
    zs::check(segments <= INT32_MAX, "mask_decode: too many segments");
    const Axis down(rows, height), across(columns, width);
    const std::vector<Cell> cells = cells_of(across);
    const int64_t plane = rows * columns;
    zs::over_rows(height, (1 << 18) / width + 1, threads, [&](int64_t top, int64_t bottom) {
      std::vector<float> row(segments * columns), best(columns);
      std::vector<int32_t> winner(columns);
      for (int64_t y = top; y < bottom; ++y) {
        const int64_t low = down.low[y], high = std::min(low + 1, rows - 1);
        for (int64_t k = 0; k < segments; ++k)
          blend_rows(maps + k * plane + low * columns, maps + k * plane + high * columns, down.fraction[y], columns,
                     row.data() + k * columns);
        row_winners(row.data(), segments, columns, best.data(), winner.data());
        for (const Cell& cell : cells) {
          const int64_t left = cell.column, right = std::min(left + 1, columns - 1), count = cell.end - cell.begin;
          const float* fraction = across.fraction.data() + cell.begin;
          int16_t* label_out = labels + y * width + cell.begin;
          float* confidence_out = confidence + y * width + cell.begin;
          if (winner[left] == winner[right]) {
            const int64_t k = winner[left];
            fill_line(row[k * columns + left], row[k * columns + right], fraction, count, table[k], confidence_out,
                      label_out);
            continue;
          }
          // A line that lies below another one's lower end never is the highest.
          float floor = -INFINITY;
          for (int64_t k = 0; k < segments; ++k)
            floor = std::max(floor, std::min(row[k * columns + left], row[k * columns + right]));
          bool first = true;
          for (int64_t k = 0; k < segments; ++k) {
            const float a = row[k * columns + left], b = row[k * columns + right];
            if (std::max(a, b) < floor) continue;
            (first ? fill_line : raise_line)(a, b, fraction, count, table[k], confidence_out, label_out);
            first = false;
          }
        }
      }
    });
  });
}
