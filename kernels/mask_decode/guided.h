// The coarse half of guided decoding: a guided filter's coefficients on a grid of cells.
#pragma once

#include <cstdint>
#include <vector>

namespace zs {

struct GuidedGrid {
  int64_t cell;           // px; the cells of the last row and column may be cut
  int64_t rows, columns;  // cells
  int64_t radius;         // of a window, in cells
};

struct GuidedSettings {
  int32_t passes;
  double epsilon, detail_floor;
};

struct Coarse {
  int64_t lanes;                         // maps, rounded up to 8; those beyond the last are 0
  std::vector<float> coefficients;       // (rows, columns, 4, lanes): factors of red, green, blue in 0..255, constant
  std::vector<uint8_t> lowest, highest;  // (rows, columns, 3) of the photo within each cell
};

// maps (segments, map_rows, map_columns); guide (height, width, 3).
Coarse coarse_coefficients(const float* maps, int64_t segments, int64_t map_rows, int64_t map_columns,
                           const uint8_t* guide, int64_t height, int64_t width, const GuidedGrid& grid,
                           const GuidedSettings& settings, int32_t threads);

}  // namespace zs
