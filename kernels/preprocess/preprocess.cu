// preprocess on a GPU.
//
// A block makes BLOCK neighbouring values of one output row, all three channels. Rows of the photo first: every thread
// sums columns of bytes, four at a time where rows are packed and aligned, into shared memory; then every thread sums
// its output's columns. Sums are float32 and never rounded to 8 bits. Wide photos go through in pieces of SPAN pixels.
//
// The triangle filter: output place i covers source places around (i + 1/2) scale within reach = max(scale, 1), weights
// 1 - distance / reach, divided by their sum. Photo (H, W), output (h, w).

#include "interface.cuh"

namespace {

using Args = zs_cuda_preprocess_args;

constexpr int BLOCK = 128;   // threads, and output columns
constexpr int SPAN = 1024;   // pixels of the photo in shared memory

struct Grid {
  uint32_t column_blocks;
  int32_t span;
};

// Of one output place: source places [first, end), the first one's distance from the centre, 1 / reach.
struct Filter {
  int32_t first, end;
  float distance, inverse;

  // The centre is taken in integers: in float32 it would be off by 1e-4 of a place at 2000. Distances then grow by 1
  // from place to place, which loses nothing.
  __device__ Filter(uint32_t target, uint32_t source_size, uint32_t target_size) {
    const uint32_t numerator = (2 * target + 1) * source_size, twice = 2 * target_size;
    const int32_t whole = static_cast<int32_t>(numerator / twice);
    const float broken = static_cast<float>(numerator % twice) / static_cast<float>(twice);
    const float reach = fmaxf(static_cast<float>(source_size) / static_cast<float>(target_size), 1.0f);
    first = max(whole + static_cast<int32_t>(floorf(broken - reach + 0.5f)), 0);
    end = min(whole + static_cast<int32_t>(floorf(broken + reach + 0.5f)), static_cast<int32_t>(source_size));
    distance = static_cast<float>(first - whole) + 0.5f - broken;
    inverse = 1 / reach;
  }

