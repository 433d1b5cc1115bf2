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

// maps (segments, rows, columns) finite, table (segments) -> labels and confidence (height, width).
ZS_API int32_t zs_mask_decode(const float* maps, int64_t segments, int64_t rows, int64_t columns, const int16_t* table,
                              int64_t height, int64_t width, int16_t* labels, float* confidence, int32_t threads);

// image (height, width, 3) -> out (3, out_height, out_width) = resized / 255 * scale[c] + offset[c].
ZS_API int32_t zs_preprocess(const uint8_t* image, int64_t height, int64_t width, const float* scale,
                             const float* offset, int64_t out_height, int64_t out_width, float* out, int32_t threads);
