// assign: which group each token goes to, and the soft map; a block per 64 tokens.
#pragma once

#include "common.cuh"

namespace {

constexpr int TOKENS = 64;      // of a block
constexpr int COLUMNS = 32;     // of q and k in shared memory at a time
constexpr int ROWS = 4;         // tokens per thread
constexpr int GROUP_LANES = 8;  // neighbouring lanes that share a thread's tokens

// The four words of Philox4x32-10; gumbel_noise.py says what the counter is.
__device__ inline void philox(uint64_t seed, uint32_t quad, uint32_t token, uint32_t image, uint32_t* words) {
  uint32_t c0 = quad, c1 = token, c2 = image, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t a_high = __umulhi(c0, 0xD2511F53u), a_low = c0 * 0xD2511F53u;
    const uint32_t b_high = __umulhi(c2, 0xCD9E8D57u), b_low = c2 * 0xCD9E8D57u;
    c0 = b_high ^ c1 ^ k0, c1 = b_low, c2 = a_high ^ c3 ^ k1, c3 = a_low;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

__device__ inline float gumbel(uint32_t word) {
  const float uniform = (static_cast<float>(word >> 9) + 0.5f) * (1.0f / 8388608);
  return -logf(-log1pf(-uniform));
}

// Rows of q or k on their way to shared memory, transposed. Lane t of warp n holds, of row 16 n + t % 16, the columns
// 4 t / 16 + 8 i ... + 3: whole sectors are read, and 32 banks are written.
template <typename T>
struct Rows {
  const T* row;  // this lane's, at column 4 (lane / 16)
  bool inside, vector;
  int64_t width;  // columns from there on
  float values[COLUMNS / 8][4];
  float square = 0;  // of the lane's columns so far

  __device__ Rows(const T* from, int64_t stride, int64_t rows, int64_t columns, bool words) {
    const int lane = threadIdx.x % 32, index = threadIdx.x / 32 * 16 + lane % 16;
    inside = index < rows;
    vector = words;
    row = from + (inside ? index * stride : 0) + 4 * (lane / 16);
    width = columns - 4 * (lane / 16);
  }

  __device__ void read(int64_t start) {
#pragma unroll
    for (int i = 0; i < COLUMNS / 8; ++i) {
      const int64_t column = start + 8 * i;
      if (inside && vector && column < width) {
        zs::load4(row + column, values[i]);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          values[i][j] = inside && column + j < width ? zs::to_float(row[column + j]) : 0;
      }
    }
  }

  __device__ void write(float* tile, int pitch) {  // tile[column * pitch + row]
    const int lane = threadIdx.x % 32, index = threadIdx.x / 32 * 16 + lane % 16;
#pragma unroll
    for (int i = 0; i < COLUMNS / 8; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        tile[(4 * (lane / 16) + 8 * i + j) * pitch + index] = values[i][j];
        square += values[i][j] * values[i][j];
      }
  }

  __device__ float inverse_length() const {  // for both lanes of a row
    return 1 / fmaxf(sqrtf(zs::sum_over_lanes(square, 16, 32)), 1e-12f);
  }
};

// Bit flags that a launch needs beside its arguments.
struct Words {
  bool q, k, maps;  // whether they can be read, or written, as vectors
};

// One token's row of a map, N groups of it from `first` on.
template <int N>
__device__ inline void write_map(float* row, int first, int64_t groups, bool words, const float* values) {
  if (N % 4 == 0 && words && first + N <= groups) {
#pragma unroll
    for (int j = 0; j + 3 < N; j += 4)
      *reinterpret_cast<float4*>(row + first + j) =
          make_float4(values[j], values[j + 1], values[j + 2], values[j + 3]);
    return;
  }
#pragma unroll
  for (int j = 0; j < N; ++j)
    if (first + j < groups) row[first + j] = values[j];
}

// N groups per thread: tiles of 8 N groups.
template <typename T, int N>
__global__ void __launch_bounds__(THREADS) segment_attention_assign_kernel(Args a, float* soft_map, Words words) {
  constexpr int TILE_S = GROUP_LANES * N, K_PITCH = TOKENS + 4, Q_PITCH = TILE_S + 4;
  ZS_SHARED(memory);
  float *k_tile = memory, *q_tile = k_tile + COLUMNS * K_PITCH;
  float *k_inverse = q_tile + COLUMNS * Q_PITCH, *q_inverse = k_inverse + TOKENS;
  const int64_t blocks = (a.tokens + TOKENS - 1) / TOKENS, image = blockIdx.x / blocks;
  const int64_t block_token = blockIdx.x % blocks * TOKENS;
  const int lane = threadIdx.x % GROUP_LANES, row = threadIdx.x / GROUP_LANES * ROWS, first = lane * N;
  const int warp = threadIdx.x / 32;

  Rows<T> k(static_cast<const T*>(a.k) + image * a.k_stride_b + block_token * a.k_stride_l, a.k_stride_l,
            a.tokens - block_token, a.width, words.k);
  Rows<T> q(static_cast<const T*>(a.q) + image * a.groups * a.width, a.width, a.groups, a.width, words.q);
  const bool reads_q = warp * 16 < TILE_S;  // the whole warp
  const bool half_warp = TILE_S < 16 && threadIdx.x % 16 >= TILE_S;  // lanes without a row of the tile
  float logits[ROWS][N] = {};
  k.read(0);
  if (reads_q) q.read(0);
  for (int64_t start = 0; start < a.width; start += COLUMNS) {
    __syncthreads();
    k.write(k_tile, K_PITCH);
    if (reads_q && !half_warp) q.write(q_tile, Q_PITCH);
    __syncthreads();
    if (start + COLUMNS < a.width) {  // on its way while this one is multiplied
      k.read(start + COLUMNS);
      if (reads_q) q.read(start + COLUMNS);
    }
#pragma unroll 8
    for (int c = 0; c < COLUMNS; ++c) {
      float from_k[ROWS], from_q[N];
      copy_shared<ROWS>(k_tile + c * K_PITCH + row, from_k);
      copy_shared<N>(q_tile + c * Q_PITCH + first, from_q);
#pragma unroll
      for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) logits[i][j] += from_k[i] * from_q[j];
    }
  }
  const float k_length = k.inverse_length();
  if (threadIdx.x % 32 < 16) k_inverse[warp * 16 + threadIdx.x % 16] = a.normalize_keys ? k_length : 1.0f;
  if (reads_q) {
    const float q_length = q.inverse_length();
    if (threadIdx.x % 32 < 16 && !half_warp)
      q_inverse[warp * 16 + threadIdx.x % 16] = a.scale * (a.normalize_queries ? q_length : 1.0f);
  }
  __syncthreads();

#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const int64_t token = block_token + row + i;
    float highest = -INFINITY;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      logits[i][j] = first + j < a.groups ? logits[i][j] * k_inverse[row + i] * q_inverse[first + j] : -INFINITY;
      highest = fmaxf(highest, logits[i][j]);
    }
    if (soft_map) {
      highest = zs::max_over_lanes(highest, 1, GROUP_LANES);
      float exponent[N], sum = 0;
#pragma unroll
      for (int j = 0; j < N; ++j) sum += exponent[j] = expf(logits[i][j] - highest);
      const float inverse = 1 / zs::sum_over_lanes(sum, 1, GROUP_LANES);
#pragma unroll
      for (int j = 0; j < N; ++j) exponent[j] *= inverse;
      if (token < a.tokens)
        write_map<N>(soft_map + (image * a.tokens + token) * a.groups, first, a.groups, words.maps, exponent);
    }
    if (a.noise) {
      uint32_t drawn[4];
#pragma unroll
      for (int j = 0; j < N; ++j) {
        if (j % 4 == 0)
          philox(a.seed, static_cast<uint32_t>(first + j) / 4, static_cast<uint32_t>(token),
                 static_cast<uint32_t>(image), drawn);
        // with fewer than four groups a thread's first one may lie anywhere in its quad
        const uint32_t word = N >= 4 ? drawn[j % 4] : (first + j) % 4 == 0 ? drawn[0] : (first + j) % 4 == 1 ? drawn[1]
                              : (first + j) % 4 == 2 ? drawn[2] : drawn[3];
        logits[i][j] += gumbel(word);
      }
    }
    float best = logits[i][0];
    int choice = first;
#pragma unroll
    for (int j = 1; j < N; ++j)
      if (logits[i][j] > best) best = logits[i][j], choice = first + j;
#pragma unroll
    for (int other = 1; other < GROUP_LANES; other *= 2) {  // the lowest group wins a tie
      const float its_best = __shfl_xor_sync(~0u, best, other);
      const int its_choice = __shfl_xor_sync(~0u, choice, other);
      if (its_best > best || (its_best == best && its_choice < choice)) best = its_best, choice = its_choice;
    }
    if (token >= a.tokens) continue;
    if (lane == 0) a.choice[image * a.tokens + token] = static_cast<uint8_t>(choice);
    if (a.hard) {
      float chosen[N];
#pragma unroll
      for (int j = 0; j < N; ++j) chosen[j] = first + j == choice ? 1.0f : 0.0f;
      write_map<N>(a.hard + (image * a.tokens + token) * a.groups, first, a.groups, words.maps, chosen);
    }
  }
}

