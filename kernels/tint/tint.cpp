#include <cstring>
#include <vector>

#include "internal.h"

namespace {

struct Picture {
  const uint8_t* image;
  const int16_t* labels;
  const uint8_t* colors;
  int64_t reach, height, width;
  uint32_t alpha;
  uint8_t* out;
};

// edge[x] becomes nonzero where labels[x] and other[x] differ.
ZS_INLINE void mark(const int16_t* labels, const int16_t* other, int64_t count, int16_t* __restrict edge) {
  for (int64_t x = 0; x < count; ++x) edge[x] |= labels[x] ^ other[x];
}

// count pixels of one colour c (3) and alpha: out = in * (255 - alpha) / 255 + c * alpha / 255, rounded.
ZS_INLINE void blend_run(const uint8_t* in, uint8_t* __restrict out, int64_t count, const uint8_t* c, uint32_t alpha) {
  constexpr int BLOCK = 48;  // bytes: whole pixels and whole vectors
  uint16_t added[BLOCK];
  for (int i = 0; i < BLOCK; ++i) added[i] = static_cast<uint16_t>(c[i % 3] * alpha + 128u);
  const uint16_t kept = static_cast<uint16_t>(255u - alpha);
  const auto mixed = [&](uint8_t value, int i) {
    const uint16_t sum = static_cast<uint16_t>(value * kept + added[i]);  // at most 255 * 255 + 128
    return static_cast<uint8_t>((sum + (sum >> 8)) >> 8);                 // sum / 255: exact in this range
  };
  int64_t done = 0;
  for (; done + BLOCK <= 3 * count; done += BLOCK)
    for (int i = 0; i < BLOCK; ++i) out[done + i] = mixed(in[done + i], i);
  for (int i = 0; done + i < 3 * count; ++i) out[done + i] = mixed(in[done + i], i);
}

// edge and key (width each) are scratch.
ZS_CLONES void tint_row(const Picture& p, int64_t y, int16_t* __restrict edge, int32_t* __restrict key) {
  const int64_t width = p.width;
  const int16_t* labels = p.labels + y * width;
  std::memset(edge, 0, width * sizeof *edge);
  const int64_t distances[2] = {1, p.reach};
  for (int i = 0; i < (p.reach > 1 ? 2 : p.reach > 0 ? 1 : 0); ++i) {
    const int64_t d = distances[i];
    if (y >= d) mark(labels, labels - d * width, width, edge);
    if (y + d < p.height) mark(labels, labels + d * width, width, edge);
    if (d < width) {
      mark(labels + d, labels, width - d, edge + d);
      mark(labels, labels + d, width - d, edge);
    }
  }
  for (int64_t x = 0; x < width; ++x) {
    const int32_t label = labels[x], code = 2 * label + (edge[x] != 0);
    key[x] = label < 0 ? -1 : code;
  }
  const uint8_t* in = p.image + 3 * y * width;
  uint8_t* out = p.out + 3 * y * width;
  for (int64_t begin = 0, end; begin < width; begin = end) {
    for (end = begin + 1; end < width && key[end] == key[begin];) ++end;
    if (key[begin] < 0)
      std::memcpy(out + 3 * begin, in + 3 * begin, 3 * (end - begin));
    else
      blend_run(in + 3 * begin, out + 3 * begin, end - begin, p.colors + 3 * (key[begin] >> 1),
                key[begin] & 1 ? 255 : p.alpha);
  }
}

}  // namespace

int32_t zs_tint(const uint8_t* image, const int16_t* labels, const uint8_t* colors, int64_t color_count,
                uint32_t alpha, int64_t reach, int64_t height, int64_t width, uint8_t* out, int32_t threads) {
  return zs::guarded([&] {
    zs::check(image && labels && out && (colors || color_count == 0), "zs_tint: null array");
    zs::check(height > 0 && width > 0 && color_count >= 0 && reach >= 0, "zs_tint: sizes must be positive");
    zs::check(alpha <= 255, "zs_tint: alpha must be in [0, 255]");
    int16_t least = -1, most = -1;
    for (int64_t i = 0; i < height * width; ++i) {
      least = labels[i] < least ? labels[i] : least;
      most = labels[i] > most ? labels[i] : most;
    }
    zs::check(least >= -1 && most < color_count, "zs_tint: a label without a colour");
    const Picture picture = {image, labels, colors, reach, height, width, alpha, out};
    zs::over_rows(height, 128, threads, [&](int64_t begin, int64_t end) {
      std::vector<int16_t> edge(width);
      std::vector<int32_t> key(width);
      for (int64_t y = begin; y < end; ++y) tint_row(picture, y, edge.data(), key.data());
    });
  });
}
