// mask_decode with a guide on a GPU: the coarse coefficients applied to the full-size photo.
//
// The rows of the photo whose centres lie between the centres of two rows of cells form an interval. A thread takes ROWS
// neighbouring rows of one interval in one column: for every segment it blends the coefficients of its column once
// and keeps the best value and label of its pixels. No map of full size exists. Places are exact in integers.

#include "interface.cuh"
#include "overlay.cuh"

namespace {

using Args = zs_cuda_guided_decode_args;

constexpr int THREADS = 128;
constexpr int ROWS = 4;  // per thread

struct Grid {
  uint32_t rows, columns;                          // cells
  uint32_t column_blocks, row_blocks, intervals;
};

struct Place {
  uint32_t low;  // the lower of the two cells around a pixel
  float above;   // the weight of the upper one
};

__device__ inline Place cell_place(uint32_t target, uint32_t cells, uint32_t cell) {
  const uint32_t twice = 2 * cell, ahead = 2 * target + 1;
  const uint32_t position = min(ahead > cell ? ahead - cell : 0u, twice * (cells - 1));
  const uint32_t low = min(position / twice, cells > 2 ? cells - 2 : 0u);
  return {low, static_cast<float>(position - low * twice) / static_cast<float>(twice)};
}

// First row of the photo in an interval; the first and the last also have what lies outside the centres.
__device__ inline uint32_t first_row(uint32_t interval, uint32_t intervals, uint32_t cell, uint32_t height) {
  if (interval == 0) return 0;
  return interval == intervals ? height : (2 * interval + 1) * cell / 2;
}

__global__ void __launch_bounds__(THREADS) guided_decode_kernel(Args a, Grid grid) {
  uint32_t program = blockIdx.x;
  const uint32_t x = program % grid.column_blocks * THREADS + threadIdx.x;
  program /= grid.column_blocks;
  const uint32_t row_block = program % grid.row_blocks;
  program /= grid.row_blocks;
  const uint32_t interval = program % grid.intervals;
  const int64_t photo = program / grid.intervals;
  const uint32_t cell = static_cast<uint32_t>(a.cell), W = static_cast<uint32_t>(a.width);
  const uint32_t H = static_cast<uint32_t>(a.height), K = static_cast<uint32_t>(a.segments);
  const uint32_t top = first_row(interval, grid.intervals, cell, H) + row_block * ROWS;
  const uint32_t bottom = min(first_row(interval + 1, grid.intervals, cell, H), top + ROWS);
  if (top >= bottom || x >= W) return;

  const Place across = cell_place(x, grid.columns, cell);
  const float right = across.above, left = 1 - right;
  const int64_t cells = static_cast<int64_t>(grid.columns) * 4 * K;  // floats of a row of cells
  const float* upper = a.coefficients + (photo * grid.rows + interval) * cells;
  const float* lower = upper + (interval + 1 < grid.rows ? cells : 0);
  const int64_t before = static_cast<int64_t>(across.low) * 4 * K;
  const int64_t after = static_cast<int64_t>(min(across.low + 1, grid.columns - 1)) * 4 * K;
  const int32_t* table = a.table ? a.table + photo * a.table_stride_b : nullptr;

  float color[ROWS][4], down[ROWS], best[ROWS];
  int label[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const uint32_t y = min(top + r, bottom - 1);
    const uint8_t* pixel = a.guide + 3 * ((photo * H + y) * W + x);
    for (int c = 0; c < 3; ++c) color[r][c] = static_cast<float>(__ldg(pixel + c)) / 255;
    color[r][3] = 1;
    down[r] = cell_place(y, grid.rows, cell).above;
    best[r] = -INFINITY;
    label[r] = 0;
  }
#pragma unroll 1
  for (uint32_t k = 0; k < K; ++k) {
    float above[4], below[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const uint32_t at = c * K + k;
      above[c] = __ldg(upper + before + at) * left + __ldg(upper + after + at) * right;
      below[c] = __ldg(lower + before + at) * left + __ldg(lower + after + at) * right;
    }
    const int here = table ? __ldg(table + k) : static_cast<int>(k);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      float value = 0;
#pragma unroll
      for (int c = 0; c < 4; ++c) value += (above[c] * (1 - down[r]) + below[c] * down[r]) * color[r][c];
      label[r] = value > best[r] ? here : label[r];  // the lowest k wins a tie
      best[r] = fmaxf(best[r], value);
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    if (top + r >= bottom) break;
    const int64_t place = (photo * H + top + r) * W + x;
    const float value = fminf(fmaxf(best[r], 0.0f), 1.0f);
    const int chosen = value < a.threshold ? -1 : label[r];
    if (a.label_bytes == 1)
      static_cast<uint8_t*>(a.labels)[place] = static_cast<uint8_t>(chosen);
    else
      static_cast<uint16_t*>(a.labels)[place] = static_cast<uint16_t>(chosen);
    if (a.confidence) a.confidence[place] = value;
    if (a.picture) tint_pixel(a, place, chosen);
  }
}

}  // namespace

int32_t zs_cuda_guided_decode(const struct zs_cuda_guided_decode_args* args, void* stream) {
  ZS_REQUIRE(args, "guided_decode: null arguments");
  const Args& a = *args;
  constexpr int64_t most = INT64_C(1) << 30;
  ZS_REQUIRE(a.coefficients && a.guide && a.labels, "guided_decode: null array");
  ZS_REQUIRE(a.batch > 0 && a.segments > 0 && a.cell > 0 && a.height > 0 && a.width > 0,
             "guided_decode: sizes must be positive");
  ZS_REQUIRE(a.height < most && a.width < most && a.cell < most, "guided_decode: sizes must stay below 2^30");
  ZS_REQUIRE(a.segments < most / 4, "guided_decode: too many segments");
  ZS_REQUIRE(a.label_bytes == 1 || a.label_bytes == 2, "guided_decode: labels take 1 or 2 bytes");
  ZS_REQUIRE(a.table_stride_b >= 0 || !a.table, "guided_decode: the table's stride must not be negative");
  ZS_REQUIRE(!(a.threshold != a.threshold), "guided_decode: threshold is NaN");
  if (a.picture) {
    ZS_REQUIRE(a.image && (a.colors || a.color_count == 0), "guided_decode: null array in the overlay");
    ZS_REQUIRE(a.color_count >= 0 && a.alpha <= 255, "guided_decode: overlay out of range");
  }
  Grid grid;
  grid.rows = static_cast<uint32_t>(zs::ceil_div(a.height, a.cell));
  grid.columns = static_cast<uint32_t>(zs::ceil_div(a.width, a.cell));
  const int64_t intervals = grid.rows > 2 ? grid.rows - 1 : 1;
  // the first and the last interval have half as many rows more
  const int64_t longest = grid.rows > 2 ? (3 * a.cell + 1) / 2 : a.height;
  const int64_t column_blocks = zs::ceil_div(a.width, THREADS), row_blocks = zs::ceil_div(longest, ROWS);
  ZS_REQUIRE(a.batch <= zs::kMostBlocks / (intervals * row_blocks * column_blocks),
             "guided_decode: batch and sizes are too large for one launch");
  grid.intervals = static_cast<uint32_t>(intervals);
  grid.column_blocks = static_cast<uint32_t>(column_blocks);
  grid.row_blocks = static_cast<uint32_t>(row_blocks);
  ZS_LAUNCH(guided_decode_kernel, a.batch * intervals * row_blocks * column_blocks, THREADS, 0, stream, a, grid);
  return zs::launched("guided_decode");
}
