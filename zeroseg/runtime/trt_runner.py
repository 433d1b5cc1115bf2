"""TensorRT: an engine on this machine's GPU.

Inputs and outputs have pinned host buffers and device buffers of the profile's largest shapes, made once, so addresses
never change. Copies in, the network and copies out go to one stream. When the same shape comes twice in a row, the work
is captured as a CUDA graph, copies included, and replayed from then on. Another shape discards the graph, because it is
invalid once the execution context has changed.
"""

from math import prod

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.base import IMAGE, Runner, TensorSpec, check_signature, outputs_of
from zeroseg.runtime.rtx_engine import CachedContext, why_invalid
from zeroseg.runtime.rtx_library import load_rtx
from zeroseg.runtime.trt_engine import check_machine, read_engine, rebuild_hint
from zeroseg.runtime.trt_library import load_tensorrt, make_logger
from zeroseg.runtime.trt_memory import DeviceMemory, Graph, open_memory
from zeroseg.runtime.trt_plugins import find_library, load_library

INSTEAD = "elsewhere than on its GPU, run the .onnx file with backend onnxruntime"


class TrtRunner(Runner):
    backend = "tensorrt"

    def __init__(self, artifact: Artifact, threads: int | None = None, memory: str = "auto"):
        """memory: what moves data, "cuda-bindings", "pycuda" or, "auto", the first installed.

        threads, which every runner takes, are the CPU's and mean nothing here.
        """
        self._file, self.backend = read_engine(artifact.path), artifact.backend
        try:
            trt = (load_rtx if self._file.for_rtx else load_tensorrt)(f"back end {self.backend}")
            self._memory = open_memory(memory)
        except UnavailableError as error:
            raise UnavailableError(f"{artifact.path}: {error}; {INSTEAD}") from error
        gpu = self._memory.gpu()
        check_machine(self._file, gpu, trt.__version__)
        self._load(trt)
        outputs = {name: tuple(self._engine.get_tensor_shape(name)) for name in self._outputs}
        check_signature(artifact, self._inputs, outputs)
        self._wanted = outputs_of(artifact.sidecar)
        self._buffers = _Buffers(self._memory, self._greatest_shapes(), self._dtypes)
        for name, address in self._buffers.device.items():
            self._require(self._context.set_tensor_address(name, address), f"take the address of {name}")
        self._shape: tuple[int, ...] | None = None  # of the last image
        self._graph: Graph | None = None
        self.replays = 0  # runs that were the replay of a graph

    @property
    def largest_batch(self) -> int:
        return self._range["image"][1][0]

    def _load(self, trt) -> None:
        self._logger = make_logger(trt)
        if self._file.manifest.plugins == "v3":
            try:
                load_library(trt, find_library(self._file.path))
            except UnavailableError as error:
                raise UnavailableError(f"{self._file.path}: the engine calls zeroseg's plugins: {error}") from error
        self._runtime = trt.Runtime(self._logger)
        if self._file.manifest.version_compatible:
            self._runtime.engine_host_code_allowed = True  # such engines carry code; the manifest vouches for the file
        content = self._file.path.read_bytes()
        if self._file.for_rtx:
            header = content[: self._runtime.engine_header_size]
            if (reason := why_invalid(trt, self._runtime, header, self._logger.reason())) is not None:
                raise ZerosegError(f"{self._file.path}: {reason}; {rebuild_hint(self._file.manifest)}")
        self._engine = self._runtime.deserialize_cuda_engine(content)
        self._require(self._engine is not None, "load the engine")
        self._kept = CachedContext(self._engine, self._file.path) if self._file.for_rtx else None
        self._context = self._kept.context if self._kept else self._engine.create_execution_context()
        self._require(self._context is not None, "make room for the engine's activations")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._dtypes = {name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))) for name in names}
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in inputs]
        self._inputs, self._range = {}, {}
        for name in inputs:
            least, _, greatest = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))
            shape = tuple(self._engine.get_tensor_shape(name))
            self._range[name] = (least, greatest)
            self._inputs[name] = TensorSpec(
                tuple(f"axis {i}" if size < 0 else int(size) for i, size in enumerate(shape)), self._dtypes[name].name
            )

    def _greatest_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape at the far end of the profile."""
        self._set_shapes({name: greatest for name, (_, greatest) in self._range.items()})
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in (*self._inputs, *self._outputs)}
        unknown = [name for name, shape in shapes.items() if min(shape, default=0) < 0]
        self._require(not unknown, f"tell the size of {', '.join(unknown)}")
        return shapes

    def _set_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            self._require(self._context.set_input_shape(name, shape), f"take {name} of shape {shape}")

    def _require(self, ok: bool, what: str) -> None:
        if not ok:
            raise ZerosegError(f"{self._file.path}: TensorRT cannot {what}: {self._logger.reason()}")

    def input(self) -> TensorSpec:
        return self._inputs[IMAGE]

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        shape = tuple(int(side) for side in image.shape)
        repeated = shape == self._shape
        if not repeated:
            self._change(shape)
        np.copyto(self._host(IMAGE), image)
        if self._graph is not None:
            self._graph.launch()
            self.replays += 1
        elif repeated and self._can_capture():
            self._graph = self._memory.capture(self._enqueue)
            self._graph.launch()
            self.replays += 1
        else:
            self._enqueue()
        self._memory.wait()
        if not repeated and self._kept is not None:
            self._kept.save()  # what was compiled for a new shape: not every program closes its runner
        # copies: the buffers are the next run's too
        return {name: self._host(name).copy() for name in self._wanted}

    def _can_capture(self) -> bool:
        """TensorRT for RTX cannot capture while it still compiles for the shapes."""
        if not self._memory.can_capture:
            return False
        return self._kept is None or self._context.is_stream_capturable(self._memory.stream)

    def _change(self, shape: tuple[int, ...]) -> None:
        least, greatest = self._range[IMAGE]
        if not all(low <= side <= high for low, side, high in zip(least, shape, greatest, strict=True)):
            raise ZerosegError(
                f"{self._file.path}: image: the engine takes {least} to {greatest}, got {shape}; "
                f"{rebuild_hint(self._file.manifest)}, with wider limits"
            )
        if self._graph is not None:
            self._graph.destroy()
        self._graph = self._shape = None  # should the next lines fail, nothing stale is replayed
        self._set_shapes({IMAGE: shape})
        self._current = {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs} | {IMAGE: shape}
        self._shape = shape

    def _host(self, name: str) -> np.ndarray:
        return self._buffers.host(name, self._current[name])

    def _enqueue(self) -> None:
        """Copies in, network, copies out: onto the stream."""
        device = self._buffers.device
        self._memory.upload(device[IMAGE], self._host(IMAGE))
        self._require(self._context.execute_async_v3(self._memory.stream), "run")
        for name in self._wanted:
            self._memory.download(self._host(name), device[name])

    def close(self) -> None:
        """Release the GPU's memory; the runner cannot be used afterwards."""
        if self._graph is not None:
            self._graph.destroy()
        if self._kept is not None:
            self._kept.save()
        self._memory.close()
        self._graph = self._context = self._kept = self._engine = None


class _Buffers:
    """A pinned host buffer and a device buffer per tensor, large enough for the shapes given."""

    def __init__(self, memory: DeviceMemory, shapes: dict[str, tuple[int, ...]], dtypes: dict[str, np.dtype]):
        self._dtypes = dict(dtypes)
        sizes = {name: prod(shape) * dtypes[name].itemsize for name, shape in shapes.items()}
        self._pinned = {name: memory.pinned(nbytes) for name, nbytes in sizes.items()}
        self.device = {name: memory.alloc(nbytes) for name, nbytes in sizes.items()}  # name -> address

    def host(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The host buffer's beginning as an array of this shape."""
        nbytes = prod(shape) * self._dtypes[name].itemsize
        return self._pinned[name][:nbytes].view(self._dtypes[name]).reshape(shape)
