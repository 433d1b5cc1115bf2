"""GPU memory, one stream and its graphs, behind one small interface: cuda-bindings if installed, otherwise PyCUDA.

cuda-bindings is preferred because it can capture CUDA graphs; PyCUDA 2026.1 cannot. Both use the device's primary
context, as TensorRT does. Addresses and handles are plain ints.
"""

import atexit
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zeroseg.errors import UnavailableError, ZerosegError


@dataclass(frozen=True)
class Gpu:
    """name as the driver gives it; sm the compute capability, "8.7"."""

    name: str
    sm: str


class DeviceMemory(ABC):
    """One GPU and one stream on it. Everything asynchronous is ordered on that stream."""

    library: str
    can_capture: bool
    stream: int  # the stream's handle

    @abstractmethod
    def gpu(self) -> Gpu:
        """Which device this is."""

    @abstractmethod
    def alloc(self, nbytes: int) -> int:
        """Address of nbytes > 0 of device memory, aligned to 256 bytes at least."""

    @abstractmethod
    def pinned(self, nbytes: int) -> np.ndarray:
        """(nbytes,) uint8 of page-locked host memory; lives as long as this object."""

    @abstractmethod
    def upload(self, address: int, source: np.ndarray) -> None:
        """Start copying a contiguous pinned array to the device."""

    @abstractmethod
    def download(self, target: np.ndarray, address: int) -> None:
        """Start copying from the device into a contiguous pinned array."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give device memory of alloc() back; nothing on the stream may still use it."""

    @abstractmethod
    def free_pinned(self, array: np.ndarray) -> None:
        """Give an array of pinned() back; it must not be touched any more."""

    @abstractmethod
    def load_kernel(self, cubin: bytes, symbol: str):
        """A kernel of a cubin, for launch(); lives as long as this object."""

    @abstractmethod
    def launch(self, kernel, blocks: int, threads: int, shared: int, arguments: Sequence[np.generic]) -> None:
        """Start a kernel on a grid of one dimension. arguments: NumPy scalars of its parameters' types; pointers are
        uint64. shared: bytes per block.
        """

    @abstractmethod
    def wait(self) -> None:
        """Wait until everything on the stream is done."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back: device memory, pinned arrays (which must not be touched any more), the stream."""

    def capture(self, work: Callable[[], None]) -> "Graph":
        """Record what `work` puts on the stream instead of running it. Only where can_capture."""
        raise ZerosegError(f"{self.library} cannot capture CUDA graphs")


class Graph(ABC):
    """A captured piece of work."""

    @abstractmethod
    def launch(self) -> None:
        """Start it on the stream it was captured from."""

    @abstractmethod
    def destroy(self) -> None:
        """Free it; launch() must not be called any more."""


def open_memory(library: str = "auto") -> DeviceMemory:
    """The first GPU through "cuda-bindings" or "pycuda"; "auto" takes the first one installed.

    UnavailableError, in one line, if both are missing or there is no GPU.
    """
    missing = []
    for name, kind in (("cuda-bindings", CudaBindings), ("pycuda", PyCuda)):
        if library not in ("auto", name):
            continue
        try:
            return kind()
        except ModuleNotFoundError:
            missing.append(name)
    raise UnavailableError(
        f"no library for GPU memory is installed (looked for {' and '.join(missing)}): "
        "pip install cuda-bindings, of your CUDA's major version"
    )


