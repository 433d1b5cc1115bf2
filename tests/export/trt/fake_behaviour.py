"""What the fake TensorRT does behind the face of the facts where a GPU is needed: run engines, in ONNX Runtime.

Building is real_builder.py's.

An engine's bytes are a header and the ONNX file. deserialize_cuda_engine() takes only bytes that this version made on
this machine: anything else reaching it is an AssertionError, because a real TensorRT may crash on it.
"""

import hashlib
import json
import types

import numpy as np
import onnxruntime

from tests.export.trt import fake_nodes, real_builder
from tests.export.trt.real_builder import MAGIC


def make(module, machine, real) -> dict[str, type]:
    """Class name -> behaviour; methods have the real one's parameter names. real: the module of TensorRT for RTX."""
    from tests.export.trt.fake_tensorrt import create

    record = types.SimpleNamespace(
        capability="SM89",  # that the real builder builds for
        always_build=False,  # even what it has built before
        invalid=0,  # bits of EngineInvalidityDiagnostics
        compiling=False,  # while it does, a stream cannot be captured
        network_flags=None,
        flags=set(),
        level=None,
        profiles=[],
        pools={},
        timing_cache=None,
        deserialized=0,
        executed=0,
        monitored=False,
    )
    module.record = record

    class ILogger:
        def __init__(self):
            self._constructed = True

    class IProgressMonitor:
        def __init__(self):
            self._constructed = True

    class IPluginRegistry:
        def load_library(self, plugin_path):
            with open(plugin_path, "rb") as file:
                if not file.read(4) == b"\x7fELF":
                    return None
            self._libraries[plugin_path] = object()
            return self._libraries[plugin_path]

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

        @property
        def engine_header_size(self):
            return 64

        def get_engine_validity(self, buffer):
            assert len(bytes(buffer)) == self.engine_header_size, "more than the header"
            return getattr(module.EngineValidity, "INVALID" if record.invalid else "VALID"), record.invalid

    class IRuntimeConfig:
        def create_runtime_cache(self):
            return create(module, "IRuntimeCache", _kernels=set())

        def set_runtime_cache(self, cache):
            self.__dict__["_cache"] = cache
            return True

    class IRuntimeCache:
        """What was compiled: a line for every shape. Another GPU's is not taken."""

        def serialize(self):
            return real_builder.HostMemory("\n".join([machine.name, *sorted(self._kernels)]).encode())

        def deserialize(self, blob):
            name, *kernels = bytes(blob).decode().split("\n")
            self._kernels.update(kernels if name == machine.name else ())
            return name == machine.name

    class ICudaEngine:
        def create_runtime_config(self):
            return create(module, "IRuntimeConfig", _cache=None)

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

        def create_execution_context(self, strategy=None, runtime_config=None):
            cache = runtime_config._cache if runtime_config else None
            state = {"_shapes": {}, "_addresses": {}, "_known": {}, "_cache": cache}
            return create(module, "IExecutionContext", _engine=self, **state)

    class IExecutionContext:
        def is_stream_capturable(self, stream):
            assert stream in machine.streams
            return not record.compiling

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
            if self._cache is not None:
                self._cache._kernels.add(str(shapes))
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

    running = {name: kind for name, kind in locals().items() if isinstance(kind, type)}
    return real_builder.make(module, machine, record, real) | running


def _session(content: bytes):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(fake_nodes.with_functions(content), options, providers=["CPUExecutionProvider"])


def _tensors(session):
    return [*session.get_inputs(), *session.get_outputs()]


def _tensor(session, name):
    return next(value for value in _tensors(session) if value.name == name)
