// Runs the native kernels on awkward sizes under AddressSanitizer and UBSan (CMake option ZEROSEG_SANITIZE) and
// compares them with the formulas, written plainly. Arrays have their exact size on the heap, so that one value read
// or written beyond an end stops the program. Prints one line and returns 0 when all is well.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "native.h"

static uint32_t state = 1;
static float uniform() {  // in [0, 1)
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / 16777216.0f;
}

#define REQUIRE(condition)                                                    \
  do {                                                                        \
    if (!(condition)) {                                                       \
      std::printf("failed at line %d: %s\n", __LINE__, #condition);           \
      std::exit(1);                                                           \
    }                                                                         \
  } while (0)

static double source_place(int64_t i, int64_t source, int64_t target) {
  return std::clamp((i + 0.5) * (double(source) / double(target)) - 0.5, 0.0, double(source - 1));
}

// Labels of 1 or 2 bytes, read as the signed number that was stored.
static int64_t stored(const std::vector<uint8_t>& labels, int64_t i, int32_t bytes) {
  if (bytes == 1) return labels[i] == 0xff ? -1 : labels[i];
  int16_t value;
  std::memcpy(&value, labels.data() + 2 * i, 2);
  return value;
}

static void check_mask_decode(int64_t K, int64_t h, int64_t w, int64_t H, int64_t W, int32_t bytes, bool with_table,
                              bool with_overlay, int32_t threads) {
  std::vector<float> maps(K * h * w), confidence(H * W, NAN);
  std::vector<int32_t> table(K);
  std::vector<uint8_t> labels(bytes * H * W, 0x55), image(3 * H * W), colors(3 * 2), picture(3 * H * W, 0x55);
  for (auto& value : maps) value = uniform();
  for (auto& value : image) value = static_cast<uint8_t>(uniform() * 256);
  for (auto& value : colors) value = static_cast<uint8_t>(uniform() * 256);
  for (int64_t k = 0; k < K; ++k) table[k] = static_cast<int32_t>(k - 1);
  const float threshold = with_table ? -INFINITY : 0.6f;
  const zs_overlay overlay = {image.data(), colors.data(), 2, 77, picture.data()};
  REQUIRE(zs_mask_decode(maps.data(), K, h, w, with_table ? table.data() : nullptr, threshold, H, W, bytes,
                         labels.data(), confidence.data(), with_overlay ? &overlay : nullptr, threads) == ZS_OK);
  for (int64_t y = 0; y < H; ++y)
    for (int64_t x = 0; x < W; ++x) {
      const double v = source_place(y, h, H), u = source_place(x, w, W);
      const int64_t y0 = int64_t(v), x0 = int64_t(u), y1 = std::min(y0 + 1, h - 1), x1 = std::min(x0 + 1, w - 1);
      std::vector<double> value(K);
      for (int64_t k = 0; k < K; ++k) {
        const float* map = maps.data() + k * h * w;
        const double upper = map[y0 * w + x0] * (1 - (u - x0)) + map[y0 * w + x1] * (u - x0);
        const double lower = map[y1 * w + x0] * (1 - (u - x0)) + map[y1 * w + x1] * (u - x0);
        value[k] = upper * (1 - (v - y0)) + lower * (v - y0);
      }
      const int64_t i = y * W + x, label = stored(labels, i, bytes), k = label + (with_table ? 1 : 0);
      const double best = *std::max_element(value.begin(), value.end());
      REQUIRE(std::abs(confidence[i] - best) < 1e-5);
      if (k >= 0)
        REQUIRE(k < K && value[k] > best - 1e-5 && best > threshold - 1e-5);
      else
        REQUIRE(best < threshold + 1e-5);
      for (int64_t c = 0; with_overlay && c < 3; ++c) {
        const bool tinted = label >= 0 && label < 2;
        const double plain = image[3 * i + c], color = tinted ? colors[3 * label + c] : plain;
        REQUIRE(picture[3 * i + c] == std::lround((plain * (255 - 77) + color * 77) / 255));
      }
    }
}

// A photo of one colour: the filter is left with twice the windows' means a pass, and confidence is their best value.
// Of a photo of noise the extremes are looked at; test_guided_decode.py has the values.
static void check_guided_decode(int64_t K, int64_t h, int64_t w, int64_t H, int64_t W, int32_t bytes, bool noise,
                                int32_t threads) {
  const zs_guided_settings settings = {7, 3, 2, 1e-4, 1e-6};
  const int64_t rows = (H + 6) / 7, columns = (W + 6) / 7;
  std::vector<float> maps(K * h * w), confidence(H * W, NAN);
  std::vector<uint8_t> labels(bytes * H * W, 0x55), guide(3 * H * W, 90), colors(3 * 2), picture(3 * H * W, 0x55);
  for (auto& value : maps) value = uniform();
  if (noise)
    for (auto& value : guide) value = static_cast<uint8_t>(uniform() * 256);
  const zs_overlay overlay = {guide.data(), colors.data(), 2, 77, picture.data()};
  REQUIRE(zs_guided_decode(maps.data(), K, h, w, nullptr, -INFINITY, guide.data(), H, W, &settings, bytes,
                           labels.data(), confidence.data(), &overlay, threads) == ZS_OK);
  std::vector<double> best(H * W, -INFINITY);
  for (int64_t k = 0; k < K; ++k) {
    std::vector<double> q(rows * columns);
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t x = 0; x < columns; ++x) {
        const double v = std::clamp((y + 0.5) * 7 * h / H - 0.5, 0.0, double(h - 1));
        const double u = std::clamp((x + 0.5) * 7 * w / W - 0.5, 0.0, double(w - 1));
        const int64_t y0 = int64_t(v), x0 = int64_t(u), y1 = std::min(y0 + 1, h - 1), x1 = std::min(x0 + 1, w - 1);
        const float* map = maps.data() + k * h * w;
        q[y * columns + x] = (map[y0 * w + x0] * (1 - (u - x0)) + map[y0 * w + x1] * (u - x0)) * (1 - (v - y0)) +
                             (map[y1 * w + x0] * (1 - (u - x0)) + map[y1 * w + x1] * (u - x0)) * (v - y0);
      }
    for (int pass = 0; pass < 4; ++pass) {
      const std::vector<double> from = q;
      for (int64_t y = 0; y < rows; ++y)
        for (int64_t x = 0; x < columns; ++x) {
          double sum = 0, count = 0;
          for (int64_t j = std::max<int64_t>(y - 3, 0); j <= std::min(y + 3, rows - 1); ++j)
            for (int64_t i = std::max<int64_t>(x - 3, 0); i <= std::min(x + 3, columns - 1); ++i)
              sum += from[j * columns + i], ++count;
          q[y * columns + x] = sum / count;
        }
    }
    for (int64_t i = 0; i < H * W; ++i) {
      const double v = std::clamp((i / W + 0.5) / 7 - 0.5, 0.0, double(rows - 1));
      const double u = std::clamp((i % W + 0.5) / 7 - 0.5, 0.0, double(columns - 1));
      const int64_t y0 = int64_t(v), x0 = int64_t(u), y1 = std::min(y0 + 1, rows - 1), x1 = std::min(x0 + 1, columns - 1);
      best[i] = std::max(best[i], (q[y0 * columns + x0] * (1 - (u - x0)) + q[y0 * columns + x1] * (u - x0)) * (1 - (v - y0)) +
                                      (q[y1 * columns + x0] * (1 - (u - x0)) + q[y1 * columns + x1] * (u - x0)) * (v - y0));
    }
  }
  for (int64_t i = 0; i < H * W; ++i) {
    const int64_t label = stored(labels, i, bytes);
    REQUIRE(label >= 0 && label < K && confidence[i] >= 0 && confidence[i] <= 1);
    REQUIRE(noise || std::abs(confidence[i] - best[i]) < 1e-5);
  }
}

