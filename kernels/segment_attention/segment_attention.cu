// segment_attention on a GPU, forward.
//
//   assign  a block per 64 tokens: logits over all groups in one tile of registers, softmax, noise, argmax
//   pool    a block per image, columns of the values and share of the tokens; one thread owns its columns of every
//           group, so nothing is added atomically
//   finish  adds the shares in order and divides, where there is more than one
//
// Keys and values are read once. float32 throughout: two groups whose logits nearly tie must not swap.
//
// B batch, L tokens, S groups, C width of q and k, D width of v.

#include "interface.cuh"

namespace {

using Args = zs_cuda_segment_attention_args;

constexpr int THREADS = 128;
constexpr int TOKENS = 64;      // of a block of assign
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

template <int N>
__device__ inline void copy_shared(const float* from, float* to) {  // N floats, in as few loads as there can be
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
  } else if constexpr (N == 2) {
    const float2 two = *reinterpret_cast<const float2*>(from);
    to[0] = two.x, to[1] = two.y;
  } else {
    to[0] = from[0];
  }
}

// Bit flags that a launch needs beside its arguments.
struct Words {
  bool q, k, v, maps;  // whether they can be read, or written, as vectors
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

// Where pool leaves its sums: divided in the outputs if there is one share of the tokens, else in the workspace.
struct Shares {
  int64_t count, tokens;  // tokens per share
  int64_t column_blocks;
  float *sums, *weights;  // (B, count, S, D) and (B, count, S)
};

template <typename T>
__device__ inline void put(const Args& a, const Shares& shares, int64_t image, int64_t share, int64_t group,
                           int64_t column, float sum, float weight) {
  if (shares.count == 1)
    zs::store(static_cast<T*>(a.pooled) + (image * a.groups + group) * a.value_width + column, sum / (weight + a.eps));
  else
    shares.sums[((image * shares.count + share) * a.groups + group) * a.value_width + column] = sum;
}

__device__ inline void put_weight(const Args& a, const Shares& shares, int64_t image, int64_t share, int64_t group,
                                  float weight) {
  if (shares.count > 1)
    shares.weights[(image * shares.count + share) * a.groups + group] = weight;
  else if (a.total)
    a.total[image * a.groups + group] = weight + a.eps;
}

// Hard pooling: a thread adds its two columns of a value to those of the group that the token chose, in shared memory
// that no other thread touches. blockDim.x is 128 for up to 32 groups, else 64: never more than 32 KiB.
template <typename T>
__global__ void __launch_bounds__(THREADS) segment_attention_pool_hard_kernel(Args a, Shares shares, bool vector) {
  constexpr int AT_ONCE = 8;
  ZS_SHARED(memory);
  float2* sums = reinterpret_cast<float2*>(memory) + threadIdx.x;  // of group s: sums[s * blockDim.x]
  float* counts = memory + 2 * a.groups * blockDim.x;
  const int64_t column_block = blockIdx.x % shares.column_blocks, rest = blockIdx.x / shares.column_blocks;
  const int64_t share = rest % shares.count, image = rest / shares.count;
  const int64_t left = column_block * 2 * blockDim.x;
  const int64_t column = left + (vector ? 2 * threadIdx.x : threadIdx.x), next = column + (vector ? 1 : blockDim.x);
  const int64_t end = min((share + 1) * shares.tokens, a.tokens);
  const uint8_t* choice = a.choice + image * a.tokens;
  const T* v = static_cast<const T*>(a.v) + image * a.v_stride_b;
  for (int64_t s = 0; s < a.groups; ++s) sums[s * blockDim.x] = make_float2(0, 0);
  int count = 0;
  for (int64_t start = share * shares.tokens; start < end; start += AT_ONCE) {
    int chosen[AT_ONCE];
    float value[AT_ONCE][2];
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i) {
      const bool inside = start + i < end;
      const T* row = v + (start + i) * a.v_stride_l;
      chosen[i] = inside ? choice[start + i] : -1;
      value[i][0] = value[i][1] = 0;
      if (vector && inside && column < a.value_width) {
        zs::load2(row + column, value[i]);
      } else if (inside) {
        if (column < a.value_width) value[i][0] = zs::to_float(row[column]);
        if (next < a.value_width) value[i][1] = zs::to_float(row[next]);
      }
    }
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i) {
      if (chosen[i] < 0) continue;  // the whole block
      float2& sum = sums[chosen[i] * blockDim.x];
      const float2 before = sum;
      sum = make_float2(before.x + value[i][0], before.y + value[i][1]);
      count += chosen[i] == static_cast<int>(threadIdx.x);
    }
  }
  if (threadIdx.x < a.groups) {
    counts[threadIdx.x] = static_cast<float>(count);
    if (column_block == 0) put_weight(a, shares, image, share, threadIdx.x, static_cast<float>(count));
  }
  __syncthreads();
  for (int64_t s = 0; s < a.groups; ++s) {
    const float2 sum = sums[s * blockDim.x];
    if (column < a.value_width) put<T>(a, shares, image, share, s, column, sum.x, counts[s]);
    if (next < a.value_width) put<T>(a, shares, image, share, s, next, sum.y, counts[s]);
  }
}

