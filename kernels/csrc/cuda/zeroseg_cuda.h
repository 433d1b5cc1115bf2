/* The C interface of the CUDA kernels. Plain C99; no CUDA header is needed.
 *
 * Every function returns a zs_cuda_status; on anything but ZS_CUDA_OK, zs_cuda_last_error() says in one line what was
 * wrong. Work is queued on the caller's stream (a cudaStream_t as void*, null for the default stream) of the current
 * device and nothing waits for it: arrays must stay valid until the stream has passed. Nothing is allocated: where an
 * op needs memory beside its outputs, its _workspace function says how much. Functions may be called from several
 * threads at once. All pointers are device memory unless said otherwise; sizes and strides are 64-bit.
 *
 * Every output element is written. Results repeat bit for bit on one device: sums have one order.
 */
#ifndef ZEROSEG_CUDA_H
#define ZEROSEG_CUDA_H

#include <stdint.h>

#if defined(_WIN32)
#define ZS_CUDA_API __declspec(dllexport)
#else
#define ZS_CUDA_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum zs_cuda_status {
  ZS_CUDA_OK = 0,
  ZS_CUDA_BAD_ARGUMENT = 1,
  ZS_CUDA_LAUNCH_FAILED = 2 /* the CUDA runtime's own message is in zs_cuda_last_error() */
};

enum zs_cuda_type { ZS_CUDA_FLOAT32 = 0, ZS_CUDA_FLOAT16 = 1, ZS_CUDA_BFLOAT16 = 2 };

/* Increased with every change of a signature, a struct or a meaning below. */
#define ZS_CUDA_ABI_VERSION 2
ZS_CUDA_API int32_t zs_cuda_abi_version(void);

/* The message of this thread's last failure; never null. */
ZS_CUDA_API const char* zs_cuda_last_error(void);

/* segment_attention, forward: tokens choose among groups, groups pool the tokens' values.
 *
 *   logits[l][s] = scale <k[l], q[s]>   each of unit length where normalize_keys / normalize_queries say so
 *   soft[l]      = softmax over s of logits[l]
 *   choice[l]    = argmax over s of logits[l] (+ Gumbel noise from seed); the lowest s wins a tie
 *   pooled[s]    = sum over l of used[l][s] v[l] / (sum over l of used[l][s] + eps)
 *
 * where used is one-hot choice, or soft with soft_pooling. The noise is a function of (seed, image, token, group)
 * alone: kernels/segment_attention/gumbel_noise.py. Computes in float32. At most ZS_CUDA_MAX_GROUPS groups.
 * Fastest where width, value_width and the strides are multiples of 4 and pointers are aligned to 16 bytes.
 */
#define ZS_CUDA_MAX_GROUPS 64

struct zs_cuda_segment_attention_args {
  const void* q;        /* (batch, groups, width) of qk_type, contiguous */
  const void* k;        /* (batch, tokens, width) of qk_type, last axis contiguous */
  const void* v;        /* (batch, tokens, value_width) of v_type, last axis contiguous */
  int64_t k_stride_b;   /* strides in elements */
  int64_t k_stride_l;
  int64_t v_stride_b;
  int64_t v_stride_l;
  int64_t batch;
  int64_t tokens;
  int64_t groups;
  int64_t width;
  int64_t value_width;
  int32_t qk_type;      /* zs_cuda_type */
  int32_t v_type;       /* zs_cuda_type, also of pooled */
  int32_t normalize_queries; /* 0 or 1 */
  int32_t normalize_keys;    /* 0 or 1 */
  int32_t soft_pooling;      /* 0 or 1 */
  int32_t noise;             /* 0 or 1: whether seed counts */
  uint64_t seed;
  float scale;          /* 1 for queries that are scaled already */
  float eps;            /* positive */
  void* pooled;         /* (batch, groups, value_width) of v_type */
  float* total;         /* (batch, groups), every group's weight with eps, or null */
  uint8_t* choice;      /* (batch, tokens) */
  float* hard;          /* (batch, tokens, groups) one-hot, or null */
  float* soft;          /* (batch, tokens, groups), or null */
};

/* Bytes of workspace for these sizes and flags, 0 where none is needed; -1 for arguments that are refused. Only sizes,
 * types, flags and whether soft is null are looked at. The same on every device. */
ZS_CUDA_API int64_t zs_cuda_segment_attention_workspace(const struct zs_cuda_segment_attention_args* args);

/* workspace: that many bytes at least, aligned to 16; it may be null where none is needed. */
ZS_CUDA_API int32_t zs_cuda_segment_attention(const struct zs_cuda_segment_attention_args* args, void* workspace,
                                              int64_t workspace_bytes, void* stream);

