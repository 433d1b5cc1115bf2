// segment_attention inside an engine: one node for a grouping stage's assignment and pooling.
#pragma once

#include "plugin.h"

namespace zs::trt {

// q (B, S, C), k (B, L, C) of one type, v (B, L, D) -> pooled (B, S, D) of v's type, soft (B, L, S) float32. Queries are
// scaled and keys normalised, where they are to be, before they come here.
class SegmentAttention : public Plugin<SegmentAttention> {
 public:
  static constexpr char kName[] = "segment_attention";
  static constexpr int32_t kInputs = 3, kOutputs = 2;

  explicit SegmentAttention(nvinfer1::PluginFieldCollection const* fields);
  SegmentAttention(SegmentAttention const& other);
  static nvinfer1::PluginFieldCollection const* field_names();

  static bool takes_type(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors);
  size_t workspace_bytes(nvinfer1::DynamicPluginTensorDesc const* inputs) const;

  int32_t getOutputDataTypes(DataType* outputs, int32_t output_count, DataType const* inputs,
                             int32_t input_count) const noexcept override;
  int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t input_count, nvinfer1::DimsExprs const*, int32_t,
                          nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder&) noexcept override;
  int32_t enqueue(nvinfer1::PluginTensorDesc const* inputs, nvinfer1::PluginTensorDesc const* outputs,
                  void const* const* from, void* const* to, void* workspace, cudaStream_t stream) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

 private:
  zs_cuda_segment_attention_args arguments(nvinfer1::Dims const& q, nvinfer1::Dims const& v, DataType qk_type,
                                           DataType v_type) const;

  float eps_;
  int32_t soft_pooling_;
  nvinfer1::PluginField field_[2];
  nvinfer1::PluginFieldCollection fields_;
};

}  // namespace zs::trt