// Soft pooling: a thread owns one column of all groups, in registers; weights pass through shared memory.
template <typename T, int TILE_S>
__global__ void __launch_bounds__(THREADS) segment_attention_pool_soft_kernel(Args a, const float* soft_map,
                                                                              Shares shares) {
  constexpr int TILE_L = 32, AT_ONCE = 4;
  ZS_SHARED(tile);  // (TILE_L, TILE_S)
  const int64_t column_block = blockIdx.x % shares.column_blocks, rest = blockIdx.x / shares.column_blocks;
  const int64_t share = rest % shares.count, image = rest / shares.count;
  const int64_t column = column_block * THREADS + threadIdx.x;
  const int64_t end = min((share + 1) * shares.tokens, a.tokens);
  const T* v = static_cast<const T*>(a.v) + image * a.v_stride_b + column;
  float sums[TILE_S] = {}, weight = 0;  // weight of group threadIdx.x
  for (int64_t start = share * shares.tokens; start < end; start += TILE_L) {
    __syncthreads();
    for (int i = threadIdx.x; i < TILE_L * TILE_S; i += THREADS) {
      const int64_t token = start + i / TILE_S, group = i % TILE_S;
      tile[i] = token < end && group < a.groups ? soft_map[(image * a.tokens + token) * a.groups + group] : 0;
    }
    __syncthreads();
    if (threadIdx.x < TILE_S)
      for (int l = 0; l < TILE_L; ++l) weight += tile[l * TILE_S + threadIdx.x];
#pragma unroll 1
    for (int first = 0; first < TILE_L; first += AT_ONCE) {
      float value[AT_ONCE];
#pragma unroll
      for (int i = 0; i < AT_ONCE; ++i) {
        const int64_t token = start + first + i;
        value[i] = token < end && column < a.value_width ? zs::to_float(v[token * a.v_stride_l]) : 0;
      }
#pragma unroll
      for (int i = 0; i < AT_ONCE; ++i)
#pragma unroll
        for (int s = 0; s < TILE_S; s += 4) {
          float used[4];
          copy_shared<4>(tile + (first + i) * TILE_S + s, used);
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[s + j] += used[j] * value[i];
        }
    }
  }
  __syncthreads();
  if (threadIdx.x < TILE_S) {
    tile[threadIdx.x] = weight;
    if (column_block == 0 && threadIdx.x < a.groups) put_weight(a, shares, image, share, threadIdx.x, weight);
  }
  __syncthreads();
  if (column >= a.value_width) return;
#pragma unroll
  for (int s = 0; s < TILE_S; ++s)
    if (s < a.groups) put<T>(a, shares, image, share, s, column, sums[s], tile[s]);
}

