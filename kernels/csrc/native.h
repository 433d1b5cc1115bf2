// The C interface of the native CPU kernels. Every function returns a status; on anything but ZS_OK,
// zs_last_error() says in one line what was wrong. All arrays are contiguous, row-major and owned by the caller;
// sizes are 64-bit. Functions may be called from several threads at once.
#pragma once

#include <cstdint>

#define ZS_API extern "C" __attribute__((visibility("default")))

enum zs_status { ZS_OK = 0, ZS_BAD_ARGUMENT = 1, ZS_OUT_OF_MEMORY = 2, ZS_INTERNAL = 3 };

// Increased with every change of a signature or a meaning below; _native.py refuses any other number.
ZS_API int32_t zs_abi_version();

// The message of this thread's last failure; never null.
ZS_API const char* zs_last_error();

// A picture written in the same pass: pixels whose label is below color_count are tinted with that colour,
// out = round((image * (255 - alpha) + color * alpha) / 255); the others stay as they are.
struct zs_overlay {
  const uint8_t* image;   // (height, width, 3)
  const uint8_t* colors;  // (color_count, 3)
  int64_t color_count;
  uint32_t alpha;  // [0, 255]
  uint8_t* out;    // (height, width, 3)
};

// maps (segments, rows, columns) finite, table (segments) -> labels and confidence (height, width).
// table null: segment k has the label k. A pixel whose confidence is below threshold has the label -1. Labels are
// stored in label_bytes (1 or 2) bytes, as the low bytes of a 32-bit number: -1 is 0xff or 0xffff. overlay may be null.
ZS_API int32_t zs_mask_decode(const float* maps, int64_t segments, int64_t rows, int64_t columns, const int32_t* table,
                              float threshold, int64_t height, int64_t width, int32_t label_bytes, void* labels,
                              float* confidence, const zs_overlay* overlay, int32_t threads);

// What a guided filter needs to know: kernels/mask_decode/guided_reference.py.
struct zs_guided_settings {
  int64_t cell;         // px, of the grid on which the coefficients are computed; [1, 32768]
  int64_t radius;       // of a window, in cells; at least 1
  int32_t passes;       // at least 1
  double epsilon;       // added to the variance of the guide's channels, which are in 0..1; positive
  double detail_floor;  // positive
};

// The same with a guide, the photo itself (height, width, 3): the maps are filtered by it, passes times. Confidence is
// the winner's filtered map, cut to [0, 1].
ZS_API int32_t zs_guided_decode(const float* maps, int64_t segments, int64_t rows, int64_t columns,
                                const int32_t* table, float threshold, const uint8_t* guide, int64_t height,
                                int64_t width, const zs_guided_settings* settings, int32_t label_bytes, void* labels,
                                float* confidence, const zs_overlay* overlay, int32_t threads);

// image and out (height, width, 3), labels (height, width) in [-1, color_count), colors (color_count, 3). A pixel with
// label l becomes round((image * (255 - alpha) + colors[l] * alpha) / 255), or colors[l] where a pixel 1 or reach
// (0: none) away to a side has another label; label -1 leaves it as it is.
ZS_API int32_t zs_tint(const uint8_t* image, const int16_t* labels, const uint8_t* colors, int64_t color_count,
                       uint32_t alpha, int64_t reach, int64_t height, int64_t width, uint8_t* out, int32_t threads);

// vectors (vector_count, dims), first (groups + 1) increasing: group i is the vectors first[i] to first[i + 1] - 1.
// directions (direction_count, dims), 128 times the sum of absolute values of each at most 2^31 - 1 -> best
// (direction_count, groups), the highest inner product of each group's vectors with each direction.
ZS_API int32_t zs_best_products(const int8_t* vectors, int64_t vector_count, int64_t dims, const int64_t* first,
                                int64_t groups, const int16_t* directions, int64_t direction_count, int32_t* best,
                                int32_t threads);

// image (height, width, 3), its strides in bytes (any sign), -> out (3, out_height, out_width) = resized / 255 *
// scale[c] + offset[c], float32 or, with half != 0, IEEE float16.
ZS_API int32_t zs_preprocess(const uint8_t* image, int64_t height, int64_t width, int64_t row_stride,
                             int64_t pixel_stride, int64_t channel_stride, const float* scale, const float* offset,
                             int64_t out_height, int64_t out_width, int32_t half, void* out, int32_t threads);
