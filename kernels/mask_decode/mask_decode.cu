// mask_decode on a GPU.
//
// The rows of the picture whose centres lie between the centres of rows j and j + 1 of the maps form interval j. A block
// takes BLOCK_ROWS rows of one interval and BLOCK_COLUMNS columns. There every map is bounded by its corners, so a
// segment whose highest corner lies below another one's lowest is never the highest: the block first lists its
// candidates, a few of however many segments there are, and its pixels compare only those. Every output is written
// once, in words of up to 16 bytes; labels and confidence of a pixel never leave its thread before.
//
// K segments, maps (h, w), picture (H, W). Places are exact in integers: ((2 y + 1) h - H) / 2 H.

#include "interface.cuh"
#include "overlay.cuh"

namespace {

using Args = zs_cuda_mask_decode_args;

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr int PIXELS = 4;                            // of a row, per thread
constexpr int ROWS = 4;                              // per thread and step
constexpr int STEPS = 2;
constexpr int BLOCK_COLUMNS = 32 * PIXELS, BLOCK_ROWS = WARPS * ROWS * STEPS;
constexpr int LANES = 8, GROUPS = THREADS / LANES;   // a group of lanes finds the bounds of one segment
constexpr int LIST = 256;                            // segments that are listed at a time

struct Shared {  // the block's shared memory
  float floor[WARPS];
  float highest[LIST];
  int segment[LIST], label[LIST];  // of the candidates
  int count;
};

struct Grid {
  uint32_t column_blocks, row_blocks, intervals;
  bool words;  // four pixels of a row are stored at once
};

// Where a target place lies between the source places, times 2 target_size; half-pixel centres, edges clamped.
__device__ inline uint32_t position(uint32_t target, uint32_t source_size, uint32_t target_size) {
  const uint32_t ahead = (2 * target + 1) * source_size;
  return min(ahead > target_size ? ahead - target_size : 0u, 2 * target_size * (source_size - 1));
}

// The lower of the two source places around a target place.
__device__ inline uint32_t lower_place(uint32_t target, uint32_t source_size, uint32_t target_size) {
  const uint32_t low = position(target, source_size, target_size) / (2 * target_size);
  return min(low, source_size > 2 ? source_size - 2 : 0u);
}

// The weight of the source place above `low`.
__device__ inline float upper_weight(uint32_t target, uint32_t source_size, uint32_t target_size, uint32_t low) {
  const uint32_t twice = 2 * target_size;
  return static_cast<float>(position(target, source_size, target_size) - low * twice) / static_cast<float>(twice);
}

// First row of the picture in an interval of the maps' rows; the first and the last also have what lies outside.
__device__ inline uint32_t first_row(uint32_t interval, uint32_t intervals, uint32_t rows, uint32_t height) {
  if (interval == 0) return 0;
  if (interval == intervals) return height;
  return ((2 * interval + 1) * height + rows - 1) / (2 * rows);  // upwards of ((2 j + 1) H - h) / 2 h
}

template <typename Map>
struct Band {  // two rows of the maps and the columns of them that a block needs
  const Map *upper, *lower;
  int64_t stride_k, stride_w;
  uint32_t first, last, segments;

  // The lowest and the highest value of segment k, by LANES neighbouring lanes together.
  __device__ void bounds(uint32_t k, float* lowest, float* highest) const {
    float low = INFINITY, high = -INFINITY;
    if (k < segments)
      for (uint32_t column = first + threadIdx.x % LANES; column <= last; column += LANES) {
        const int64_t place = k * stride_k + column * stride_w;
        const float a = value(upper + place), b = value(lower + place);
        low = fminf(low, fminf(a, b));
        high = fmaxf(high, fmaxf(a, b));
      }
    low = -zs::max_over_lanes(-low, 1, LANES);
    *lowest = k < segments ? low : -INFINITY;
    *highest = zs::max_over_lanes(high, 1, LANES);
  }

