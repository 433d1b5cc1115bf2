"""What the fake TensorRT does behind the face of the facts: parse, "build", and run engines in ONNX Runtime.

An engine's bytes are a header and the ONNX file. deserialize_cuda_engine() takes only bytes that this version made on
this machine: anything else reaching it is an AssertionError, because a real TensorRT may crash on it.
"""

import hashlib
import json
import types

import numpy as np
import onnx
import onnxruntime

from tests.export.trt import fake_nodes

MAGIC = b"fake engine\n"


def make(module, machine) -> dict[str, type]:
    """Class name -> behaviour; methods have the real one's parameter names."""
    from tests.export.trt.fake_tensorrt import create

    record = types.SimpleNamespace(
        parse_error=None,
        build_error=None,
        network_flags=None,
        flags=set(),
        level=None,
        profiles=[],
        pools={},
        timing_cache=None,
        phases=[("Building", None, 2), ("Tactics", "Building", 3)],
        deserialized=0,
        executed=0,
        stopped=False,
        monitored=False,
    )
    module.record = record

    class ILogger:
        def __init__(self):
            self._constructed = True

    class IProgressMonitor:
        def __init__(self):
            self._constructed = True

    class Builder:
        def __init__(self, logger):
            self.__dict__["_logger"] = logger

        def create_network(self, flags=0):
            record.network_flags = flags
            return create(module, "INetworkDefinition", _inputs=[])

        def create_builder_config(self):
            return create(module, "IBuilderConfig", progress_monitor=None)

        def create_optimization_profile(self):
            return create(module, "IOptimizationProfile", _shapes={})

        def build_serialized_network(self, network, config, kernel_text=None):
            if record.build_error:
                self._logger.log(module.ILogger.Severity.ERROR, record.build_error)
                return None
            _run_phases(config.progress_monitor, record)
            if record.stopped:
                return None
            [profile] = record.profiles
            for name, dims in network._face:
                if -1 in dims:  # TensorRT refuses to build without a range for every free axis
                    least, best, greatest = profile[name]
                    assert all(a <= b <= c for a, b, c in zip(least, best, greatest, strict=True))
                    assert all(
                        d in (-1, low) and d in (-1, high) for d, low, high in zip(dims, least, greatest, strict=True)
                    )
            header = {
                "version": module.__version__,
                "gpu": machine.name,
                "profile": profile,
                "sha256": hashlib.sha256(network._content).hexdigest(),
            }
            return _host_memory(MAGIC + json.dumps(header).encode() + b"\n" + network._content)

    class IBuilderConfig:
        def set_flag(self, flag):
            record.flags.add(flag.name)

        def set_memory_pool_limit(self, pool, pool_size):
            record.pools[pool.name] = pool_size

        def add_optimization_profile(self, profile):
            record.profiles.append(profile._shapes)
            return len(record.profiles) - 1

        def create_timing_cache(self, serialized_timing_cache):
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

    class ITimingCache:
        def serialize(self):
            return _host_memory(self._content + b"timed;")

    class IOptimizationProfile:
        def set_shape(self, input, min, opt, max):
            self._shapes[input] = [[int(side) for side in shape] for shape in (min, opt, max)]

    class INetworkDefinition:
        @property
        def num_inputs(self):
            return len(self._face)

        def get_input(self, index):
            name, dims = self._face[index]
            return create(module, "ITensor", name=name, shape=tuple(dims))

        @property
        def num_layers(self):
            return 1

    class OnnxParser:
        def __init__(self, network, logger):
            self.__dict__.update(_network=network, _errors=[])

        def parse(self, model, path=None):
            if record.parse_error:
                self._errors.append(create(module, "ParserError", _facts=record.parse_error))
                return False
            content, known = bytes(model), module.get_plugin_registry()._libraries
            proto = onnx.load_from_string(content)
            for index, node in enumerate(proto.graph.node):
                if fake_nodes.is_plugin(node) and (problem := fake_nodes.refuse(node, known)):
                    self._errors.append(
                        create(
                            module,
                            "ParserError",
                            _facts={
                                "desc": problem,
                                "node": index,
                                "node_name": node.name,
                                "node_operator": node.op_type,
                            },
                        )
                    )
                    return False
            face = [
                (value.name, [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim])
                for value in proto.graph.input
            ]
            self._network.__dict__.update(_content=content, _face=face)
            return True

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

    class IPluginRegistry:
        def load_library(self, plugin_path):
            with open(plugin_path, "rb") as file:
                if not file.read(4) == b"\x7fELF":
                    return None
            self._libraries[plugin_path] = object()
            return self._libraries[plugin_path]

    class ParserError:
        def desc(self):
            return self._facts["desc"]

        def node(self):
            return self._facts["node"]

        def node_name(self):
            return self._facts["node_name"]

        def node_operator(self):
            return self._facts["node_operator"]

    class Runtime:
        def __init__(self, logger):
            self.__dict__.update(engine_host_code_allowed=False, _logger=logger)

        def deserialize_cuda_engine(self, serialized_engine):
            content = bytes(serialized_engine)
            assert content.startswith(MAGIC), "a foreign file reached TensorRT"
            header, _, network = content[len(MAGIC) :].partition(b"\n")
            header = json.loads(header)
            assert hashlib.sha256(network).hexdigest() == header["sha256"], "a truncated engine reached TensorRT"
            if "VERSION_COMPATIBLE" in record.flags:
                assert self.engine_host_code_allowed
            else:
                assert header["version"] == module.__version__, "another version's engine reached TensorRT"
            if record.level is None:
                assert header["gpu"] == machine.name, "another GPU's engine reached TensorRT"
            record.deserialized += 1
            if fake_nodes.needs_library(network) and not module.get_plugin_registry()._libraries:
                self._logger.log(module.ILogger.Severity.ERROR, "getCreator: could not find a plugin")
                return None
            return create(module, "ICudaEngine", _session=_session(network), _profile=header["profile"])

    class ICudaEngine:
        @property
        def num_io_tensors(self):
            return len(_tensors(self._session))

        def get_tensor_name(self, index):
            return _tensors(self._session)[index].name

        def get_tensor_mode(self, name):
            inputs = [value.name for value in self._session.get_inputs()]
            return module.TensorIOMode.INPUT if name in inputs else module.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name):
            kinds = {"tensor(float)": module.DataType.FLOAT, "tensor(int32)": module.DataType.INT32}
            return kinds[_tensor(self._session, name).type]

        def get_tensor_shape(self, name):
            return tuple(side if isinstance(side, int) else -1 for side in _tensor(self._session, name).shape)

        def get_tensor_profile_shape(self, name, profile_index):
            assert profile_index == 0
            return [tuple(shape) for shape in self._profile[name]]

        def create_execution_context(self):
            return create(module, "IExecutionContext", _engine=self, _shapes={}, _addresses={}, _known={})

    class IExecutionContext:
        def set_input_shape(self, name, shape):
            least, _, greatest = self._engine._profile[name]
            if not all(low <= side <= high for low, side, high in zip(least, shape, greatest, strict=True)):
                return False
            self._shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name):
            if name in self._shapes:
                return self._shapes[name]
            key = tuple(sorted(self._shapes.items()))
            if key not in self._known:
                feed = {given: np.zeros(shape, np.float32) for given, shape in key}
                names = [value.name for value in self._engine._session.get_outputs()]
                results = self._engine._session.run(names, feed)
                self._known[key] = {output: result.shape for output, result in zip(names, results, strict=True)}
            return self._known[key][name]

        def set_tensor_address(self, name, memory):
            machine.bytes_at(memory, 1, device=True)
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle):
            session, shapes = self._engine._session, dict(self._shapes)
            assert set(shapes) == {value.name for value in session.get_inputs()}, "an input has no shape"
            arrays = {}
            for value in _tensors(session):  # addresses and shapes are read now, the work is done later
                shape = self.get_tensor_shape(value.name)
                view = machine.bytes_at(self._addresses[value.name], 4 * int(np.prod(shape)), device=True)
                kind = np.int32 if value.type == "tensor(int32)" else np.float32
                arrays[value.name] = view.view(kind).reshape(shape)

            def work():
                record.executed += 1
                outputs = [value.name for value in session.get_outputs()]
                results = session.run(outputs, {name: arrays[name] for name in shapes})
                for name, result in zip(outputs, results, strict=True):
                    arrays[name][:] = result

            machine.enqueue(stream_handle, work)
            return True

    return {name: kind for name, kind in locals().items() if isinstance(kind, type)}


class _HostMemory(bytes):
    """IHostMemory has the buffer protocol and nbytes."""

    @property
    def nbytes(self):
        return len(self)


def _host_memory(content: bytes) -> _HostMemory:
    return _HostMemory(content)


def _session(content: bytes):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(fake_nodes.with_functions(content), options, providers=["CPUExecutionProvider"])


def _tensors(session):
    return [*session.get_inputs(), *session.get_outputs()]


def _tensor(session, name):
    return next(value for value in _tensors(session) if value.name == name)


def _run_phases(monitor, record) -> None:
    """Tell a progress monitor of nested phases, as TensorRT does; False from it stops the build."""
    if monitor is None:
        return
    record.monitored = True
    (outer, _, steps), (inner, parent, tactics) = record.phases
    monitor.phase_start(outer, None, steps)
    for step in range(steps):
        monitor.phase_start(inner, parent, tactics)
        for tactic in range(tactics):
            if not monitor.step_complete(inner, tactic):
                record.stopped = True
                return
        monitor.phase_finish(inner)
        monitor.step_complete(outer, step)
    monitor.phase_finish(outer)
