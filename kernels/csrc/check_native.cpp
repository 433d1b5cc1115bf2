// Runs the native kernels on awkward sizes under AddressSanitizer and UBSan (CMake option ZEROSEG_SANITIZE) and
// compares them with the formulas, written plainly. Arrays have their exact size on the heap, so that one value read
// or written beyond an end stops the program. Prints one line and returns 0 when all is well.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
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

static void check_mask_decode(int64_t K, int64_t h, int64_t w, int64_t H, int64_t W, int32_t threads) {
  std::vector<float> maps(K * h * w), confidence(H * W, NAN);
  std::vector<int16_t> table(K), labels(H * W, -12345);
  for (auto& value : maps) value = uniform();
  for (int64_t k = 0; k < K; ++k) table[k] = static_cast<int16_t>(k - 1);
  REQUIRE(zs_mask_decode(maps.data(), K, h, w, table.data(), H, W, labels.data(), confidence.data(), threads) == ZS_OK);
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
      const double best = *std::max_element(value.begin(), value.end());
      const int64_t k = labels[y * W + x] + 1;
      REQUIRE(k >= 0 && k < K);
      REQUIRE(std::abs(confidence[y * W + x] - best) < 1e-5);
      REQUIRE(value[k] > best - 1e-5);
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

static void check_preprocess(int64_t H, int64_t W, int64_t h, int64_t w, int32_t threads) {
  std::vector<uint8_t> image(3 * H * W);
  for (auto& value : image) value = static_cast<uint8_t>(uniform() * 256);
  const float scale[3] = {1, 2, 3}, offset[3] = {0.5f, -1, 0};
  std::vector<float> out(3 * h * w, NAN);
  REQUIRE(zs_preprocess(image.data(), H, W, scale, offset, h, w, out.data(), threads) == ZS_OK);
  for (int64_t y = 0; y < h; ++y) {
    const std::vector<double> down = triangle(y, H, h);
    for (int64_t x = 0; x < w; ++x) {
      const std::vector<double> across = triangle(x, W, w);
      for (int64_t c = 0; c < 3; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < H; ++i)
          for (int64_t j = 0; j < W; ++j)
            if (down[i] > 0 && across[j] > 0) sum += down[i] * across[j] * image[3 * (i * W + j) + c];
        REQUIRE(std::abs(out[(c * h + y) * w + x] - (sum / 255 * scale[c] + offset[c])) < 1e-4);
      }
    }
  }
}

int main() {
  const int64_t decode[][5] = {{1, 1, 1, 1, 1},   {8, 1, 1, 7, 5},   {8, 4, 6, 1, 1},   {3, 1, 9, 2, 31},
                               {7, 13, 11, 101, 97}, {5, 40, 30, 17, 23}, {8, 6, 6, 6, 6}, {67, 9, 5, 70, 71},
                               {2, 1, 3, 1, 1000}, {8, 3, 4, 600, 800}};
  const int64_t resize[][4] = {{1, 1, 1, 1},   {1, 1, 16, 32},  {13, 7, 1, 1},   {53, 37, 29, 31}, {11, 17, 32, 24},
                               {16, 20, 16, 20}, {3, 200, 16, 64}, {16, 9, 16, 4}, {90, 120, 64, 96}};
  for (int32_t threads : {1, 3}) {
    for (const auto& n : decode) check_mask_decode(n[0], n[1], n[2], n[3], n[4], threads);
    for (const auto& n : resize) check_preprocess(n[0], n[1], n[2], n[3], threads);
  }
  float value = 0;
  int16_t label = 0;
  REQUIRE(zs_mask_decode(nullptr, 1, 1, 1, &label, 1, 1, &label, &value, 1) == ZS_BAD_ARGUMENT);
  REQUIRE(zs_mask_decode(&value, 1, 0, 1, &label, 1, 1, &label, &value, 1) == ZS_BAD_ARGUMENT);
  REQUIRE(zs_last_error()[0] != 0 && zs_abi_version() > 0);
  std::printf("native kernels: all checks passed\n");
  return 0;
}