  __device__ static float value(const float* place) { return __ldg(place); }
  __device__ static float value(const zs::Half* place) {
    return zs::half_to_float(__ldg(reinterpret_cast<const uint16_t*>(place)));
  }
};

// The highest of all segments' lowest values in the block, for every thread. Keeps the highest ones of the first LIST.
template <typename Map>
__device__ float find_floor(const Band<Map>& band, Shared& shared) {
  float floor = -INFINITY;
  for (uint32_t start = 0; start < band.segments; start += GROUPS) {
    const uint32_t k = start + threadIdx.x / LANES;
    float lowest, highest;
    band.bounds(k, &lowest, &highest);
    floor = fmaxf(floor, lowest);
    if (k < LIST && threadIdx.x % LANES == 0) shared.highest[k] = highest;
  }
  floor = zs::max_over_lanes(floor, LANES, 32);
  if (threadIdx.x % 32 == 0) shared.floor[threadIdx.x / 32] = floor;
  __syncthreads();
  for (int warp = 0; warp < WARPS; ++warp) floor = fmaxf(floor, shared.floor[warp]);
  return floor;
}

// Lists those of segments [start, start + LIST) that can be the highest, in ascending order; returns how many.
template <typename Map>
__device__ int list_candidates(const Band<Map>& band, uint32_t start, float floor, const int32_t* table,
                               Shared& shared) {
  const uint32_t end = min(band.segments - start, static_cast<uint32_t>(LIST));
  if (band.segments > LIST) {  // else find_floor left all of them
    __syncthreads();
    for (uint32_t base = 0; base < end; base += GROUPS) {
      const uint32_t i = base + threadIdx.x / LANES;
      float lowest, highest;
      band.bounds(start + i, &lowest, &highest);
      if (threadIdx.x % LANES == 0) shared.highest[i] = highest;
    }
    __syncthreads();
  }
  if (threadIdx.x < 32) {
    int count = 0;
    for (uint32_t base = 0; base < end; base += 32) {
      const uint32_t i = base + threadIdx.x;
      const bool stays = i < end && shared.highest[i] >= floor;
      const uint32_t all = __ballot_sync(~0u, stays);
      if (stays) {
        const int place = count + __popc(all & ((1u << threadIdx.x) - 1));
        shared.segment[place] = static_cast<int>(start + i);
        shared.label[place] = table ? __ldg(table + start + i) : static_cast<int>(start + i);
      }
      count += __popc(all);
    }
    if (threadIdx.x == 0) shared.count = count;
  }
  __syncthreads();
  return shared.count;
}

__device__ inline void tint_four(const Args& a, int64_t place, const int* labels) {
  const uint32_t* from = reinterpret_cast<const uint32_t*>(a.image + 3 * place);
  uint32_t* to = reinterpret_cast<uint32_t*>(a.picture + 3 * place);
  uint32_t words[3] = {from[0], from[1], from[2]};
#pragma unroll
  for (int p = 0; p < PIXELS; ++p) {
    if (labels[p] < 0 || labels[p] >= a.color_count) continue;
    const uint8_t* color = a.colors + 3 * static_cast<int64_t>(labels[p]);
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      const int byte = 3 * p + c, shift = 8 * (byte % 4);
      const uint32_t before = words[byte / 4] >> shift & 0xffu;
      words[byte / 4] ^= (before ^ blend(before, __ldg(color + c), a.alpha)) << shift;
    }
  }
  to[0] = words[0], to[1] = words[1], to[2] = words[2];
}

// One row of a thread's pixels: four neighbours at `place` as words, or single ones, 32 apart, while they are inside.
template <bool OVERLAY>
__device__ void write_row(const Args& a, bool words, int64_t place, uint32_t x, const float* best, const int* labels) {
  if (words) {
    if (a.label_bytes == 1)
      reinterpret_cast<uint32_t*>(a.labels)[place / 4] =
          (labels[0] & 0xff) | (labels[1] & 0xff) << 8 | (labels[2] & 0xff) << 16
          | static_cast<uint32_t>(labels[3] & 0xff) << 24;
    else
      reinterpret_cast<uint2*>(a.labels)[place / 4] =
          make_uint2((labels[0] & 0xffff) | static_cast<uint32_t>(labels[1] & 0xffff) << 16,
                     (labels[2] & 0xffff) | static_cast<uint32_t>(labels[3] & 0xffff) << 16);
    if (a.confidence)
      reinterpret_cast<float4*>(a.confidence)[place / 4] = make_float4(best[0], best[1], best[2], best[3]);
    if (OVERLAY) tint_four(a, place, labels);
    return;
  }
#pragma unroll
  for (int p = 0; p < PIXELS; ++p) {
    if (x + 32 * p >= a.width) break;
    const int64_t here = place + 32 * p;
    if (a.label_bytes == 1)
      static_cast<uint8_t*>(a.labels)[here] = static_cast<uint8_t>(labels[p]);
    else
      static_cast<uint16_t*>(a.labels)[here] = static_cast<uint16_t>(labels[p]);
    if (a.confidence) a.confidence[here] = best[p];
    if (OVERLAY) tint_pixel(a, here, labels[p]);
  }
}