  __device__ float weight(float distance_of_place) const { return fmaxf(1 - fabsf(distance_of_place) * inverse, 0.0f); }
};

// A byte of a word as a float, by way of 2^23 + byte: conversions of integers are slow.
__device__ inline float byte_to_float(uint32_t word, int byte) {
  return __uint_as_float((word >> 8 * byte & 0xffu) | 0x4b000000u) - 8388608.0f;
}

// sum[i] = weighted sum over the filter's rows of the i-th of `values` bytes, from `row` on; words where they are
// aligned. sum is shifted by up to 3 places so that a word's four sums are one float4. Returns the shift.
__device__ int sum_packed_rows(const uint8_t* row, int64_t row_stride, const Filter& rows, int values, float* sum) {
  int head = values, words = 0;
  if (row_stride % 4 == 0) {
    head = min(static_cast<int>(-reinterpret_cast<uintptr_t>(row) & 3u), values);
    words = (values - head) / 4;
  }
  const int shift = -head & 3;
  for (int i = threadIdx.x; i < words; i += BLOCK) {
    const uint8_t* from = row + head + 4 * i;
    float total[4] = {0, 0, 0, 0}, distance = rows.distance;
#pragma unroll 4
    for (int y = rows.first; y < rows.end; ++y, from += row_stride, distance += 1) {
      const uint32_t word = __ldg(reinterpret_cast<const uint32_t*>(from));
      const float weight = rows.weight(distance);
#pragma unroll
      for (int b = 0; b < 4; ++b) total[b] += weight * byte_to_float(word, b);
    }
    *reinterpret_cast<float4*>(sum + shift + head + 4 * i) = make_float4(total[0], total[1], total[2], total[3]);
  }
  for (int j = threadIdx.x; j < values - 4 * words; j += BLOCK) {
    const int i = j < head ? j : j + 4 * words;
    const uint8_t* from = row + i;
    float total = 0, distance = rows.distance;
#pragma unroll 4
    for (int y = rows.first; y < rows.end; ++y, from += row_stride, distance += 1)
      total += rows.weight(distance) * static_cast<float>(__ldg(from));
    sum[shift + i] = total;
  }
  return shift;
}

// The same for pixels of any strides, gathered as three bytes each.
__device__ void sum_rows(const uint8_t* row, const Args& a, const Filter& rows, int values, float* sum) {
  for (int i = threadIdx.x; i < values; i += BLOCK) {
    const uint8_t* from = row + i / 3 * a.pixel_stride + i % 3 * a.channel_stride;
    float total = 0, distance = rows.distance;
#pragma unroll 4
    for (int y = rows.first; y < rows.end; ++y, from += a.row_stride, distance += 1)
      total += rows.weight(distance) * static_cast<float>(__ldg(from));
    sum[i] = total;
  }
}

template <typename Out>
__global__ void __launch_bounds__(BLOCK) preprocess_kernel(Args a, Grid grid) {
  ZS_SHARED(sum);
  const uint32_t H = static_cast<uint32_t>(a.height), W = static_cast<uint32_t>(a.width);
  const uint32_t h = static_cast<uint32_t>(a.out_height), w = static_cast<uint32_t>(a.out_width);
  const uint32_t left = blockIdx.x % grid.column_blocks * BLOCK, y = blockIdx.x / grid.column_blocks % h;
  const int64_t photo = blockIdx.x / grid.column_blocks / h;
  const uint32_t x = left + threadIdx.x;
  const Filter rows(y, H, h), columns(min(x, w - 1), W, w);
  const int32_t begin = Filter(left, W, w).first, end = Filter(min(left + BLOCK, w) - 1, W, w).end;
  float row_total = 0, row_distance = rows.distance;
  for (int i = rows.first; i < rows.end; ++i, row_distance += 1) row_total += rows.weight(row_distance);

  const bool packed = a.pixel_stride == 3 && (a.channel_stride == 1 || a.channel_stride == -1);
  const bool reversed = packed && a.channel_stride == -1;  // memory's order is read, the result is turned round
  const uint8_t* row = a.image + photo * a.image_stride_b + rows.first * a.row_stride - (reversed ? 2 : 0);
  float red = 0, green = 0, blue = 0, column_total = 0, distance = columns.distance;
  int32_t column = columns.first;
  for (int32_t start = begin; start < end; start += grid.span) {
    const int32_t stop = min(start + grid.span, end);
    const uint8_t* piece = row + start * a.pixel_stride;
    int shift = 0;
    if (packed)
      shift = sum_packed_rows(piece, a.row_stride, rows, 3 * (stop - start), sum);
    else
      sum_rows(piece, a, rows, 3 * (stop - start), sum);
    __syncthreads();
    const float* from = sum + shift + 3 * (column - start);
#pragma unroll 4
    for (const int32_t last = min(stop, columns.end); column < last; ++column, from += 3, distance += 1) {
      const float weight = columns.weight(distance);
      red += weight * from[0], green += weight * from[1], blue += weight * from[2];
      column_total += weight;
    }
    __syncthreads();
  }
  if (x >= w) return;
  const float level = 1 / (255 * row_total * column_total);
  const int64_t plane = static_cast<int64_t>(h) * w;
  Out* out = static_cast<Out*>(a.out) + 3 * photo * plane + static_cast<int64_t>(y) * w + x;
  zs::store(out, (reversed ? blue : red) * level * a.scale[0] + a.offset[0]);
  zs::store(out + plane, green * level * a.scale[1] + a.offset[1]);
  zs::store(out + 2 * plane, (reversed ? red : blue) * level * a.scale[2] + a.offset[2]);
}

template <typename Out>
int32_t launch(const Args& a, void* stream) {
  Grid grid;
  const int64_t column_blocks = zs::ceil_div(a.out_width, BLOCK);
  ZS_REQUIRE(a.batch <= zs::kMostBlocks / a.out_height / column_blocks,
             "preprocess: batch and sizes are too large for one launch");
  grid.column_blocks = static_cast<uint32_t>(column_blocks);
  const int64_t reach = zs::ceil_div(a.width, a.out_width);
  const int64_t needed = (BLOCK + 2) * reach + 4;  // pixels at most, of a block's columns
  grid.span = static_cast<int32_t>(needed < a.width ? needed : a.width);
  if (grid.span > SPAN) grid.span = SPAN;
  auto kernel = &preprocess_kernel<Out>;
  ZS_LAUNCH(kernel, a.batch * a.out_height * column_blocks, BLOCK, (3 * grid.span + 8) * sizeof(float), stream, a, grid);
  return zs::launched("preprocess");
}

}  // namespace

int32_t zs_cuda_preprocess(const struct zs_cuda_preprocess_args* args, void* stream) {
  ZS_REQUIRE(args, "preprocess: null arguments");
  const Args& a = *args;
  constexpr int64_t most = INT64_C(1) << 30;
  ZS_REQUIRE(a.image && a.out, "preprocess: null array");
  ZS_REQUIRE(a.batch > 0 && a.height > 0 && a.width > 0 && a.out_height > 0 && a.out_width > 0,
             "preprocess: sizes must be positive");
  ZS_REQUIRE(a.height < most / a.out_height && a.width < most / a.out_width,
             "preprocess: photo and output are too large, the products of their heights and of their widths must stay "
             "below 2^30");
  if (a.out_type == ZS_CUDA_FLOAT32) return launch<float>(a, stream);
  if (a.out_type == ZS_CUDA_FLOAT16) return launch<zs::Half>(a, stream);
  return zs::refuse("preprocess: output must be float32 or float16");
}