class CudaBindings(DeviceMemory):
    library = "cuda-bindings"
    can_capture = True

    def __init__(self):
        from cuda.bindings import driver, runtime

        self._rt, self._driver = runtime, driver
        self._allocated, self._pinned, self._modules = [], [], []
        try:
            count = self._call(runtime.cudaGetDeviceCount)
        except ZerosegError as error:
            raise UnavailableError(f"no NVIDIA GPU available here ({error})") from None
        if not count:
            raise UnavailableError("no NVIDIA GPU here (the driver counts 0)")
        self._stream = self._call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)
        self.stream = int(self._stream)

    def _call(self, function, *arguments):
        """The function's result without its status; ZerosegError with CUDA's own words when that is not success."""
        return _result(function, arguments, self._rt.cudaError_t.cudaSuccess, self._rt.cudaGetErrorString)

    def _drive(self, function, *arguments):
        """As _call, for functions of the driver API."""
        return _result(function, arguments, self._driver.CUresult.CUDA_SUCCESS, self._driver.cuGetErrorString)

    def gpu(self) -> Gpu:
        device = self._call(self._rt.cudaGetDevice)
        found = self._call(self._rt.cudaGetDeviceProperties, device)
        name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
        return Gpu(name.rstrip("\0"), f"{found.major}.{found.minor}")

    def alloc(self, nbytes: int) -> int:
        address = int(self._call(self._rt.cudaMalloc, nbytes))
        self._allocated.append(address)
        return address

    def pinned(self, nbytes: int) -> np.ndarray:
        import ctypes

        address = int(self._call(self._rt.cudaHostAlloc, nbytes, self._rt.cudaHostAllocDefault))
        self._pinned.append(address)
        return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), np.uint8)

    def upload(self, address: int, source: np.ndarray) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._rt.cudaMemcpyAsync, address, source.ctypes.data, source.nbytes, kind, self._stream)

    def download(self, target: np.ndarray, address: int) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._rt.cudaMemcpyAsync, target.ctypes.data, address, target.nbytes, kind, self._stream)

    def free(self, address: int) -> None:
        self._allocated.remove(address)
        self._call(self._rt.cudaFree, address)

    def free_pinned(self, array: np.ndarray) -> None:
        self._pinned.remove(array.ctypes.data)
        self._call(self._rt.cudaFreeHost, array.ctypes.data)

    def load_kernel(self, cubin: bytes, symbol: str):
        self._modules.append(self._drive(self._driver.cuModuleLoadData, cubin))
        return self._drive(self._driver.cuModuleGetFunction, self._modules[-1], symbol.encode())

    def launch(self, kernel, blocks: int, threads: int, shared: int, arguments: Sequence[np.generic]) -> None:
        cells = [np.array(value) for value in arguments]  # CUDA reads them before the call returns
        addresses = np.array([cell.ctypes.data for cell in cells], np.uint64)
        self._drive(
            self._driver.cuLaunchKernel,
            kernel,
            blocks,
            1,
            1,
            threads,
            1,
            1,
            shared,
            self.stream,
            addresses.ctypes.data,
            0,
        )

    def wait(self) -> None:
        self._call(self._rt.cudaStreamSynchronize, self._stream)

    def close(self) -> None:
        self.wait()
        while self._allocated:
            self._call(self._rt.cudaFree, self._allocated.pop())
        while self._pinned:
            self._call(self._rt.cudaFreeHost, self._pinned.pop())
        while self._modules:
            self._drive(self._driver.cuModuleUnload, self._modules.pop())
        self._call(self._rt.cudaStreamDestroy, self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._rt.cudaStreamBeginCapture, self._stream, mode)
        try:
            work()
        finally:  # a stream left capturing would refuse all further work
            graph = self._call(self._rt.cudaStreamEndCapture, self._stream)
        executable = self._call(self._rt.cudaGraphInstantiate, graph, 0)
        self._call(self._rt.cudaGraphDestroy, graph)
        return _CudaGraph(self, executable)


class _CudaGraph(Graph):
    def __init__(self, memory: CudaBindings, executable):
        self._memory, self._executable = memory, executable

    def launch(self) -> None:
        self._memory._call(self._memory._rt.cudaGraphLaunch, self._executable, self._memory._stream)

    def destroy(self) -> None:
        self._memory._call(self._memory._rt.cudaGraphExecDestroy, self._executable)


def _result(function, arguments, success, error_string):
    """What a function of cuda-bindings gives beside its status: nothing, or one value. ZerosegError if it failed."""
    status, *results = function(*arguments)
    if status != success:
        _, text = error_string(status)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise ZerosegError(f"CUDA: {function.__name__}: {words}")
    return results[0] if results else None


class PyCuda(DeviceMemory):
    library = "pycuda"
    can_capture = False

    def __init__(self):
        import pycuda.driver as driver

        self._driver = driver
        self._allocated, self._modules = {}, []
        try:
            driver.init()
            count = driver.Device.count()
        except driver.Error as error:
            raise UnavailableError(f"no NVIDIA GPU available here (CUDA: {error})") from None
        if not count:
            raise UnavailableError("no NVIDIA GPU here (the driver counts 0)")
        self._device = driver.Device(0)
        self._context = self._device.retain_primary_context()
        self._context.push()
        atexit.register(driver.Context.pop)  # PyCUDA aborts a process that ends with a context in place
        self._stream = driver.Stream()
        self.stream = int(self._stream.handle)

    def _call(self, function, *arguments, **keywords):
        try:
            return function(*arguments, **keywords)
        except self._driver.Error as error:
            raise ZerosegError(f"CUDA: {error}") from error

    def gpu(self) -> Gpu:
        return Gpu(self._device.name(), ".".join(map(str, self._device.compute_capability())))

    def alloc(self, nbytes: int) -> int:
        allocation = self._call(self._driver.mem_alloc, nbytes)
        self._allocated[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        self._call(self._allocated.pop(address).free)

    def free_pinned(self, array: np.ndarray) -> None:
        pass  # PyCUDA frees it with the array

    def load_kernel(self, cubin: bytes, symbol: str):
        self._modules.append(self._call(self._driver.module_from_buffer, cubin))
        return self._call(self._modules[-1].get_function, symbol)

    def launch(self, kernel, blocks: int, threads: int, shared: int, arguments: Sequence[np.generic]) -> None:
        kernel.prepare([value.dtype for value in arguments])
        self._call(
            kernel.prepared_async_call, (blocks, 1, 1), (threads, 1, 1), self._stream, *arguments, shared_size=shared
        )

    def pinned(self, nbytes: int) -> np.ndarray:
        return self._call(self._driver.pagelocked_empty, nbytes, np.uint8)

    def upload(self, address: int, source: np.ndarray) -> None:
        self._call(self._driver.memcpy_htod_async, address, source, stream=self._stream)

    def download(self, target: np.ndarray, address: int) -> None:
        self._call(self._driver.memcpy_dtoh_async, target, address, stream=self._stream)

    def wait(self) -> None:
        self._call(self._stream.synchronize)

    def close(self) -> None:
        self.wait()
        self._modules.clear()
        while self._allocated:
            self._call(self._allocated.popitem()[1].free)
