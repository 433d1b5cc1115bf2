// mask_decode on the CPU.
//
// Between four neighbouring centres of the maps' places ("a cell") every map is a bilinear patch, bounded by its four
// corners. A segment whose highest corner lies below another one's lowest is never the highest there, so each cell
// first keeps its few candidates (often one), and its pixels compare only those: the time hardly depends on how many
// segments there are. Along a row of pixels a candidate is a straight line between two blended corners.

#include <algorithm>
#include <cmath>
#include <vector>

#include "internal.h"
#include "rows.h"

namespace {

struct Candidate {
  float upper_left, upper_right, lower_left, lower_right;
  int32_t label;
};

struct Line {
  float left, right;
  int32_t label;
};

// What a row of pixels needs beside its candidates.
struct Row {
  const std::vector<Cell>& cells;
  const Axis& across;
  float above, below;  // weights of the lower and the upper row of the maps
  float threshold;     // pixels whose best is lower get the label `background`
  int32_t background;
};

// The candidates of the cells between two rows of the maps.
class Band {
 public:
  std::vector<Candidate> candidates;
  std::vector<int64_t> start;  // (cells + 1) of each cell's candidates

  void find(const float* maps, int64_t segments, int64_t plane, const float* upper, const float* lower,
            int64_t columns, const std::vector<Cell>& cells, const int32_t* table) {
    const int64_t upper_row = upper - maps, lower_row = lower - maps, count = static_cast<int64_t>(cells.size());
    lowest_.resize(columns);
    floor_.assign(count, -INFINITY);
    for (int64_t k = 0; k < segments; ++k) {
      const float *a = maps + k * plane + upper_row, *b = maps + k * plane + lower_row;
      for (int64_t j = 0; j < columns; ++j) lowest_[j] = std::min(a[j], b[j]);
      for (int64_t c = 0; c < count; ++c)
        floor_[c] = std::max(floor_[c], std::min(lowest_[cells[c].left], lowest_[cells[c].right]));
    }
    start.resize(count + 1);
    candidates.clear();
    for (int64_t c = 0; c < count; ++c) {
      const int64_t left = cells[c].left, right = cells[c].right;
      start[c] = static_cast<int64_t>(candidates.size());
      for (int64_t k = 0; k < segments; ++k) {
        const float *a = maps + k * plane + upper_row, *b = maps + k * plane + lower_row;
        const float highest = std::max(std::max(a[left], a[right]), std::max(b[left], b[right]));
        if (highest >= floor_[c])
          candidates.push_back({a[left], a[right], b[left], b[right], table ? table[k] : static_cast<int32_t>(k)});
      }
    }
    start[count] = static_cast<int64_t>(candidates.size());
  }

 private:
  std::vector<float> lowest_, floor_;
};

template <typename Label>
ZS_INLINE void fill(const Line& line, const float* below, const float* above, int64_t count, Label* labels,
                    float* confidence) {
  for (int64_t x = 0; x < count; ++x) confidence[x] = line.left * below[x] + line.right * above[x];
  for (int64_t x = 0; x < count; ++x) labels[x] = static_cast<Label>(line.label);
}

// confidence and labels hold the best of earlier lines; the new one takes over where it is higher.
template <typename Label>
ZS_INLINE void raise(const Line& line, const float* below, const float* above, int64_t count, Label* labels,
                     float* confidence) {
  constexpr int64_t chunk = 64;
  int32_t higher[chunk];  // the width of a float, so that both loops run in vectors
  const Label label = static_cast<Label>(line.label);
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t n = std::min(chunk, count - begin);
    const float *s = below + begin, *t = above + begin;
    float* best = confidence + begin;
    for (int64_t x = 0; x < n; ++x) {
      const float value = line.left * s[x] + line.right * t[x];
      higher[x] = value > best[x];
      best[x] = std::max(value, best[x]);
    }
    for (int64_t x = 0; x < n; ++x) labels[begin + x] = higher[x] ? label : labels[begin + x];
  }
}

// Functions of their own, not templates: only these can be compiled for several processors.
#define ZS_SPANS(Label)                                                                                             \
  ZS_CLONES void fill_span(const Line& line, const float* below, const float* above, int64_t count, Label* labels,  \
                           float* confidence) {                                                                     \
    fill(line, below, above, count, labels, confidence);                                                            \
  }                                                                                                                 \
  ZS_CLONES void raise_span(const Line& line, const float* below, const float* above, int64_t count, Label* labels, \
                            float* confidence) {                                                                    \
    raise(line, below, above, count, labels, confidence);                                                           \
  }
