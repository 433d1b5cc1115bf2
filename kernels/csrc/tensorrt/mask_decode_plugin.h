// mask_decode inside an engine: a label and a confidence for every pixel of the network's input.
#pragma once

#include "plugin.h"

namespace zs::trt {

// maps (B, K, h, w), table (B, K) int32, image (B, 3, H, W) -> labels (B, H, W) int32, -1 for background, and confidence
// (B, H, W) float32. Only the shape of image is looked at: it says how large the label map is.
class MaskDecode : public Plugin<MaskDecode> {
 public:
  static constexpr char kName[] = "mask_decode";
  static constexpr int32_t kInputs = 3, kOutputs = 2;

  explicit MaskDecode(nvinfer1::PluginFieldCollection const*) {}
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
  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override { return field_names(); }
};

}  // namespace zs::trt
