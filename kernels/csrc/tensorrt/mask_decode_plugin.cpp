#include "mask_decode_plugin.h"

#include <limits>

#include "widen_labels.h"

namespace zs::trt {

nvinfer1::PluginFieldCollection const* MaskDecode::field_names() {
  static nvinfer1::PluginFieldCollection const none = {0, nullptr};
  return &none;
}

bool MaskDecode::takes_type(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors) {
  DataType const type = tensors[position].desc.type;
  switch (position) {
    case 1:
    case 3: return type == DataType::kINT32;  // table, labels
    case 4: return type == DataType::kFLOAT;  // confidence
    default: return is_real(type);
  }
}

int32_t MaskDecode::getOutputDataTypes(DataType* outputs, int32_t output_count, DataType const*,
                                       int32_t input_count) const noexcept {
  if (input_count != kInputs || output_count != kOutputs) return 1;
  outputs[0] = DataType::kINT32;
  outputs[1] = DataType::kFLOAT;
  return 0;
}

int32_t MaskDecode::getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t input_count, nvinfer1::DimsExprs const*,
                                    int32_t, nvinfer1::DimsExprs* outputs, int32_t output_count,
                                    nvinfer1::IExprBuilder&) noexcept {
  if (input_count != kInputs || output_count != kOutputs) return 1;
  if (inputs[0].nbDims != 4 || inputs[1].nbDims != 2 || inputs[2].nbDims != 4) return 1;
  for (int32_t i = 0; i < kOutputs; ++i) {
    outputs[i].nbDims = 3;
    outputs[i].d[0] = inputs[0].d[0];
    outputs[i].d[1] = inputs[2].d[2];
    outputs[i].d[2] = inputs[2].d[3];
  }
  return 0;
}

size_t MaskDecode::workspace_bytes(nvinfer1::DynamicPluginTensorDesc const* inputs) const {
  auto const& image = inputs[2].max;
  return sizeof(int16_t) * static_cast<size_t>(image.d[0] * image.d[2] * image.d[3]);
}

int32_t MaskDecode::enqueue(nvinfer1::PluginTensorDesc const* inputs, nvinfer1::PluginTensorDesc const*,
                            void const* const* from, void* const* to, void* workspace, cudaStream_t stream) noexcept {
  auto const &maps = inputs[0].dims, &image = inputs[2].dims;
  zs_cuda_mask_decode_args args = {};
  args.maps = from[0];
  args.batch = maps.d[0];
  args.segments = maps.d[1];
  args.rows = maps.d[2];
  args.columns = maps.d[3];
  args.map_stride_w = 1;
  args.map_stride_h = args.columns;
  args.map_stride_k = args.rows * args.columns;
  args.map_stride_b = args.segments * args.map_stride_k;
  args.table = static_cast<int32_t const*>(from[1]);
  args.table_stride_b = args.segments;
  args.height = image.d[2];
  args.width = image.d[3];
  args.maps_type = type_of(inputs[0].type);
  args.label_bytes = sizeof(int16_t);
  args.threshold = -std::numeric_limits<float>::infinity();
  args.labels = workspace;  // TensorRT has no tensors of 16-bit integers
  args.confidence = static_cast<float*>(to[1]);
  if (int32_t const status = zs_cuda_mask_decode(&args, stream)) {
    report(kName, zs_cuda_last_error());
    return status;
  }
  int32_t const status = widen_labels(static_cast<int16_t const*>(workspace), static_cast<int32_t*>(to[0]),
                                      args.batch * args.height * args.width, stream);
  if (status) report(kName, "the labels could not be widened");
  return status;
}

}  // namespace zs::trt
