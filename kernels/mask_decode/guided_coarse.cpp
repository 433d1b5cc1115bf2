// A guided filter's coefficients on a grid of cells: guided_reference.py, coarse_coefficients.
//
// Window sums slide: down by adding a row of cells and subtracting another, across likewise, in double precision, so
// that nothing is left over. Threads take maps, not rows, and never wait for each other.

#include "guided.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "internal.h"
#include "rows.h"

namespace {

// Sums of every byte column of `count` bytes over `rows` rows of the photo: values, squares, extremes.
ZS_CLONES void column_sums(const uint8_t* photo, int64_t stride, int64_t rows, int64_t count, uint32_t* __restrict sum,
                           uint32_t* __restrict square, uint8_t* __restrict lowest, uint8_t* __restrict highest) {
  std::fill(sum, sum + count, 0u);
  std::fill(square, square + count, 0u);
  std::fill(lowest, lowest + count, uint8_t{255});
  std::fill(highest, highest + count, uint8_t{0});
  for (int64_t y = 0; y < rows; ++y) {
    const uint8_t* row = photo + y * stride;
    for (int64_t i = 0; i < count; ++i) {
      lowest[i] = std::min(lowest[i], row[i]);
      highest[i] = std::max(highest[i], row[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
      const uint16_t value = row[i];
      sum[i] += value;
      square[i] += static_cast<uint16_t>(value * value);
    }
  }
}

struct Moments {
  std::vector<float> mean;      // (cells, 3) in 0..1
  std::vector<double> within;   // (cells) variance inside the cell, summed over the channels
};

// Rows [top, bottom) of the grid.
void cell_moments(const uint8_t* guide, int64_t height, int64_t width, const zs::GuidedGrid& grid, int64_t top,
                  int64_t bottom, Moments& moments, zs::Coarse& coarse) {
  const int64_t strip_cells = std::max<int64_t>(1, 256 / grid.cell), strip = 3 * strip_cells * grid.cell;
  std::vector<uint32_t> sum(strip), square(strip);
  std::vector<uint8_t> lowest(strip), highest(strip);
  for (int64_t y = top; y < bottom; ++y) {
    const int64_t rows = std::min(grid.cell, height - y * grid.cell);
    for (int64_t first = 0; first < grid.columns; first += strip_cells) {
      const int64_t left = first * grid.cell, count = std::min(strip, 3 * (width - left));
      column_sums(guide + 3 * (y * grid.cell * width + left), 3 * width, rows, count, sum.data(), square.data(),
                  lowest.data(), highest.data());
      for (int64_t x = first; x < std::min(first + strip_cells, grid.columns); ++x) {
        const int64_t begin = 3 * (x - first) * grid.cell, end = std::min(begin + 3 * grid.cell, count);
        const int64_t cell = y * grid.columns + x;
        uint64_t total[3] = {0, 0, 0}, squares = 0;
        uint8_t low[3] = {255, 255, 255}, high[3] = {0, 0, 0};
        for (int64_t i = begin; i < end; i += 3)
          for (int c = 0; c < 3; ++c) {
            total[c] += sum[i + c];
            squares += square[i + c];
            low[c] = std::min(low[c], lowest[i + c]);
            high[c] = std::max(high[c], highest[i + c]);
          }
        const double pixels = static_cast<double>(rows * (end - begin) / 3);
        double within = static_cast<double>(squares) / pixels;
        for (int c = 0; c < 3; ++c) {
          const double mean = static_cast<double>(total[c]) / pixels;
          within -= mean * mean;
          moments.mean[3 * cell + c] = static_cast<float>(mean / 255);
          coarse.lowest[3 * cell + c] = low[c];
          coarse.highest[3 * cell + c] = high[c];
        }
        moments.within[cell] = std::max(within, 0.0) / (255.0 * 255.0);
      }
    }
  }
}

// Four maps at a time. The compiler makes of it what the processor has; containers align no better than numbers.
typedef float Floats __attribute__((vector_size(16), aligned(4)));
typedef double Doubles __attribute__((vector_size(32), aligned(8)));
constexpr int64_t MAPS = 4;

Doubles* vectors(std::vector<double>& numbers) { return reinterpret_cast<Doubles*>(numbers.data()); }
Floats* vectors(std::vector<float>& numbers) { return reinterpret_cast<Floats*>(numbers.data()); }

constexpr int64_t COUNT = 4;  // vectors per cell whose window means are taken together

// total += come - go, rows of values; go may be null.
ZS_CLONES void move_row(const Floats* come, const Floats* go, int64_t count, Doubles* __restrict total) {
  if (come && go)
    for (int64_t i = 0; i < count; ++i)
      total[i] = total[i] + __builtin_convertvector(come[i], Doubles) - __builtin_convertvector(go[i], Doubles);
  else if (come)
    for (int64_t i = 0; i < count; ++i) total[i] += __builtin_convertvector(come[i], Doubles);
  else
    for (int64_t i = 0; i < count; ++i) total[i] -= __builtin_convertvector(go[i], Doubles);
}

// The same of what the filter needs of rows of maps: their products with the three means, and themselves.
ZS_CLONES void move_products(const Floats* come, const float* come_mean, const Floats* go, const float* go_mean,
                             int64_t columns, Doubles* __restrict total) {
  for (int64_t x = 0; x < columns && come; ++x) {
    const Doubles p = __builtin_convertvector(come[x], Doubles);
    for (int c = 0; c < 3; ++c) total[4 * x + c] += p * static_cast<double>(come_mean[3 * x + c]);
    total[4 * x + 3] += p;
  }
  for (int64_t x = 0; x < columns && go; ++x) {
    const Doubles p = __builtin_convertvector(go[x], Doubles);
    for (int c = 0; c < 3; ++c) total[4 * x + c] -= p * static_cast<double>(go_mean[3 * x + c]);
    total[4 * x + 3] -= p;
  }
}

// Means over windows of a row, from sums over their rows.
ZS_CLONES void slide(const Doubles* __restrict total, int64_t columns, int64_t radius, int64_t rows,
                     Doubles* __restrict out) {
  Doubles running[COUNT] = {};
  for (int64_t x = 0; x < std::min(radius, columns); ++x)
    for (int64_t i = 0; i < COUNT; ++i) running[i] += total[x * COUNT + i];
  for (int64_t x = 0; x < columns; ++x) {
    if (x + radius < columns)
      for (int64_t i = 0; i < COUNT; ++i) running[i] += total[(x + radius) * COUNT + i];
    if (x - radius > 0)
      for (int64_t i = 0; i < COUNT; ++i) running[i] -= total[(x - radius - 1) * COUNT + i];
    const int64_t wide = std::min(x + radius, columns - 1) - std::max<int64_t>(x - radius, 0) + 1;
    const double share = 1.0 / static_cast<double>(rows * wide);
    for (int64_t i = 0; i < COUNT; ++i) out[x * COUNT + i] = running[i] * share;
  }
}

// Means over windows, row by row from the top. move(come, go, total) adds row `come` of the grid to sums of COUNT
// vectors per cell and takes row `go` from them; -1 is no row.
template <typename Move>
class Box {
 public:
  Box(int64_t rows, int64_t columns, int64_t radius, const Move& move)
      : rows_(rows), columns_(columns), radius_(radius), move_(move), total_(columns * COUNT * MAPS),
        row_(columns * COUNT * MAPS) {
    for (int64_t y = 0; y < std::min(radius, rows); ++y) move_(y, -1, vectors(total_));
  }

  const Doubles* next() {
    const int64_t y = y_++, come = y + radius_ < rows_ ? y + radius_ : -1, go = y - radius_ > 0 ? y - radius_ - 1 : -1;
    if (come >= 0 || go >= 0) move_(come, go, vectors(total_));
    const int64_t high = std::min(y + radius_, rows_ - 1) - std::max<int64_t>(y - radius_, 0) + 1;
    slide(vectors(total_), columns_, radius_, high, vectors(row_));
    return vectors(row_);
  }

 private:
  int64_t rows_, columns_, radius_, y_ = 0;
  Move move_;
  std::vector<double> total_, row_;
};

struct Guide {  // of every cell
  Moments moments;
  std::vector<double> window;  // (cells, 9): the window's mean colour and its covariance's inverse, upper half
  std::vector<double> detail;  // (cells)
};

// The inverse of a symmetric 3 x 3 matrix: upper halves 00 01 02 11 12 22.
void invert(const double* s, double* out) {
  const double a = s[3] * s[5] - s[4] * s[4], b = s[2] * s[4] - s[1] * s[5], c = s[1] * s[4] - s[2] * s[3];
  const double share = 1.0 / (s[0] * a + s[1] * b + s[2] * c);
  out[0] = a * share, out[1] = b * share, out[2] = c * share;
  out[3] = (s[0] * s[5] - s[2] * s[2]) * share;
  out[4] = (s[1] * s[2] - s[0] * s[4]) * share;
  out[5] = (s[0] * s[3] - s[1] * s[1]) * share;
}

void describe_guide(const zs::GuidedGrid& grid, const zs::GuidedSettings& settings, Guide& guide) {
  constexpr int64_t lanes = COUNT * MAPS;  // mean, products, sum of squares; the rest is 0
  const int64_t columns = grid.columns;
  std::vector<float> products(grid.rows * columns * lanes);
  for (int64_t i = 0; i < grid.rows * columns; ++i) {
    const float* m = guide.moments.mean.data() + 3 * i;
    const float all[10] = {m[0], m[1], m[2], m[0] * m[0], m[0] * m[1], m[0] * m[2],
                           m[1] * m[1], m[1] * m[2], m[2] * m[2], m[0] * m[0] + m[1] * m[1] + m[2] * m[2]};
    std::copy(all, all + 10, products.data() + i * lanes);
  }
  const auto move = [&](int64_t come, int64_t go, Doubles* total) {
    const Floats* product = vectors(products);
    const int64_t count = columns * COUNT;
    move_row(come < 0 ? nullptr : product + come * count, go < 0 ? nullptr : product + go * count, count, total);
  };
  Box window(grid.rows, columns, grid.radius, move), near(grid.rows, columns, 1, move);
  for (int64_t y = 0; y < grid.rows; ++y) {
    const double *wide = reinterpret_cast<const double*>(window.next());
    const double* close = reinterpret_cast<const double*>(near.next());
    for (int64_t x = 0; x < columns; ++x) {
      const double *m = wide + x * lanes, *n = close + x * lanes;
      const double covariance[6] = {m[3] - m[0] * m[0] + settings.epsilon, m[4] - m[0] * m[1], m[5] - m[0] * m[2],
                                    m[6] - m[1] * m[1] + settings.epsilon, m[7] - m[1] * m[2],
                                    m[8] - m[2] * m[2] + settings.epsilon};
      double* to = guide.window.data() + 9 * (y * columns + x);
      std::copy(m, m + 3, to);
      invert(covariance, to + 3);
      const double between = std::max(n[9] - n[0] * n[0] - n[1] * n[1] - n[2] * n[2], 0.0);
      const double share =
          between / (between + guide.moments.within[y * columns + x] + settings.detail_floor);
      guide.detail[y * columns + x] = share * share;
    }
  }
}

// a and b of a row of windows from means of p I and p.
ZS_CLONES void solve(const Doubles* __restrict means, const double* window, int64_t columns, Floats* __restrict out) {
  for (int64_t x = 0; x < columns; ++x, window += 9) {
    const Doubles *m = means + 4 * x, p = m[3];
    const double *i = window, *s = window + 3;
    const Doubles u = m[0] - i[0] * p, v = m[1] - i[1] * p, w = m[2] - i[2] * p;
    const Doubles a = s[0] * u + s[1] * v + s[2] * w, b = s[1] * u + s[3] * v + s[4] * w;
    const Doubles c = s[2] * u + s[4] * v + s[5] * w, d = p - a * i[0] - b * i[1] - c * i[2];
    out[4 * x] = __builtin_convertvector(a, Floats);
    out[4 * x + 1] = __builtin_convertvector(b, Floats);
    out[4 * x + 2] = __builtin_convertvector(c, Floats);
    out[4 * x + 3] = __builtin_convertvector(d, Floats);
  }
}

// q = a . I + b of a row of cells, from means of a and b.
ZS_CLONES void filtered(const Doubles* __restrict means, const float* mean, int64_t columns, Floats* __restrict maps) {
  for (int64_t x = 0; x < columns; ++x) {
    const Doubles* m = means + 4 * x;
    const double r = mean[3 * x], g = mean[3 * x + 1], b = mean[3 * x + 2];
    maps[x] = __builtin_convertvector(r * m[0] + g * m[1] + b * m[2] + m[3], Floats);
  }
}

// A row of the coefficients: factors of 0..255 that count as much as detail says, the constant so that q stays at the
// cell's mean.
ZS_CLONES void finish(const Doubles* __restrict means, const float* mean, const double* detail, int64_t columns,
                      int64_t lanes, float* __restrict out) {
  for (int64_t x = 0; x < columns; ++x) {
    const Doubles* m = means + 4 * x;
    Doubles constant = m[3];
    for (int c = 0; c < 3; ++c) {
      const double here = mean[3 * x + c];
      constant += m[c] * (here - here * detail[x]);
      const Floats factor = __builtin_convertvector(m[c] * (detail[x] / 255), Floats);
      std::memcpy(out + (4 * x + c) * lanes, &factor, sizeof factor);
    }
    const Floats rest = __builtin_convertvector(constant, Floats);
    std::memcpy(out + (4 * x + 3) * lanes, &rest, sizeof rest);
  }
}

// Up to MAPS maps at the centres of the cells; those that are missing are 0.
std::vector<float> resample(const float* maps, int64_t count, int64_t map_rows, int64_t map_columns, int64_t height,
                             int64_t width, const zs::GuidedGrid& grid) {
  const double cell = static_cast<double>(grid.cell);
  const Axis down(map_rows, grid.rows, cell * static_cast<double>(map_rows) / static_cast<double>(height));
  const Axis across(map_columns, grid.columns, cell * static_cast<double>(map_columns) / static_cast<double>(width));
  std::vector<float> out(grid.rows * grid.columns * MAPS);
  for (int64_t k = 0; k < count; ++k) {
    const float* map = maps + k * map_rows * map_columns;
    for (int64_t y = 0; y < grid.rows; ++y) {
      const float* upper = map + down.low[y] * map_columns;
      const float* lower = map + std::min(down.low[y] + 1, map_rows - 1) * map_columns;
      for (int64_t x = 0; x < grid.columns; ++x) {
        const int64_t left = across.low[x], right = std::min(left + 1, map_columns - 1);
        const float before = upper[left] * down.below[y] + lower[left] * down.above[y];
        const float after = upper[right] * down.below[y] + lower[right] * down.above[y];
        out[(y * grid.columns + x) * MAPS + k] = before * across.below[x] + after * across.above[x];
      }
    }
  }
  return out;
}

// All passes over MAPS maps -> their lanes of the coefficients, `first` and the following ones. Of a and b only those
// rows are kept that windows of the row in work reach.
void filter_maps(std::vector<float> maps, int64_t first, const Guide& guide, const zs::GuidedGrid& grid,
                 int32_t passes, zs::Coarse& coarse) {
  const int64_t columns = grid.columns, kept = std::min(2 * grid.radius + 2, grid.rows);
  const float* mean = guide.moments.mean.data();
  std::vector<float> solved(4 * kept * columns * MAPS), out(maps.size());
  for (int32_t pass = 0; pass < passes; ++pass) {
    Box windows(grid.rows, columns, grid.radius, [&](int64_t come, int64_t go, Doubles* total) {
      const int64_t in = std::max<int64_t>(come, 0) * columns, out = std::max<int64_t>(go, 0) * columns;
      move_products(come < 0 ? nullptr : vectors(maps) + in, mean + 3 * in, go < 0 ? nullptr : vectors(maps) + out,
                    mean + 3 * out, columns, total);
    });
    Box means(grid.rows, columns, grid.radius, [&](int64_t come, int64_t go, Doubles* total) {
      Floats* row = vectors(solved) + 4 * (std::max<int64_t>(come, 0) % kept) * columns;
      if (come >= 0) solve(windows.next(), guide.window.data() + 9 * come * columns, columns, row);
      move_row(come < 0 ? nullptr : row, go < 0 ? nullptr : vectors(solved) + 4 * (go % kept) * columns, 4 * columns,
               total);
    });
    for (int64_t y = 0; y < grid.rows; ++y) {
      const Doubles* row = means.next();
      if (pass + 1 < passes)
        filtered(row, mean + 3 * y * columns, columns, vectors(out) + y * columns);
      else
        finish(row, mean + 3 * y * columns, guide.detail.data() + y * columns, columns, coarse.lanes,
               coarse.coefficients.data() + 4 * y * columns * coarse.lanes + first);
    }
    maps.swap(out);
  }
}

}  // namespace

namespace zs {

Coarse coarse_coefficients(const float* maps, int64_t segments, int64_t map_rows, int64_t map_columns,
                           const uint8_t* guide, int64_t height, int64_t width, const GuidedGrid& grid,
                           const GuidedSettings& settings, int32_t threads) {
  const int64_t cells = grid.rows * grid.columns;
  Coarse coarse;
  coarse.lanes = (segments + 7) / 8 * 8;
  coarse.coefficients.resize(4 * cells * coarse.lanes);
  coarse.lowest.resize(3 * cells);
  coarse.highest.resize(3 * cells);
  Guide described;
  described.moments.mean.resize(3 * cells);
  described.moments.within.resize(cells);
  described.window.resize(9 * cells);
  described.detail.resize(cells);
  over_rows(grid.rows, (1 << 16) / (grid.cell * width) + 1, threads, [&](int64_t top, int64_t bottom) {
    cell_moments(guide, height, width, grid, top, bottom, described.moments, coarse);
  });
  describe_guide(grid, settings, described);
  over_rows(coarse.lanes / MAPS, 1, threads, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * MAPS; first < std::min(end * MAPS, segments); first += MAPS)
      filter_maps(resample(maps + first * map_rows * map_columns, std::min(MAPS, segments - first), map_rows,
                           map_columns, height, width, grid),
                  first, described, grid, settings.passes, coarse);
  });
  return coarse;
}

}  // namespace zs
