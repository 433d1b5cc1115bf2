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

#include "assign.cuh"
#include "pool.cuh"

namespace {

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
