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

// IEEE float16, rounded to nearest, ties to even; too large becomes infinity. Integers only, so that it runs in vectors
// and on compilers without a half type.
ZS_INLINE uint16_t to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  float tiny;  // below 2^-14: adding 0.5 leaves the float16's own last bit at the float32's last bit
  std::memcpy(&tiny, &magnitude, sizeof tiny);
  tiny += 0.5f;
  uint32_t tiny_bits;
  std::memcpy(&tiny_bits, &tiny, sizeof tiny_bits);
  uint32_t half = magnitude < (113u << 23) ? tiny_bits - 0x3f000000u : normal;
  half = magnitude >= 0x477ff000u ? (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u) : half;
  return static_cast<uint16_t>(sign | half);
}

ZS_CLONES void to_halves(const float* values, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = to_half(values[i]);
}

// One output row: sum (3 * width + 1 floats, the last one unused) -> three rows of `width` values.
ZS_CLONES void write_row(const float* sum, const Filter& columns, int64_t width, const float* scale,
                         const float* offset, float* const* out) {
  for (int64_t x = 0; x < width; ++x) {
    const float* source = sum + 3 * columns.first[x];
    const float* weight = columns.weight.data() + x * columns.width;
    Float4 total = {0, 0, 0, 0};
    for (int64_t t = 0; t < columns.count[x]; ++t) {
      Float4 pixel;  // three channels and the next pixel's first, which is dropped
      std::memcpy(&pixel, source + 3 * t, sizeof pixel);
      total += pixel * weight[t];
    }
    for (int64_t c = 0; c < 3; ++c) out[c][x] = total[c] * scale[c] + offset[c];
  }
}

// Rows of the photo as they are added: three values a pixel, in memory's order or gathered into a row of our own.
class Rows {
 public:
  bool reversed;  // blue first in memory: the channels are swapped back when they are written

  Rows(const uint8_t* image, int64_t width, int64_t row_stride, int64_t pixel_stride, int64_t channel_stride)
      : image_(image), width_(width), row_(row_stride), pixel_(pixel_stride), channel_(channel_stride) {
    reversed = channel_ == -1 && pixel_ == 3;
    packed_ = pixel_ == 3 && (channel_ == 1 || channel_ == -1);
    if (!packed_) gathered_.resize(3 * width);
  }

  const uint8_t* operator[](int64_t y) {
    const uint8_t* row = image_ + y * row_;
    if (packed_) return reversed ? row - 2 : row;
    for (int64_t x = 0; x < width_; ++x)
      for (int64_t c = 0; c < 3; ++c) gathered_[3 * x + c] = row[x * pixel_ + c * channel_];
    return gathered_.data();
  }

 private:
  const uint8_t* image_;
  int64_t width_, row_, pixel_, channel_;
  bool packed_;
  std::vector<uint8_t> gathered_;
};

}  // namespace

int32_t zs_preprocess(const uint8_t* image, int64_t height, int64_t width, int64_t row_stride, int64_t pixel_stride,
                      int64_t channel_stride, const float* scale, const float* offset, int64_t out_height,
                      int64_t out_width, int32_t half, void* out, int32_t threads) {
  return zs::guarded([&] {
    zs::check(image && scale && offset && out, "preprocess: null array");
    zs::check(height > 0 && width > 0 && out_height > 0 && out_width > 0, "preprocess: sizes must be positive");
    const Filter filter_rows(height, out_height), columns(width, out_width);
    const int64_t values = 3 * width, plane = out_height * out_width;
    const int64_t work_per_row = values * (height / out_height + 1) + 3 * out_width * columns.width;
    zs::over_rows(out_height, (1 << 20) / work_per_row + 1, threads, [&](int64_t top, int64_t bottom) {
      Rows rows(image, width, row_stride, pixel_stride, channel_stride);
      std::vector<float> sum(values + 1), line(half ? 3 * out_width : 0);
      float factor[3], add[3];  // in memory's order of channels
      for (int64_t c = 0; c < 3; ++c) {
        const int64_t channel = rows.reversed ? 2 - c : c;
        factor[c] = scale[channel] / 255;
        add[c] = offset[channel];
      }
      for (int64_t y = top; y < bottom; ++y) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int64_t t = 0; t < filter_rows.count[y]; ++t)
          add_row(rows[filter_rows.first[y] + t], filter_rows.weight[y * filter_rows.width + t], values, sum.data());
        float* to[3];
        for (int64_t c = 0; c < 3; ++c) {
          const int64_t channel = rows.reversed ? 2 - c : c;
          to[c] = half ? line.data() + channel * out_width
                       : static_cast<float*>(out) + channel * plane + y * out_width;
        }
        write_row(sum.data(), columns, out_width, factor, add, to);
        for (int64_t c = 0; half && c < 3; ++c)
          to_halves(line.data() + c * out_width, out_width, static_cast<uint16_t*>(out) + c * plane + y * out_width);
      }
    });
  });
}