// The triangle filter's weights of target place i, over the whole source axis.
static std::vector<double> triangle(int64_t i, int64_t source, int64_t target) {
  const double step = double(source) / double(target), reach = std::max(step, 1.0), centre = (i + 0.5) * step;
  std::vector<double> weight(source);
  double sum = 0;
  for (int64_t s = 0; s < source; ++s) sum += weight[s] = std::max(0.0, 1 - std::abs(s + 0.5 - centre) / reach);
  for (auto& value : weight) value /= sum;
  return weight;
}

static float from_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float value = exponent ? std::ldexp(1024.0f + mantissa, exponent - 25) : std::ldexp(float(mantissa), -24);
  return bits & 0x8000 ? -value : value;
}

static void check_tint(int64_t H, int64_t W, int64_t reach, int32_t threads) {
  std::vector<uint8_t> image(3 * H * W), colors(3 * 3), out(3 * H * W, 0x55);
  std::vector<int16_t> labels(H * W);
  for (auto& value : image) value = static_cast<uint8_t>(uniform() * 256);
  for (auto& value : colors) value = static_cast<uint8_t>(uniform() * 256);
  for (int64_t i = 0; i < H * W; ++i)  // patches of five, so that there is an inside
    labels[i] = static_cast<int16_t>((i / W / 5 + i % W / 5 * 2) % 4 - 1);
  REQUIRE(zs_tint(image.data(), labels.data(), colors.data(), 3, 99, reach, H, W, out.data(), threads) == ZS_OK);
  for (int64_t y = 0; y < H; ++y)
    for (int64_t x = 0; x < W; ++x) {
      const int64_t label = labels[y * W + x];
      bool edge = false;
      for (int64_t d : {int64_t(1), reach})
        for (const auto& step : {std::pair<int64_t, int64_t>{d, 0}, {-d, 0}, {0, d}, {0, -d}}) {
          const int64_t v = y + step.first, u = x + step.second;
          edge |= reach > 0 && v >= 0 && v < H && u >= 0 && u < W && labels[v * W + u] != label;
        }
      for (int64_t c = 0; c < 3; ++c) {
        const double plain = image[3 * (y * W + x) + c], alpha = label < 0 ? 0 : edge ? 255 : 99;
        const double color = label < 0 ? 0 : colors[3 * label + c];
        REQUIRE(out[3 * (y * W + x) + c] == std::lround((plain * (255 - alpha) + color * alpha) / 255));
      }
    }
}

