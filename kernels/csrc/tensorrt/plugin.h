// What zeroseg's TensorRT plugins share. TensorRT 10.3 and later: IPluginV3 with its three capabilities.
//
// A plugin describes itself to the builder and passes its tensors on to the C interface of the CUDA kernels
// (csrc/cuda/zeroseg_cuda.h); it allocates nothing and computes nothing itself. Every number it needs at run time is in
// its fields, which the engine keeps.
#pragma once

#include <NvInferRuntime.h>

#include <cstring>
#include <new>

#include "zeroseg_cuda.h"

namespace zs::trt {

using nvinfer1::DataType;

constexpr char kNamespace[] = "zeroseg";
constexpr char kVersion[] = "1";

void report(char const* op, char const* reason);  // to TensorRT's log, if it gave one

inline bool is_real(DataType type) { return type == DataType::kFLOAT || type == DataType::kHALF; }
inline int32_t type_of(DataType type) { return type == DataType::kHALF ? ZS_CUDA_FLOAT16 : ZS_CUDA_FLOAT32; }
inline int64_t rounded_up(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// One number of a field, whatever type the ONNX parser or an engine brought it in; the fallback where it is missing.
double read_field(nvinfer1::PluginFieldCollection const* fields, char const* name, double fallback);

// Derived has kName, kInputs, kOutputs, and says what takes_type, workspace_bytes and enqueue do.
template <typename Derived>
class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
 public:
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }
  nvinfer1::IPluginV3* clone() noexcept override { return new (std::nothrow) Derived(self()); }

  nvinfer1::AsciiChar const* getPluginName() const noexcept override { return Derived::kName; }
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }

  int32_t getNbOutputs() const noexcept override { return Derived::kOutputs; }
  bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors, int32_t inputs,
                                 int32_t outputs) noexcept override {
    if (inputs != Derived::kInputs || outputs != Derived::kOutputs) return false;
    return tensors[position].desc.format == nvinfer1::TensorFormat::kLINEAR && Derived::takes_type(position, tensors);
  }
  int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const*, int32_t inputs,
                          nvinfer1::DynamicPluginTensorDesc const*, int32_t outputs) noexcept override {
    return inputs == Derived::kInputs && outputs == Derived::kOutputs ? 0 : 1;
  }
  size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t,
                          nvinfer1::DynamicPluginTensorDesc const*, int32_t) const noexcept override {
    return self().workspace_bytes(inputs);
  }

  int32_t onShapeChange(nvinfer1::PluginTensorDesc const*, int32_t, nvinfer1::PluginTensorDesc const*,
                        int32_t) noexcept override {
    return 0;  // enqueue is told the shapes
  }
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }

 protected:
  Derived const& self() const { return static_cast<Derived const&>(*this); }
};

// Derived plugins are made by Made(PluginFieldCollection const*); fields are those that Made lists.
template <typename Made>
class Creator : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const*, nvinfer1::PluginFieldCollection const* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    return new (std::nothrow) Made(fields);
  }
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return Made::field_names(); }
  nvinfer1::AsciiChar const* getPluginName() const noexcept override { return Made::kName; }
  nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
  nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }
};

}  // namespace zs::trt
