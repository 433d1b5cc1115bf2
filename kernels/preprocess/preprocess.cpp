// preprocess on the CPU.
//
// The triangle filter is separable. Rows first: a weighted sum of whole rows, which is one long vector operation and
// reads the photo once; then columns, on the few rows that are left. Sums are float32 and never rounded to 8 bits.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "internal.h"

namespace {

typedef float Float4 __attribute__((vector_size(16)));

// The triangle filter of one axis: target i sums source[first[i] + t] * weight[i * width + t] over t < count[i].
// Its half-width is one source pixel when enlarging and source / target pixels when shrinking (antialiasing).
struct Filter {
  std::vector<int64_t> first, count;
  std::vector<float> weight;
  int64_t width;

  Filter(int64_t source, int64_t target) : first(target), count(target) {
    const double step = static_cast<double>(source) / static_cast<double>(target);
    const double reach = std::max(step, 1.0);
    width = static_cast<int64_t>(std::ceil(reach)) * 2 + 1;
    weight.assign(target * width, 0.0f);
    std::vector<double> raw(width);
    for (int64_t i = 0; i < target; ++i) {
      const double centre = (i + 0.5) * step;
      const int64_t begin = std::max<int64_t>(static_cast<int64_t>(centre - reach + 0.5), 0);
      const int64_t end = std::min<int64_t>(static_cast<int64_t>(centre + reach + 0.5), source);
      double sum = 0;
      for (int64_t t = 0; t < end - begin; ++t) {
        raw[t] = std::max(0.0, 1.0 - std::abs(begin + t + 0.5 - centre) / reach);
        sum += raw[t];
      }
      first[i] = begin;
      count[i] = end - begin;
      for (int64_t t = 0; t < end - begin; ++t) weight[i * width + t] = static_cast<float>(raw[t] / sum);
    }
  }
};

ZS_CLONES void add_row(const uint8_t* row, float weight, int64_t count, float* sum) {
  for (int64_t i = 0; i < count; ++i) sum[i] += weight * static_cast<float>(row[i]);
}

// One output row: sum (3 * width + 1 floats, the last one unused) -> three planes.
ZS_CLONES void write_row(const float* sum, const Filter& columns, int64_t width, const float* scale,
                         const float* offset, int64_t plane, float* out) {
  for (int64_t x = 0; x < width; ++x) {
    const float* source = sum + 3 * columns.first[x];
    const float* weight = columns.weight.data() + x * columns.width;
    Float4 total = {0, 0, 0, 0};
    for (int64_t t = 0; t < columns.count[x]; ++t) {
      Float4 pixel;  // red, green, blue and the next pixel's red, which is dropped
      std::memcpy(&pixel, source + 3 * t, sizeof pixel);
      total += pixel * weight[t];
    }
    for (int64_t c = 0; c < 3; ++c) out[c * plane + x] = total[c] * scale[c] + offset[c];
  }
}

}  // namespace

int32_t zs_preprocess(const uint8_t* image, int64_t height, int64_t width, const float* scale, const float* offset,
                      int64_t out_height, int64_t out_width, float* out, int32_t threads) {
  return zs::guarded([&] {
    zs::check(image && scale && offset && out, "preprocess: null array");
    zs::check(height > 0 && width > 0 && out_height > 0 && out_width > 0, "preprocess: sizes must be positive");
    const Filter rows(height, out_height), columns(width, out_width);
    const float scale_255[3] = {scale[0] / 255, scale[1] / 255, scale[2] / 255};
    const int64_t values = 3 * width;
    const int64_t work_per_row = values * (height / out_height + 1) + 3 * out_width * columns.width;
    zs::over_rows(out_height, (1 << 20) / work_per_row + 1, threads, [&](int64_t top, int64_t bottom) {
      std::vector<float> sum(values + 1);
      for (int64_t y = top; y < bottom; ++y) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int64_t t = 0; t < rows.count[y]; ++t)
          add_row(image + (rows.first[y] + t) * values, rows.weight[y * rows.width + t], values, sum.data());
        write_row(sum.data(), columns, out_width, scale_255, offset, out_height * out_width, out + y * out_width);
      }
    });
  });
}
