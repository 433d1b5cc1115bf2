#include "segment_attention_plugin.h"

#include <algorithm>

namespace zs::trt {

SegmentAttention::SegmentAttention(nvinfer1::PluginFieldCollection const* fields)
    : eps_(static_cast<float>(read_field(fields, "eps", 1))),
      soft_pooling_(read_field(fields, "soft_pooling", 0) != 0) {}

SegmentAttention::SegmentAttention(SegmentAttention const& other)
    : Plugin(), eps_(other.eps_), soft_pooling_(other.soft_pooling_) {}  // field_ points into its own object

nvinfer1::PluginFieldCollection const* SegmentAttention::field_names() {
  static nvinfer1::PluginField names[] = {{"eps", nullptr, nvinfer1::PluginFieldType::kFLOAT32, 1},
                                          {"soft_pooling", nullptr, nvinfer1::PluginFieldType::kINT32, 1}};
  static nvinfer1::PluginFieldCollection const collection = {2, names};
  return &collection;
}

nvinfer1::PluginFieldCollection const* SegmentAttention::getFieldsToSerialize() noexcept {
  field_[0] = {"eps", &eps_, nvinfer1::PluginFieldType::kFLOAT32, 1};
  field_[1] = {"soft_pooling", &soft_pooling_, nvinfer1::PluginFieldType::kINT32, 1};
  fields_ = {2, field_};
  return &fields_;
}

bool SegmentAttention::takes_type(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors) {
  DataType const type = tensors[position].desc.type;
  switch (position) {
    case 1: return type == tensors[0].desc.type;  // k as q
    case 3: return type == tensors[2].desc.type;  // pooled as v
    case 4: return type == DataType::kFLOAT;      // soft
    default: return is_real(type);
  }
}

int32_t SegmentAttention::getOutputDataTypes(DataType* outputs, int32_t output_count, DataType const* inputs,
                                             int32_t input_count) const noexcept {
  if (input_count != kInputs || output_count != kOutputs) return 1;
  outputs[0] = inputs[2];
  outputs[1] = DataType::kFLOAT;
  return 0;
}

int32_t SegmentAttention::getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t input_count,
                                          nvinfer1::DimsExprs const*, int32_t, nvinfer1::DimsExprs* outputs,
                                          int32_t output_count, nvinfer1::IExprBuilder&) noexcept {
  if (input_count != kInputs || output_count != kOutputs) return 1;
  for (int32_t i = 0; i < kInputs; ++i) {
    if (inputs[i].nbDims != 3) return 1;
  }
  auto const &q = inputs[0], &k = inputs[1], &v = inputs[2];
  outputs[0].nbDims = outputs[1].nbDims = 3;
  outputs[0].d[0] = outputs[1].d[0] = k.d[0];
  outputs[0].d[1] = q.d[1];
  outputs[0].d[2] = v.d[2];
  outputs[1].d[1] = k.d[1];
  outputs[1].d[2] = q.d[1];
  return 0;
}

zs_cuda_segment_attention_args SegmentAttention::arguments(nvinfer1::Dims const& q, nvinfer1::Dims const& v,
                                                           DataType qk_type, DataType v_type) const {
  zs_cuda_segment_attention_args args = {};
  args.batch = v.d[0];
  args.tokens = v.d[1];
  args.groups = q.d[1];
  args.width = q.d[2];
  args.value_width = v.d[2];
  args.k_stride_l = args.width;
  args.k_stride_b = args.tokens * args.width;
  args.v_stride_l = args.value_width;
  args.v_stride_b = args.tokens * args.value_width;
  args.qk_type = type_of(qk_type);
  args.v_type = type_of(v_type);
  args.soft_pooling = soft_pooling_;
  args.scale = 1;
  args.eps = eps_;
  return args;
}

size_t SegmentAttention::workspace_bytes(nvinfer1::DynamicPluginTensorDesc const* inputs) const {
  zs_cuda_segment_attention_args args =
      arguments(inputs[0].max, inputs[2].max, inputs[0].desc.type, inputs[2].desc.type);
  float soft;
  args.soft = &soft;  // only whether it is null counts
  int64_t const batch = args.batch, tokens = args.tokens;
  int64_t most = 0;  // smaller batches are cut into more shares: the greatest shape does not need the most
  for (args.batch = 1; args.batch <= batch; ++args.batch) {
    for (args.tokens = 1; args.tokens <= tokens; ++args.tokens) {
      most = std::max(most, zs_cuda_segment_attention_workspace(&args));
    }
  }
  return static_cast<size_t>(rounded_up(batch * tokens) + most);  // choice, one byte a token, comes first
}

int32_t SegmentAttention::enqueue(nvinfer1::PluginTensorDesc const* inputs, nvinfer1::PluginTensorDesc const*,
                                  void const* const* from, void* const* to, void* workspace,
                                  cudaStream_t stream) noexcept {
  zs_cuda_segment_attention_args args = arguments(inputs[0].dims, inputs[2].dims, inputs[0].type, inputs[2].type);
  args.q = from[0];
  args.k = from[1];
  args.v = from[2];
  args.pooled = to[0];
  args.soft = static_cast<float*>(to[1]);
  args.choice = static_cast<uint8_t*>(workspace);
  void* const rest = static_cast<char*>(workspace) + rounded_up(args.batch * args.tokens);
  int32_t const status =
      zs_cuda_segment_attention(&args, rest, zs_cuda_segment_attention_workspace(&args), stream);
  if (status) report(kName, zs_cuda_last_error());
  return status;
}

}  // namespace zs::trt
