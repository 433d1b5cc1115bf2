// What TensorRT does with a plugin library, for tests: creators, shapes, types, workspace, a way through an engine's
// fields, enqueue. Compiled against TensorRT's own headers; none of its libraries is there.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using namespace nvinfer1;

struct Tensor {  // as in test_trt_plugins.py
  void* data;
  int64_t dims[8];
  int64_t most[8];  // of the profile
  int32_t rank;
  int32_t type;
};

namespace {

struct Side : IDimensionExpr {};  // known by its address alone

struct Log : ILogger {
  std::string text;
  void log(Severity, AsciiChar const* line) noexcept override { text = line; }
};
struct Finder : ILoggerFinder {
  Log log;
  ILogger* findLogger() override { return &log; }
};

Finder finder;
std::string problem;

int fail(std::string const& what) {
  problem = what;
  return 1;
}

Dims dims_of(int64_t const* sides, int32_t rank) {
  Dims dims = {};
  dims.nbDims = rank;
  for (int32_t i = 0; i < rank; ++i) dims.d[i] = sides[i];
  return dims;
}

DynamicPluginTensorDesc describe(Tensor const& tensor) {
  DynamicPluginTensorDesc made = {};
  made.desc.dims = dims_of(tensor.dims, tensor.rank);
  made.desc.type = static_cast<DataType>(tensor.type);
  made.desc.format = TensorFormat::kLINEAR;
  made.min = made.opt = made.desc.dims;
  made.max = dims_of(tensor.most, tensor.rank);
  return made;
}

}  // namespace

extern "C" char const* zs_driver_problem() { return problem.c_str(); }
extern "C" char const* zs_driver_log() { return finder.log.text.c_str(); }