static void check_best_products(int64_t groups, int64_t dims, int64_t count, int32_t threads) {
  std::vector<int64_t> first(1, 2);  // two vectors before the first group, and one after the last
  for (int64_t i = 0; i < groups; ++i) first.push_back(first.back() + 1 + i % 3);
  const int64_t vectors = first.back() + 1;
  std::vector<int8_t> codes(vectors * dims);
  std::vector<int16_t> directions(count * dims);
  std::vector<int32_t> best(count * groups, 0x55);
  for (auto& value : codes) value = static_cast<int8_t>(int(uniform() * 256) - 128);
  for (auto& value : directions) value = static_cast<int16_t>(int(uniform() * 65536) - 32768);
  REQUIRE(zs_best_products(codes.data(), vectors, dims, first.data(), groups, directions.data(), count, best.data(),
                           threads) == ZS_OK);
  for (int64_t n = 0; n < count; ++n)
    for (int64_t i = 0; i < groups; ++i) {
      int64_t wanted = INT64_MIN;
      for (int64_t v = first[i]; v < first[i + 1]; ++v) {
        int64_t sum = 0;
        for (int64_t j = 0; j < dims; ++j) sum += int64_t(codes[v * dims + j]) * directions[n * dims + j];
        wanted = std::max(wanted, sum);
      }
      REQUIRE(best[n * groups + i] == wanted);
    }
}

enum Layout { PACKED, REVERSED, PADDED };  // RGB; BGR upside down; four bytes a pixel in rows with a gap

static void check_preprocess(int64_t H, int64_t W, int64_t h, int64_t w, Layout layout, bool half, int32_t threads) {
  const int64_t pixel = layout == PADDED ? 4 : 3, row = pixel * W + (layout == PADDED ? 5 : 0);
  std::vector<uint8_t> memory(row * (H - 1) + pixel * (W - 1) + 3);  // ends with the last pixel's last channel
  for (auto& value : memory) value = static_cast<uint8_t>(uniform() * 256);
  const bool back = layout == REVERSED;
  const uint8_t* image = memory.data() + (back ? row * (H - 1) + 2 : 0);
  const int64_t row_stride = back ? -row : row, channel_stride = back ? -1 : 1;
  const float scale[3] = {1, 2, 3}, offset[3] = {0.5f, -1, 0};
  std::vector<float> out(half ? 0 : 3 * h * w, NAN);
  std::vector<uint16_t> halves(half ? 3 * h * w : 0, 0x7e00);
  REQUIRE(zs_preprocess(image, H, W, row_stride, pixel, channel_stride, scale, offset, h, w, half,
                        half ? static_cast<void*>(halves.data()) : out.data(), threads) == ZS_OK);
  for (int64_t y = 0; y < h; ++y) {
    const std::vector<double> down = triangle(y, H, h);
    for (int64_t x = 0; x < w; ++x) {
      const std::vector<double> across = triangle(x, W, w);
      for (int64_t c = 0; c < 3; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < H; ++i)
          for (int64_t j = 0; j < W; ++j)
            if (down[i] > 0 && across[j] > 0)
              sum += down[i] * across[j] * image[i * row_stride + j * pixel + c * channel_stride];
        const double wanted = sum / 255 * scale[c] + offset[c];
        const int64_t i = (c * h + y) * w + x;
        REQUIRE(std::abs((half ? from_half(halves[i]) : out[i]) - wanted) < (half ? 1.5e-3 : 1e-4));
      }
    }
  }
}