template <typename T, int N>
int32_t launch_assign(const Args& a, float* soft_map, void* stream) {
  const int64_t size = sizeof(T) * 4;
  Words words;
  words.q = a.width % 4 == 0 && zs::aligned(a.q, size);
  words.k = a.width % 4 == 0 && a.k_stride_l % 4 == 0 && a.k_stride_b % 4 == 0 && zs::aligned(a.k, size);
  words.maps = a.groups % 4 == 0 && zs::aligned(soft_map, 16) && zs::aligned(a.hard, 16);
  constexpr int tile_s = GROUP_LANES * N;
  const size_t shared = sizeof(float) * (COLUMNS * (TOKENS + 4 + tile_s + 4) + TOKENS + tile_s);
  auto kernel = &segment_attention_assign_kernel<T, N>;
  ZS_LAUNCH(kernel, a.batch * zs::ceil_div(a.tokens, TOKENS), THREADS, shared, stream, a, soft_map, words);
  return zs::launched("segment_attention, assign");
}

template <typename T>
int32_t assign(const Args& a, float* soft_map, void* stream) {
  if (a.groups <= 8) return launch_assign<T, 1>(a, soft_map, stream);
  if (a.groups <= 16) return launch_assign<T, 2>(a, soft_map, stream);
  if (a.groups <= 32) return launch_assign<T, 4>(a, soft_map, stream);
  return launch_assign<T, 8>(a, soft_map, stream);
}

}  // namespace