// Runs the plugin `name` of a library; sets the outputs' dims and types to what the plugin says before it runs. Returns
// 0, or 1 with zs_driver_problem(), or 2 where enqueue failed.
extern "C" int zs_driver_run(char const* library, char const* name, float eps, int32_t soft_pooling, Tensor* inputs,
                             int32_t input_count, Tensor* outputs, int32_t output_count) {
  void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return fail(dlerror());
  using GetCreators = IPluginCreatorInterface* const* (*)(int32_t&);
  auto const get_creators = reinterpret_cast<GetCreators>(dlsym(handle, "getCreators"));
  auto const set_finder = reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(handle, "setLoggerFinder"));
  if (!get_creators || !set_finder) return fail("the library lacks getCreators or setLoggerFinder");
  set_finder(&finder);
  int32_t count = 0;
  IPluginCreatorInterface* const* const creators = get_creators(count);
  IPluginCreatorV3One* creator = nullptr;
  for (int32_t i = 0; i < count; ++i) {
    if (std::strcmp(creators[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE")) return fail("an unknown creator");
    auto* const one = static_cast<IPluginCreatorV3One*>(creators[i]);
    if (!std::strcmp(one->getPluginName(), name)) creator = one;
  }
  if (!creator || std::strcmp(creator->getPluginNamespace(), "zeroseg") || std::strcmp(creator->getPluginVersion(), "1"))
    return fail("no such creator");

  // build
  std::vector<PluginField> given;
  PluginFieldCollection const* const known = creator->getFieldNames();
  for (int32_t i = 0; i < known->nbFields; ++i) {
    if (!std::strcmp(known->fields[i].name, "eps")) given.emplace_back("eps", &eps, PluginFieldType::kFLOAT32, 1);
    if (!std::strcmp(known->fields[i].name, "soft_pooling"))
      given.emplace_back("soft_pooling", &soft_pooling, PluginFieldType::kINT32, 1);
  }
  PluginFieldCollection const fields = {static_cast<int32_t>(given.size()), given.data()};
  std::unique_ptr<IPluginV3> first(creator->createPlugin(name, &fields, TensorRTPhase::kBUILD));
  std::unique_ptr<IPluginV3> plugin(first->clone());
  auto* const build = static_cast<IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
  auto* const core = static_cast<IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
  if (!build || !core || std::strcmp(core->getPluginName(), name)) return fail("a capability is missing");
  if (build->getNbOutputs() != output_count) return fail("another number of outputs");

  std::vector<DataType> input_types, output_types(output_count);
  std::vector<DimsExprs> input_shapes(input_count), output_shapes(output_count);
  std::vector<std::vector<Side>> sides(input_count);
  for (int32_t i = 0; i < input_count; ++i) {
    input_types.push_back(static_cast<DataType>(inputs[i].type));
    sides[i] = std::vector<Side>(inputs[i].rank);
    input_shapes[i].nbDims = inputs[i].rank;
    for (int32_t j = 0; j < inputs[i].rank; ++j) input_shapes[i].d[j] = &sides[i][j];
  }
  struct Builder : IExprBuilder {} builder;
  if (build->getOutputDataTypes(output_types.data(), output_count, input_types.data(), input_count) ||
      build->getOutputShapes(input_shapes.data(), input_count, nullptr, 0, output_shapes.data(), output_count, builder))
    return fail("types or shapes are refused");
  for (int32_t i = 0; i < output_count; ++i) {
    outputs[i].type = static_cast<int32_t>(output_types[i]);
    outputs[i].rank = output_shapes[i].nbDims;
    for (int32_t j = 0; j < outputs[i].rank; ++j) {
      outputs[i].dims[j] = outputs[i].most[j] = -1;
      for (int32_t k = 0; k < input_count; ++k)
        for (int32_t l = 0; l < inputs[k].rank; ++l)
          if (output_shapes[i].d[j] == &sides[k][l]) outputs[i].dims[j] = inputs[k].dims[l];
    }
  }

  std::vector<DynamicPluginTensorDesc> all;
  for (int32_t i = 0; i < input_count; ++i) all.push_back(describe(inputs[i]));
  for (int32_t i = 0; i < output_count; ++i) all.push_back(describe(outputs[i]));
  for (int32_t i = 0; i < input_count + output_count; ++i)
    if (!build->supportsFormatCombination(i, all.data(), input_count, output_count))
      return fail("tensor " + std::to_string(i) + ": type or format is refused");
  if (build->configurePlugin(all.data(), input_count, all.data() + input_count, output_count))
    return fail("configurePlugin");
  size_t const bytes = build->getWorkspaceSize(all.data(), input_count, all.data() + input_count, output_count);

  // into an engine and out of it
  auto* const old = static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  std::unique_ptr<IPluginV3> loaded(creator->createPlugin(name, old->getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
  plugin.reset();
  first.reset();
  auto* runtime = static_cast<IPluginV3OneRuntime*>(loaded->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  std::unique_ptr<IPluginV3> attached(runtime->attachToContext(nullptr));
  loaded.reset();
  runtime = static_cast<IPluginV3OneRuntime*>(attached->getCapabilityInterface(PluginCapabilityType::kRUNTIME));

  std::vector<PluginTensorDesc> from, to;
  std::vector<void const*> read;
  std::vector<void*> written;
  for (int32_t i = 0; i < input_count; ++i) from.push_back(all[i].desc), read.push_back(inputs[i].data);
  for (int32_t i = 0; i < output_count; ++i) to.push_back(all[input_count + i].desc), written.push_back(outputs[i].data);
  constexpr size_t guard = 4096;
  std::unique_ptr<char, void (*)(void*)> memory(
      static_cast<char*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256 + guard)), std::free);
  std::memset(memory.get(), 0x7f, bytes + guard);
  if (runtime->onShapeChange(from.data(), input_count, to.data(), output_count)) return fail("onShapeChange");
  int32_t const status =
      runtime->enqueue(from.data(), to.data(), read.data(), written.data(), memory.get(), nullptr);
  for (size_t i = 0; i < guard; ++i)
    if (memory.get()[bytes + i] != 0x7f) return fail("the workspace is too small: written beyond its end");
  return status ? 2 : 0;
}