ZS_SPANS(uint8_t)
ZS_SPANS(uint16_t)
#undef ZS_SPANS

template <typename Label>
void decode_row(const Row& row, const Band& band, Line* lines, Label* labels, float* confidence) {
  for (size_t c = 0; c < row.cells.size(); ++c) {
    const Candidate* candidates = band.candidates.data() + band.start[c];
    const int64_t all = band.start[c + 1] - band.start[c], begin = row.cells[c].begin;
    const int64_t count = row.cells[c].end - begin;
    const float *below = row.across.below.data() + begin, *above = row.across.above.data() + begin;
    float floor = -INFINITY, best_left = -INFINITY, best_right = -INFINITY;
    int64_t left = 0, right = 0;  // the highest line at either end
    for (int64_t i = 0; i < all; ++i) {
      const Candidate& from = candidates[i];
      const Line line = {from.upper_left * row.below + from.lower_left * row.above,
                         from.upper_right * row.below + from.lower_right * row.above, from.label};
      lines[i] = line;
      floor = std::max(floor, std::min(line.left, line.right));
      left = line.left > best_left ? i : left;
      right = line.right > best_right ? i : right;
      best_left = std::max(best_left, line.left);
      best_right = std::max(best_right, line.right);
    }
    if (left == right) {  // highest at both ends, so all along
      fill_span(lines[left], below, above, count, labels + begin, confidence + begin);
      continue;
    }
    bool first = true;
    for (int64_t i = 0; i < all; ++i) {  // a line that lies below another one's lower end never is the highest
      if (std::max(lines[i].left, lines[i].right) < floor) continue;
      if (first)
        fill_span(lines[i], below, above, count, labels + begin, confidence + begin);
      else
        raise_span(lines[i], below, above, count, labels + begin, confidence + begin);
      first = false;
    }
  }
  if (row.threshold == -INFINITY) return;
  const int64_t width = static_cast<int64_t>(row.across.below.size());
  for (int64_t x = 0; x < width; ++x)
    labels[x] = confidence[x] < row.threshold ? static_cast<Label>(row.background) : labels[x];
}

}  // namespace

int32_t zs_mask_decode(const float* maps, int64_t segments, int64_t rows, int64_t columns, const int32_t* table,
                       float threshold, int64_t height, int64_t width, int32_t label_bytes, void* labels,
                       float* confidence, const zs_overlay* overlay, int32_t threads) {
  return zs::guarded([&] {
    zs::check(maps && labels && confidence, "mask_decode: null array");
    zs::check(segments > 0 && rows > 0 && columns > 0 && height > 0 && width > 0, "mask_decode: sizes must be positive");
    zs::check(segments <= INT32_MAX, "mask_decode: too many segments");
    zs::check(label_bytes == 1 || label_bytes == 2, "mask_decode: labels take 1 or 2 bytes");
    check_overlay(overlay, "mask_decode: overlay out of range or without its arrays");
    const Axis down(rows, height), across(columns, width);
    const std::vector<Cell> cells = cells_of(across, columns);
    zs::over_rows(height, (1 << 18) / width + 1, threads, [&](int64_t top, int64_t bottom) {
      Band band;
      std::vector<Line> lines(segments);
      for (int64_t y = top; y < bottom; ++y) {
        const int64_t low = down.low[y], high = std::min(low + 1, rows - 1);
        if (y == top || low != down.low[y - 1])
          band.find(maps, segments, rows * columns, maps + low * columns, maps + high * columns, columns, cells, table);
        const Row row{cells, across, down.above[y], down.below[y], threshold, -1};
        float* confidence_row = confidence + y * width;
        if (label_bytes == 1) {
          uint8_t* label_row = static_cast<uint8_t*>(labels) + y * width;
          decode_row(row, band, lines.data(), label_row, confidence_row);
          if (overlay) overlay_row(*overlay, y, width, label_row);
        } else {
          uint16_t* label_row = static_cast<uint16_t*>(labels) + y * width;
          decode_row(row, band, lines.data(), label_row, confidence_row);
          if (overlay) overlay_row(*overlay, y, width, label_row);
        }
      }
    });
  });
}
