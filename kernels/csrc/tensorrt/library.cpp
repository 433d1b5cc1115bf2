// What TensorRT looks for in a plugin library (IPluginRegistry::loadLibrary): the creators, and a place for its logger.
#include <cstdio>

#include "segment_attention_plugin.h"

namespace zs::trt {

namespace {
nvinfer1::ILoggerFinder* finder = nullptr;
}

void report(char const* op, char const* reason) {
  nvinfer1::ILogger* const logger = finder ? finder->findLogger() : nullptr;
  if (!logger) return;
  char line[320];
  std::snprintf(line, sizeof line, "zeroseg::%s: %s", op, reason);
  logger->log(nvinfer1::ILogger::Severity::kERROR, line);
}

double read_field(nvinfer1::PluginFieldCollection const* fields, char const* name, double fallback) {
  for (int32_t i = 0; fields && i < fields->nbFields; ++i) {
    nvinfer1::PluginField const& field = fields->fields[i];
    if (std::strcmp(field.name, name) != 0 || !field.data || field.length < 1) continue;
    switch (field.type) {
      case nvinfer1::PluginFieldType::kFLOAT32: return *static_cast<float const*>(field.data);
      case nvinfer1::PluginFieldType::kFLOAT64: return *static_cast<double const*>(field.data);
      case nvinfer1::PluginFieldType::kINT32: return *static_cast<int32_t const*>(field.data);
      case nvinfer1::PluginFieldType::kINT64: return static_cast<double>(*static_cast<int64_t const*>(field.data));
      default: return fallback;
    }
  }
  return fallback;
}

}  // namespace zs::trt

// TENSORRTAPI is empty outside TensorRT's own build, so that hidden visibility would hide these
extern "C" ZS_CUDA_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { zs::trt::finder = finder; }

extern "C" ZS_CUDA_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static zs::trt::Creator<zs::trt::SegmentAttention> segment_attention;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&segment_attention};
  bool const fits = zs_cuda_abi_version() == ZS_CUDA_ABI_VERSION;
  if (!fits) zs::trt::report("library", "libzeroseg_cuda.so was built from other sources; build both again");
  count = fits ? 1 : 0;
  return creators;
}