/* mask_decode: from soft maps, or dense label logits, to a label and a confidence per pixel.
 *
 * For every pixel: bilinear interpolation of the maps (half-pixel centres, edges clamped), the highest segment k (the
 * lowest k wins a tie), label = table[k]. With table null segment k is label k: the dense variant, where maps are
 * label logits; labels stream, nothing of size labels x pixels exists. A pixel whose best value is below threshold
 * gets the label -1. Labels are stored as the low bytes of a 32-bit number: -1 is 0xff or 0xffff. Maps must be finite.
 * Needs no workspace. Fastest where width is a multiple of 4 and outputs are aligned to 16 bytes.
 */
struct zs_cuda_mask_decode_args {
  const void* maps;      /* (batch, segments, rows, columns) of maps_type */
  int64_t map_stride_b;  /* strides in elements, of any sign: any layout of the maps will do */
  int64_t map_stride_k;
  int64_t map_stride_h;
  int64_t map_stride_w;
  const int32_t* table;  /* (batch, segments) contiguous, or null */
  int64_t table_stride_b; /* segments, or 0 where all images share one table */
  int64_t batch;
  int64_t segments;
  int64_t rows;          /* of the maps */
  int64_t columns;
  int64_t height;        /* of the labels */
  int64_t width;
  int32_t maps_type;     /* ZS_CUDA_FLOAT32 or ZS_CUDA_FLOAT16 */
  int32_t label_bytes;   /* 1 or 2 */
  float threshold;       /* -infinity for none */
  uint32_t alpha;        /* of the overlay, [0, 255] */
  void* labels;          /* (batch, height, width) of label_bytes each */
  float* confidence;     /* (batch, height, width), or null */
  /* The overlay, made in the same pass; picture null for none. Pixels with a label in [0, color_count) are tinted,
   * picture = round((image (255 - alpha) + color alpha) / 255); the others stay as they are. */
  const uint8_t* image;  /* (batch, height, width, 3) contiguous */
  const uint8_t* colors; /* (color_count, 3) */
  int64_t color_count;
  uint8_t* picture;      /* (batch, height, width, 3); may be image itself */
};

ZS_CUDA_API int32_t zs_cuda_mask_decode(const struct zs_cuda_mask_decode_args* args, void* stream);

/* guided_decode: mask_decode whose maps follow the photo's edges, the step per pixel.
 *
 * The photo lies under a grid of square cells, rows = ceil(height / cell), columns = ceil(width / cell). A segment's
 * value at a pixel is factors . colour / 255 + constant, all four interpolated bilinearly between the cells' centres,
 * edges clamped. The coefficients are those of a guided filter; kernels/mask_decode/guided_reference.py has the formula
 * and guided_torch.py computes them. Labels and table are as in mask_decode; confidence is the best value, cut to
 * [0, 1], and the threshold is held against that. Needs no workspace.
 */
struct zs_cuda_guided_decode_args {
  const float* coefficients; /* (batch, rows, columns, 4, segments) contiguous: factors of the channels, constant */
  const int32_t* table;  /* (batch, segments) contiguous, or null */
  int64_t table_stride_b; /* segments, or 0 where all images share one table */
  const uint8_t* guide;  /* (batch, height, width, 3) contiguous */
  int64_t batch;
  int64_t segments;
  int64_t cell;          /* pixels */
  int64_t height;
  int64_t width;
  int32_t label_bytes;   /* 1 or 2 */
  float threshold;       /* -infinity for none */
  uint32_t alpha;        /* of the overlay, [0, 255] */
  void* labels;          /* (batch, height, width) of label_bytes each */
  float* confidence;     /* (batch, height, width), or null */
  const uint8_t* image;  /* the overlay, as in mask_decode */
  const uint8_t* colors;
  int64_t color_count;
  uint8_t* picture;      /* null for none */
};

ZS_CUDA_API int32_t zs_cuda_guided_decode(const struct zs_cuda_guided_decode_args* args, void* stream);

/* preprocess: uint8 photos of one size to the network's input.
 *
 * Antialiased resize with Pillow's bilinear (triangle) filter, without rounding in between, so within one grey level
 * of Pillow; then value / 255 * scale[c] + offset[c]. For BGR photos pass image + 2 and channel_stride = -1.
 * Needs no workspace. Fastest for packed pixels whose rows start at multiples of 4 bytes.
 */
struct zs_cuda_preprocess_args {
  const uint8_t* image;   /* (batch, height, width, 3) by the strides below */
  int64_t image_stride_b; /* strides in bytes, of any sign */
  int64_t row_stride;
  int64_t pixel_stride;
  int64_t channel_stride;
  int64_t batch;
  int64_t height;
  int64_t width;
  int64_t out_height;
  int64_t out_width;
  float scale[3];         /* 1 / std */
  float offset[3];        /* -mean / std */
  int32_t out_type;       /* ZS_CUDA_FLOAT32 or ZS_CUDA_FLOAT16 */
  void* out;              /* (batch, 3, out_height, out_width) contiguous */
};

ZS_CUDA_API int32_t zs_cuda_preprocess(const struct zs_cuda_preprocess_args* args, void* stream);

#ifdef __cplusplus
}
#endif

#endif