int main() {
  const int64_t decode[][5] = {{1, 1, 1, 1, 1},   {8, 1, 1, 7, 5},   {8, 4, 6, 1, 1},   {3, 1, 9, 2, 31},
                               {7, 13, 11, 101, 97}, {5, 40, 30, 17, 23}, {8, 6, 6, 6, 6}, {67, 9, 5, 70, 71},
                               {2, 1, 3, 1, 1000}, {8, 3, 4, 600, 800}, {200, 6, 5, 61, 83}};
  const int64_t resize[][4] = {{1, 1, 1, 1},   {1, 1, 16, 32},  {13, 7, 1, 1},   {53, 37, 29, 31}, {11, 17, 32, 24},
                               {16, 20, 16, 20}, {3, 200, 16, 64}, {16, 9, 16, 4}, {90, 120, 64, 96}};
  for (int32_t threads : {1, 3}) {
    for (const auto& n : decode)
      for (int mode = 0; mode < 4; ++mode)
        check_mask_decode(n[0], n[1], n[2], n[3], n[4], 1 + mode % 2, mode < 2, mode % 3 == 0, threads);
    for (const auto& n : resize)
      for (Layout layout : {PACKED, REVERSED, PADDED})
        check_preprocess(n[0], n[1], n[2], n[3], layout, layout == REVERSED || threads == 3, threads);
    for (const auto& n : {std::pair<int64_t, int64_t>{1, 1}, {1, 37}, {37, 1}, {101, 97}, {40, 233}})
      for (int64_t K : {1, 4, 9})
        for (bool noise : {false, true}) check_guided_decode(K, 5, 4, n.first, n.second, K == 4 ? 1 : 2, noise, threads);
    for (const auto& n : {std::pair<int64_t, int64_t>{1, 1}, {1, 37}, {37, 1}, {101, 97}, {400, 33}})
      for (int64_t reach : {0, 1, 2, 50}) check_tint(n.first, n.second, reach, threads);
    for (const auto& n : {std::pair<int64_t, int64_t>{1, 1}, {9, 37}, {5000, 80}})
      for (int64_t count : {1, 3}) check_best_products(n.first, n.second, count, threads);
  }
  float value = 0;
  uint8_t byte = 0;
  int32_t label = 0;
  const float three[3] = {1, 1, 1};
  const uint8_t image_colors[9] = {};
  zs_overlay overlay = {&byte, nullptr, 1, 10, &byte};
  auto decode_with = [&](const float* maps, int64_t rows, int32_t bytes, const zs_overlay* picture) {
    return zs_mask_decode(maps, 1, rows, 1, &label, 0, 1, 1, bytes, &label, &value, picture, 1);
  };
  REQUIRE(decode_with(nullptr, 1, 2, nullptr) == ZS_BAD_ARGUMENT);
  REQUIRE(decode_with(&value, 0, 2, nullptr) == ZS_BAD_ARGUMENT);
  REQUIRE(decode_with(&value, 1, 4, nullptr) == ZS_BAD_ARGUMENT);
  REQUIRE(decode_with(&value, 1, 2, &overlay) == ZS_BAD_ARGUMENT);
  const zs_guided_settings fine = {1, 1, 1, 1e-4, 1e-6}, none = {0, 1, 1, 1e-4, 1e-6}, flat = {1, 1, 1, 0, 1e-6};
  auto guide_with = [&](const uint8_t* guide, const zs_guided_settings* settings) {
    return zs_guided_decode(&value, 1, 1, 1, &label, 0, guide, 1, 1, settings, 2, &label, &value, nullptr, 1);
  };
  REQUIRE(guide_with(image_colors, &fine) == ZS_OK);
  REQUIRE(guide_with(nullptr, &fine) == ZS_BAD_ARGUMENT);
  REQUIRE(guide_with(image_colors, &none) == ZS_BAD_ARGUMENT);
  REQUIRE(guide_with(image_colors, &flat) == ZS_BAD_ARGUMENT);
  REQUIRE(zs_preprocess(&byte, 1, 1, 3, 3, 1, three, three, 0, 1, 0, &value, 1) == ZS_BAD_ARGUMENT);
  const int16_t outside[2] = {3, -2};
  for (const int16_t& wrong : outside)
    REQUIRE(zs_tint(&byte, &wrong, image_colors, 3, 9, 1, 1, 1, &byte, 1) == ZS_BAD_ARGUMENT);
  const int8_t codes[2] = {1, 2};
  const int16_t direction = 3;
  const int64_t groups[3] = {0, 1, 3}, empty[3] = {0, 1, 1};
  int32_t best[2];
  for (const int64_t* first : {groups, empty})
    REQUIRE(zs_best_products(codes, 2, 1, first, 2, &direction, 1, best, 1) == ZS_BAD_ARGUMENT);
  REQUIRE(zs_best_products(codes, 2, 1, nullptr, 2, &direction, 1, best, 1) == ZS_BAD_ARGUMENT);
  REQUIRE(zs_last_error()[0] != 0 && zs_abi_version() > 0);
  std::printf("native kernels: all checks passed\n");
  return 0;
}