template <typename T>
__global__ void __launch_bounds__(THREADS) segment_attention_finish_kernel(Args a, Shares shares) {
  const int64_t per_image = a.groups * a.value_width;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= a.batch * per_image) return;
  const int64_t image = i / per_image, place = i % per_image, group = place / a.value_width;
  const float* sums = shares.sums + image * shares.count * per_image + place;
  const float* weights = shares.weights + image * shares.count * a.groups + group;
  float sum = 0, weight = 0;
  for (int64_t share = 0; share < shares.count; ++share) {
    sum += sums[share * per_image];
    weight += weights[share * a.groups];
  }
  weight += a.eps;
  zs::store(static_cast<T*>(a.pooled) + i, sum / weight);
  if (a.total && place % a.value_width == 0) a.total[image * a.groups + group] = weight;
}

// What a call needs beside its arguments; the same on every device.
struct Plan {
  int64_t soft_bytes, sum_bytes, weight_bytes;
  int pool_threads;
  Shares shares;

  int64_t bytes() const { return soft_bytes + sum_bytes + weight_bytes; }
};

int64_t rounded(int64_t floats) { return zs::ceil_div(4 * floats, 16) * 16; }

Plan plan_of(const Args& a) {
  constexpr int64_t wanted_blocks = 320, least_tokens = 64;  // of pool: enough for a large GPU, and enough to do for each
  Plan plan = {};
  plan.pool_threads = a.soft_pooling || a.groups <= 32 ? THREADS : THREADS / 2;
  const int64_t columns = a.soft_pooling ? THREADS : 2 * plan.pool_threads;
  Shares& shares = plan.shares;
  shares.column_blocks = zs::ceil_div(a.value_width, columns);
  const int64_t most = zs::ceil_div(a.tokens, least_tokens);
  const int64_t wanted = wanted_blocks / (a.batch * shares.column_blocks);
  shares.tokens = zs::ceil_div(a.tokens, wanted < 1 ? 1 : wanted > most ? most : wanted);
  shares.count = zs::ceil_div(a.tokens, shares.tokens);
  plan.soft_bytes = a.soft_pooling && !a.soft ? rounded(a.batch * a.tokens * a.groups) : 0;
  if (shares.count > 1) {
    plan.sum_bytes = rounded(a.batch * shares.count * a.groups * a.value_width);
    plan.weight_bytes = rounded(a.batch * shares.count * a.groups);
  }
  return plan;
}