template <typename Map, bool OVERLAY>
__global__ void __launch_bounds__(THREADS) mask_decode_kernel(Args a, Grid grid) {
  ZS_SHARED(memory);
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  uint32_t program = blockIdx.x;
  const uint32_t left = program % grid.column_blocks * BLOCK_COLUMNS;
  program /= grid.column_blocks;
  const uint32_t row_block = program % grid.row_blocks;
  program /= grid.row_blocks;
  const uint32_t interval = program % grid.intervals;
  const int64_t photo = program / grid.intervals;
  const uint32_t h = static_cast<uint32_t>(a.rows), w = static_cast<uint32_t>(a.columns);
  const uint32_t H = static_cast<uint32_t>(a.height), W = static_cast<uint32_t>(a.width);
  const uint32_t top = first_row(interval, grid.intervals, h, H) + row_block * BLOCK_ROWS;
  const uint32_t bottom = min(first_row(interval + 1, grid.intervals, h, H), top + BLOCK_ROWS);
  if (top >= bottom) return;  // the whole block

  Band<Map> band;
  band.upper = static_cast<const Map*>(a.maps) + photo * a.map_stride_b + interval * a.map_stride_h;
  band.lower = band.upper + (interval + 1 < h ? a.map_stride_h : 0);
  band.stride_k = a.map_stride_k;
  band.stride_w = a.map_stride_w;
  band.first = lower_place(left, w, W);
  band.last = min(lower_place(min(left + BLOCK_COLUMNS, W) - 1, w, W) + 1, w - 1);
  band.segments = static_cast<uint32_t>(a.segments);
  const int32_t* table = a.table ? a.table + photo * a.table_stride_b : nullptr;
  const float floor = find_floor(band, shared);
  int count = 0;
  if (band.segments <= LIST) count = list_candidates(band, 0, floor, table, shared);

  // a thread's pixels of a row: neighbours where they are stored as words, else 32 apart
  const uint32_t apart = grid.words ? 1 : 32, x = left + threadIdx.x % 32 * (grid.words ? PIXELS : 1);
  int64_t before[PIXELS], after[PIXELS];  // places in a row of the maps
  float across[PIXELS];
#pragma unroll
  for (int p = 0; p < PIXELS; ++p) {
    const uint32_t column = min(x + apart * p, W - 1), low = lower_place(column, w, W);
    across[p] = upper_weight(column, w, W, low);
    before[p] = low * a.map_stride_w;
    after[p] = min(low + 1, w - 1) * a.map_stride_w;
  }
  const int first_label = table ? __ldg(table) : 0;

#pragma unroll 1
  for (int step = 0; step < STEPS; ++step) {
    const uint32_t y = top + (step * WARPS + threadIdx.x / 32) * ROWS;
    float down[ROWS], best[ROWS][PIXELS];
    int label[ROWS][PIXELS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      down[r] = upper_weight(min(y + r, bottom - 1), h, H, interval);
#pragma unroll
      for (int p = 0; p < PIXELS; ++p) best[r][p] = -INFINITY, label[r][p] = first_label;
    }
#pragma unroll 1
    for (uint32_t start = 0; start < band.segments; start += LIST) {
      if (band.segments > LIST) count = list_candidates(band, start, floor, table, shared);
      if (y >= bottom || x >= W) continue;
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        const Map* upper = band.upper + shared.segment[i] * band.stride_k;
        const Map* lower = band.lower + shared.segment[i] * band.stride_k;
        const int here = shared.label[i];
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
          const float t = across[p], s = 1 - t;
          const float above = band.value(upper + before[p]) * s + band.value(upper + after[p]) * t;
          const float below = band.value(lower + before[p]) * s + band.value(lower + after[p]) * t;
#pragma unroll
          for (int r = 0; r < ROWS; ++r) {
            const float value = above * (1 - down[r]) + below * down[r];
            label[r][p] = value > best[r][p] ? here : label[r][p];
            best[r][p] = fmaxf(best[r][p], value);
          }
        }
      }
    }
    if (x >= W) continue;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      if (y + r >= bottom) break;
