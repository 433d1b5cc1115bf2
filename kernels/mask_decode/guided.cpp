// mask_decode with a guide, on the CPU: the coarse coefficients applied to the full-size photo.
//
// Between four neighbouring centres of cells, a segment's value is a function of the place and of the pixel's colour,
// which stays within the extremes of the four cells. A segment that cannot exceed another one there, whatever the place
// and the colour, is no candidate; the pixels compare only the candidates, often one. No map of full size exists.

#include "guided.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "internal.h"
#include "rows.h"

namespace {

constexpr int64_t LANES = 8;         // pixels at a time; rows have so many more places than pixels
constexpr float SLACK = 1e-5f;       // of the bounds, for rounding

struct Candidates {                  // of the cells between two rows of centres
  std::vector<int64_t> start;        // (cells + 1)
  std::vector<float> corners;        // 16 each: upper left, upper right, lower left, lower right, of 4 coefficients
  std::vector<int32_t> label;
};

// Eight numbers. The compiler makes of it what the processor has.
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

template <typename Vector, typename Number>
ZS_INLINE void load(const Number* from, Vector& to) {
  std::memcpy(&to, from, sizeof to);
}

template <typename Vector, typename Number>
ZS_INLINE void store(const Vector& from, Number* to) {
  std::memcpy(to, &from, sizeof from);
}

// How far every segment can exceed the one that is highest for the middle colour, in most (lanes), where colours differ
// from it by up to half. values: (4, lanes) scratch.
ZS_CLONES void bound(const float* const* corners, int64_t lanes, int64_t segments, const float* middle,
                     const float* half, float* values, float* most) {
  for (int64_t k = 0; k < lanes; k += LANES) {
    Floats sum = {};
    for (int corner = 0; corner < 4; ++corner) {
      Floats r, g, b, constant;
      load(corners[corner] + k, r);
      load(corners[corner] + lanes + k, g);
      load(corners[corner] + 2 * lanes + k, b);
      load(corners[corner] + 3 * lanes + k, constant);
      const Floats value = constant + r * middle[0] + g * middle[1] + b * middle[2];
      store(value, values + corner * lanes + k);
      sum += value;
    }
    store(sum, most + k);
  }
  int64_t best = 0;
  for (int64_t k = 1; k < segments; ++k) best = most[k] > most[best] ? k : best;
  for (int64_t k = 0; k < lanes; k += LANES) {
    Floats highest = Floats{} - INFINITY;
    for (int corner = 0; corner < 4; ++corner) {
      Floats value;
      load(values + corner * lanes + k, value);
      value -= values[corner * lanes + best];
      for (int c = 0; c < 3; ++c) {
        Floats apart;
        load(corners[corner] + c * lanes + k, apart);
        apart -= corners[corner][c * lanes + best];
        value += (apart < 0 ? -apart : apart) * half[c];
      }
      highest = value > highest ? value : highest;
    }
    store(highest, most + k);
  }
}

class Band {
 public:
  Candidates candidates;

  void find(const zs::Coarse& coarse, int64_t segments, int64_t columns, int64_t upper, int64_t lower,
            const std::vector<Cell>& cells, const int32_t* table) {
    const int64_t lanes = coarse.lanes;
    scratch_.resize(5 * lanes);
    candidates.start.clear();
    candidates.corners.clear();
    candidates.label.clear();
    for (const Cell& cell : cells) {
      candidates.start.push_back(static_cast<int64_t>(candidates.label.size()));
      const int64_t places[4] = {upper * columns + cell.left, upper * columns + cell.right,
                                 lower * columns + cell.left, lower * columns + cell.right};
      const float* corners[4];
      float middle[3], half[3];
      for (int c = 0; c < 3; ++c) {
        uint8_t low = 255, high = 0;
        for (int64_t place : places) {
          low = std::min(low, coarse.lowest[3 * place + c]);
          high = std::max(high, coarse.highest[3 * place + c]);
        }
        middle[c] = 0.5f * static_cast<float>(high + low);
        half[c] = 0.5f * static_cast<float>(high - low);
      }
      for (int i = 0; i < 4; ++i) corners[i] = coarse.coefficients.data() + 4 * lanes * places[i];
      float* most = scratch_.data() + 4 * lanes;
      bound(corners, lanes, segments, middle, half, scratch_.data(), most);
      for (int64_t k = 0; k < segments; ++k) {
        if (most[k] < -SLACK) continue;
        const size_t place = candidates.corners.size();
        candidates.corners.resize(place + 16);
        float* to = candidates.corners.data() + place;
        for (int i = 0; i < 16; ++i) to[i] = corners[i / 4][i % 4 * lanes + k];
        candidates.label.push_back(table ? table[k] : static_cast<int32_t>(k));
      }
    }
    candidates.start.push_back(static_cast<int64_t>(candidates.label.size()));
  }

