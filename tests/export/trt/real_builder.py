"""The building half of the fake TensorRT: the calls of one version's facts, done by a real TensorRT for RTX.

Parser, network, profiles, configuration and builder are NVIDIA's own. What it makes is checked by having been made, and
then thrown away: no GPU could run it. The engine that comes out is one that fake_behaviour.py runs.
"""

import hashlib
import json

import onnx

from tests.export.trt import fake_nodes

CLASSES = (
    "Builder",
    "IBuilderConfig",
    "INetworkDefinition",
    "ITensor",
    "IOptimizationProfile",
    "OnnxParser",
    "ParserError",
)
MAGIC = b"fake engine\n"
_built: set[tuple] = set()  # networks and profiles that the real builder has taken; it would take them again


def make(module, machine, record, real) -> dict[str, type]:
    """Class name -> behaviour. real: the module of TensorRT for RTX."""
    from tests.export.trt.fake_tensorrt import create

    def wrap(value):
        name = type(value).__name__
        if not type(value).__module__.startswith(real.__name__):
            return value
        if name == "Dims":
            return tuple(value)
        if hasattr(type(value), "__members__"):
            return getattr(getattr(module, name), value.name)
        return create(module, name, _real=value)

    def unwrap(value):
        if "_real" in getattr(value, "__dict__", ()):
            return value._real
        if hasattr(type(value), "__members__"):
            return getattr(getattr(real, type(value).__name__), value.name)
        return value

    def behaviour(name: str) -> type:
        """Every method and property of the real class, done by the real object."""

        def method(attribute):
            return lambda self, **given: wrap(getattr(self._real, attribute)(*map(unwrap, given.values())))

        space = {}
        for attribute, value in vars(getattr(real, name)).items():
            if isinstance(value, property):
                space[attribute] = property(
                    lambda self, attribute=attribute: wrap(getattr(self._real, attribute)),
                    lambda self, value, attribute=attribute: setattr(self._real, attribute, unwrap(value)),
                )
            elif attribute[0] != "_" and callable(value):
                space[attribute] = method(attribute)
        return type(name, (), space)

    kinds = {name: behaviour(name) for name in CLASSES}

    class Builder(kinds["Builder"]):
        def __init__(self, logger):
            self.__dict__["_said"] = _forwarding_logger(module, real, logger)
            self.__dict__["_real"] = real.Builder(self._said)

        def create_network(self, flags=0):
            record.network_flags = flags
            typed = 1 << int(real.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # 11 is so without the flag
            return wrap(self._real.create_network(typed))

        def create_builder_config(self):
            config = self._real.create_builder_config()
            if not hasattr(module, "ComputeCapability"):  # TensorRT proper builds for the GPU; this stands for it
                config.num_compute_capabilities = 1
                config.set_compute_capability(getattr(real.ComputeCapability, record.capability), 0)
            return wrap(config)

        def build_serialized_network(self, network, config, kernel_text=None):
            [profile] = record.profiles
            done = (hashlib.sha256(network._content).hexdigest(), json.dumps(profile), record.capability)
            if record.always_build or done not in _built:
                if self._real.build_serialized_network(network._real, config._real) is None:
                    return None
                _built.add(done)
            header = {"version": module.__version__, "gpu": machine.name, "profile": profile, "sha256": done[0]}
            return HostMemory(MAGIC + json.dumps(header).encode() + b"\n" + network._content)

    class IBuilderConfig(kinds["IBuilderConfig"]):
        def set_flag(self, flag):  # version-compatible engines and more, which TensorRT for RTX has not
            record.flags.add(flag.name)

        def set_memory_pool_limit(self, pool, pool_size):
            record.pools[pool.name] = pool_size
            self._real.set_memory_pool_limit(unwrap(pool), pool_size)

        def add_optimization_profile(self, profile):
            record.profiles.append(profile._shapes)
            return self._real.add_optimization_profile(profile._real)

        def create_timing_cache(self, serialized_timing_cache):  # timings need a GPU
            return create(module, "ITimingCache", _content=bytes(serialized_timing_cache))

        def set_timing_cache(self, cache, ignore_mismatch):
            if cache._content.startswith(b"another GPU"):
                return False
            record.timing_cache = cache
            return True

        def get_timing_cache(self):
            return record.timing_cache

        @property
        def hardware_compatibility_level(self):
            return record.level

        @hardware_compatibility_level.setter
        def hardware_compatibility_level(self, level):
            assert isinstance(level, module.HardwareCompatibilityLevel)
            record.level = level.name

        @property
        def progress_monitor(self):
            return self._monitor

        @progress_monitor.setter
        def progress_monitor(self, monitor):
            self.__dict__["_monitor"] = _forwarding_monitor(real, monitor, record)
            self._real.progress_monitor = self._monitor

    class ITimingCache:
        def serialize(self):
            return HostMemory(self._content + b"timed;")

    class IOptimizationProfile(kinds["IOptimizationProfile"]):
        def set_shape(self, input, min, opt, max):
            shapes = self.__dict__.setdefault("_shapes", {})
            shapes[input] = [[int(side) for side in shape] for shape in (min, opt, max)]
            self._real.set_shape(input, min, opt, max)

    class OnnxParser(kinds["OnnxParser"]):
        def __init__(self, network, logger):
            said = _forwarding_logger(module, real, logger)
            self.__dict__.update(_network=network, _said=said, _real=real.OnnxParser(network._real, said), _refused=[])

        def parse(self, model, path=None):
            """Plugin nodes are looked at here; the library gets what they compute in plain nodes."""
            content, known = bytes(model), module.get_plugin_registry()._libraries
            has_plugins = b"plugin_namespace" in content
            nodes = onnx.load_from_string(content).graph.node if has_plugins else ()
            for index, node in enumerate(nodes):
                if fake_nodes.is_plugin(node) and (problem := fake_nodes.refuse(node, known)):
                    facts = (problem, index, node.name, node.op_type)
                    self._refused.append(create(module, "ParserError", _real=_Refusal(*facts)))
                    return False
            self._network.__dict__["_content"] = content
            return self._real.parse(fake_nodes.with_functions(content) if has_plugins else content)

        @property
        def num_errors(self):
            return len(self._refused) or self._real.num_errors

        def get_error(self, index):
            return self._refused[index] if self._refused else wrap(self._real.get_error(index))

    return kinds | {name: kind for name, kind in locals().items() if isinstance(kind, type)}


class HostMemory(bytes):
    """IHostMemory has the buffer protocol and nbytes."""

    @property
    def nbytes(self):
        return len(self)


class _Refusal:
    def __init__(self, *facts):
        self.desc, self.node, self.node_name, self.node_operator = (lambda fact=fact: fact for fact in facts)


def _forwarding_logger(module, real, logger):
    class Logger(real.ILogger):
        def __init__(self):
            real.ILogger.__init__(self)

        def log(self, severity, msg):
            logger.log(getattr(module.ILogger.Severity, severity.name), msg)

    return Logger()


def _forwarding_monitor(real, monitor, record):
    class Monitor(real.IProgressMonitor):
        def __init__(self):
            real.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name, parent_phase, num_steps):
            record.monitored = True
            monitor.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name, step):
            return monitor.step_complete(phase_name, step)

        def phase_finish(self, phase_name):
            monitor.phase_finish(phase_name)

    return Monitor()