#pragma unroll
      for (int p = 0; p < PIXELS; ++p) label[r][p] = best[r][p] < a.threshold ? -1 : label[r][p];
      write_row<OVERLAY>(a, grid.words, (photo * H + y + r) * W + x, x, best[r], label[r]);
    }
  }
}

template <typename Map>
int32_t launch(const Args& a, void* stream) {
  Grid grid;
  const int64_t intervals = a.rows > 2 ? a.rows - 1 : 1;
  // the first and the last interval have half as many rows more
  const int64_t longest = a.rows > 2 ? (3 * a.height + 2 * a.rows - 1) / (2 * a.rows) + 1 : a.height;
  const int64_t column_blocks = zs::ceil_div(a.width, BLOCK_COLUMNS), row_blocks = zs::ceil_div(longest, BLOCK_ROWS);
  ZS_REQUIRE(a.batch <= zs::kMostBlocks / (intervals * row_blocks * column_blocks),
             "mask_decode: batch and sizes are too large for one launch");
  grid.column_blocks = static_cast<uint32_t>(column_blocks);
  grid.row_blocks = static_cast<uint32_t>(row_blocks);
  grid.intervals = static_cast<uint32_t>(intervals);
  grid.words = a.width % PIXELS == 0 && zs::aligned(a.labels, 4 * a.label_bytes) && zs::aligned(a.confidence, 16) &&
               (!a.picture || (zs::aligned(a.picture, 4) && zs::aligned(a.image, 4)));
  auto kernel = a.picture ? &mask_decode_kernel<Map, true> : &mask_decode_kernel<Map, false>;
  ZS_LAUNCH(kernel, a.batch * intervals * row_blocks * column_blocks, THREADS, sizeof(Shared), stream, a, grid);
  return zs::launched("mask_decode");
}

}  // namespace

int32_t zs_cuda_mask_decode(const struct zs_cuda_mask_decode_args* args, void* stream) {
  ZS_REQUIRE(args, "mask_decode: null arguments");
  const Args& a = *args;
  constexpr int64_t most = INT64_C(1) << 30;
  ZS_REQUIRE(a.maps && a.labels, "mask_decode: null array");
  ZS_REQUIRE(a.batch > 0 && a.segments > 0 && a.rows > 0 && a.columns > 0 && a.height > 0 && a.width > 0,
             "mask_decode: sizes must be positive");
  ZS_REQUIRE(a.segments < most, "mask_decode: too many segments");
  ZS_REQUIRE(a.rows < most / a.height && a.columns < most / a.width,
             "mask_decode: maps and picture are too large, rows x height and columns x width must stay below 2^30");
  ZS_REQUIRE(a.label_bytes == 1 || a.label_bytes == 2, "mask_decode: labels take 1 or 2 bytes");
  ZS_REQUIRE(a.table_stride_b >= 0 || !a.table, "mask_decode: the table's stride must not be negative");
  ZS_REQUIRE(!(a.threshold != a.threshold), "mask_decode: threshold is NaN");
  if (a.picture) {
    ZS_REQUIRE(a.image && (a.colors || a.color_count == 0), "mask_decode: null array in the overlay");
    ZS_REQUIRE(a.color_count >= 0 && a.alpha <= 255, "mask_decode: overlay out of range");
  }
  if (a.maps_type == ZS_CUDA_FLOAT32) return launch<float>(a, stream);
  if (a.maps_type == ZS_CUDA_FLOAT16) return launch<zs::Half>(a, stream);
  return zs::refuse("mask_decode: maps must be float32 or float16");
}