 private:
  std::vector<float> scratch_;
};

struct Line {  // of pixels; all arrays have LANES more places than pixels
  std::vector<float> red, green, blue, best;
  std::vector<int32_t> label;
  explicit Line(int64_t width)
      : red(width + LANES), green(width + LANES), blue(width + LANES), best(width + LANES), label(width + LANES) {}
};

ZS_CLONES void part_channels(const uint8_t* row, int64_t width, float* __restrict red, float* __restrict green,
                             float* __restrict blue) {
  for (int64_t x = 0; x < width; ++x) {
    red[x] = row[3 * x];
    green[x] = row[3 * x + 1];
    blue[x] = row[3 * x + 2];
  }
}

// Every pixel's highest candidate and its value. right: the weights of a cell's right corners.
ZS_CLONES void decode_row(const Cell* cells, int64_t count, const int64_t* start, const float* corners,
                          const int32_t* labels, float below, float above, const float* right, const float* red,
                          const float* green, const float* blue, float* best, int32_t* label) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = start[i]; j < start[i + 1]; ++j) {
      Floats upper, lower;
      load(corners + 16 * j, upper);
      load(corners + 16 * j + 8, lower);
      const Floats ends = upper * below + lower * above;
      const float from_red = ends[0], from_green = ends[1], from_blue = ends[2], from = ends[3];
      const float to_red = ends[4] - from_red, to_green = ends[5] - from_green, to_blue = ends[6] - from_blue;
      const float to = ends[7] - from;
      const Ints here = labels[j] - Ints{};
      const bool first = j == start[i];
      for (int64_t x = cells[i].begin; x < cells[i].end; x += LANES) {
        Floats r, g, b, t, highest;
        Ints winner;
        load(red + x, r);
        load(green + x, g);
        load(blue + x, b);
        load(right + x, t);
        const Floats value = (from + from_red * r + from_green * g + from_blue * b) +
                             t * (to + to_red * r + to_green * g + to_blue * b);
        if (first) {
          store(value, best + x);
          store(here, label + x);
          continue;
        }
        load(best + x, highest);
        load(label + x, winner);
        store(value > highest ? here : winner, label + x);
        store(value > highest ? value : highest, best + x);
      }
    }
  }
}

template <typename Label>
ZS_INLINE void finish(const float* best, const int32_t* label, int64_t width, float threshold, Label* labels,
                      float* confidence) {
  for (int64_t x = 0; x < width; ++x) {
    const float value = std::min(std::max(best[x], 0.0f), 1.0f);
    confidence[x] = value;
    labels[x] = static_cast<Label>(value < threshold ? -1 : label[x]);
  }
}

ZS_CLONES void finish_row(const float* best, const int32_t* label, int64_t width, float threshold, uint8_t* labels,
                          float* confidence) {
  finish(best, label, width, threshold, labels, confidence);
}

ZS_CLONES void finish_row(const float* best, const int32_t* label, int64_t width, float threshold, uint16_t* labels,
                          float* confidence) {
  finish(best, label, width, threshold, labels, confidence);
}

}  // namespace

int32_t zs_guided_decode(const float* maps, int64_t segments, int64_t rows, int64_t columns, const int32_t* table,
                         float threshold, const uint8_t* guide, int64_t height, int64_t width,
                         const zs_guided_settings* settings, int32_t label_bytes, void* labels, float* confidence,
                         const zs_overlay* overlay, int32_t threads) {
  return zs::guarded([&] {
    zs::check(maps && guide && settings && labels && confidence, "guided_decode: null array");
    zs::check(segments > 0 && rows > 0 && columns > 0 && height > 0 && width > 0, "guided_decode: sizes must be positive");
    zs::check(segments <= INT32_MAX, "guided_decode: too many segments");
    zs::check(settings->cell > 0 && settings->cell <= 1 << 15 && settings->radius > 0 && settings->passes > 0,
              "guided_decode: cell, radius and passes must be positive, cells at most 32768 pixels");
    zs::check(settings->epsilon > 0 && settings->detail_floor > 0, "guided_decode: epsilon must be positive");
    zs::check(label_bytes == 1 || label_bytes == 2, "guided_decode: labels take 1 or 2 bytes");
    check_overlay(overlay, "guided_decode: overlay out of range or without its arrays");
    const zs::GuidedGrid grid = {settings->cell, (height + settings->cell - 1) / settings->cell,
                                 (width + settings->cell - 1) / settings->cell, settings->radius};
    const zs::Coarse coarse = zs::coarse_coefficients(
        maps, segments, rows, columns, guide, height, width, grid,
        {settings->passes, settings->epsilon, settings->detail_floor}, threads);
    const double step = 1.0 / static_cast<double>(grid.cell);
    const Axis down(grid.rows, height, step);
    Axis across(grid.columns, width, step);
    const std::vector<Cell> cells = cells_of(across, grid.columns);
    across.above.resize(width + LANES);
    zs::over_rows(height, (1 << 16) / width + 1, threads, [&](int64_t top, int64_t bottom) {
      Band band;
      Line line(width);
      for (int64_t y = top; y < bottom; ++y) {
        const int64_t low = down.low[y];
        if (y == top || low != down.low[y - 1])
          band.find(coarse, segments, grid.columns, low, std::min(low + 1, grid.rows - 1), cells, table);
        part_channels(guide + 3 * y * width, width, line.red.data(), line.green.data(), line.blue.data());
        decode_row(cells.data(), static_cast<int64_t>(cells.size()), band.candidates.start.data(),
                   band.candidates.corners.data(), band.candidates.label.data(), down.below[y], down.above[y],
                   across.above.data(), line.red.data(), line.green.data(), line.blue.data(), line.best.data(),
                   line.label.data());
        const auto write = [&](auto* all) {
          auto* row = all + y * width;
          finish_row(line.best.data(), line.label.data(), width, threshold, row, confidence + y * width);
          if (overlay) overlay_row(*overlay, y, width, row);
        };
        if (label_bytes == 1)
          write(static_cast<uint8_t*>(labels));
        else
          write(static_cast<uint16_t*>(labels));
      }
    });
  });
}