template <typename T, int N>
int32_t launch_assign(const Args& a, float* soft_map, void* stream) {
  const int64_t size = sizeof(T) * 4;
  Words words;
  words.q = a.width % 4 == 0 && zs::aligned(a.q, size);
  words.k = a.width % 4 == 0 && a.k_stride_l % 4 == 0 && a.k_stride_b % 4 == 0 && zs::aligned(a.k, size);
  words.maps = a.groups % 4 == 0 && zs::aligned(soft_map, 16) && zs::aligned(a.hard, 16);
  words.v = false;
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

template <typename T>
int32_t pool(const Args& a, const float* soft_map, const Plan& plan, void* stream) {
  const Shares& shares = plan.shares;
  const int64_t blocks = a.batch * shares.count * shares.column_blocks;
  if (a.soft_pooling) {
    const int tile_s = a.groups <= 8 ? 8 : a.groups <= 16 ? 16 : a.groups <= 32 ? 32 : 64;
    auto kernel = tile_s == 8    ? &segment_attention_pool_soft_kernel<T, 8>
                  : tile_s == 16 ? &segment_attention_pool_soft_kernel<T, 16>
                  : tile_s == 32 ? &segment_attention_pool_soft_kernel<T, 32>
                                 : &segment_attention_pool_soft_kernel<T, 64>;
    ZS_LAUNCH(kernel, blocks, THREADS, 32 * tile_s * sizeof(float), stream, a, soft_map, shares);
  } else {
    const bool vector = a.value_width % 2 == 0 && a.v_stride_l % 2 == 0 && a.v_stride_b % 2 == 0 &&
                        zs::aligned(a.v, 2 * sizeof(T));
    auto kernel = &segment_attention_pool_hard_kernel<T>;
    const size_t shared = sizeof(float) * a.groups * (2 * plan.pool_threads + 1);
    ZS_LAUNCH(kernel, blocks, plan.pool_threads, shared, stream, a, shares, vector);
  }
  if (const int32_t status = zs::launched("segment_attention, pool")) return status;
  if (shares.count == 1) return ZS_CUDA_OK;
  auto kernel = &segment_attention_finish_kernel<T>;
  ZS_LAUNCH(kernel, zs::ceil_div(a.batch * a.groups * a.value_width, THREADS), THREADS, 0, stream, a, shares);
  return zs::launched("segment_attention, finish");
}

int32_t check_sizes(const Args* args) {
  ZS_REQUIRE(args, "segment_attention: null arguments");
  const Args& a = *args;
  ZS_REQUIRE(a.batch > 0 && a.tokens > 0 && a.groups > 0 && a.width > 0 && a.value_width > 0,
             "segment_attention: sizes must be positive");
  ZS_REQUIRE(a.groups <= ZS_CUDA_MAX_GROUPS, "segment_attention: at most 64 groups");
  constexpr int64_t most = INT64_C(1) << 31;
  ZS_REQUIRE(a.tokens < most && a.width < most && a.value_width < most && a.batch < most / a.tokens &&
                 a.batch < most / a.value_width,
             "segment_attention: sizes are too large for one launch");
  auto known = [](int32_t type) { return type >= ZS_CUDA_FLOAT32 && type <= ZS_CUDA_BFLOAT16; };
  ZS_REQUIRE(known(a.qk_type) && known(a.v_type), "segment_attention: unknown type");
  return ZS_CUDA_OK;
}

}  // namespace

int64_t zs_cuda_segment_attention_workspace(const struct zs_cuda_segment_attention_args* args) {
  return check_sizes(args) ? -1 : plan_of(*args).bytes();
}

int32_t zs_cuda_segment_attention(const struct zs_cuda_segment_attention_args* args, void* workspace,
                                  int64_t workspace_bytes, void* stream) {
  if (const int32_t status = check_sizes(args)) return status;
  const Args& a = *args;
  ZS_REQUIRE(a.q && a.k && a.v && a.pooled && a.choice, "segment_attention: null array");
  ZS_REQUIRE(a.eps > 0, "segment_attention: eps must be positive");
  Plan plan = plan_of(a);
  ZS_REQUIRE(plan.bytes() == 0 || (workspace && workspace_bytes >= plan.bytes() && zs::aligned(workspace, 16)),
             "segment_attention: the workspace is null, too small or not aligned to 16 bytes");
  char* memory = static_cast<char*>(workspace);
  float* soft_map = plan.soft_bytes ? reinterpret_cast<float*>(memory) : a.soft;
  if (plan.sum_bytes) {
    plan.shares.sums = reinterpret_cast<float*>(memory + plan.soft_bytes);
    plan.shares.weights = reinterpret_cast<float*>(memory + plan.soft_bytes + plan.sum_bytes);
  }
  const int32_t status = a.qk_type == ZS_CUDA_FLOAT32   ? assign<float>(a, soft_map, stream)
                         : a.qk_type == ZS_CUDA_FLOAT16 ? assign<zs::Half>(a, soft_map, stream)
                                                        : assign<zs::BFloat>(a, soft_map, stream);
  if (status) return status;
  return a.v_type == ZS_CUDA_FLOAT32   ? pool<float>(a, soft_map, plan, stream)
         : a.v_type == ZS_CUDA_FLOAT16 ? pool<zs::Half>(a, soft_map, plan, stream)
                                       : pool<zs::BFloat>(a, soft_map, plan, stream);
}
