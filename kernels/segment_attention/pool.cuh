// pool and finish: the mean of the values that each group was given, in one or several shares of the tokens.
#pragma once

#include "common.cuh"

namespace {

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

}  // namespace
