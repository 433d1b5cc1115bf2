"""cuda.bindings.runtime and pycuda.driver over a FakeMachine, driven by the facts read from the real ones.

Only names, parameters and enum members of facts/*.json exist; anything else is an AttributeError or TypeError, as it
would be on the device.
"""

import enum
import json
import types
from pathlib import Path

import numpy as np

FACTS = Path(__file__).resolve().parent / "facts"


def checked(name, parameters, work):
    """A function that takes exactly these parameters; "x=1" has a default, "*args" and "**kwargs" take anything."""
    names = [parameter.split("=")[0] for parameter in parameters if parameter[0] != "*"]
    needed = [parameter for parameter in parameters if "=" not in parameter and parameter[0] != "*"]
    open_ended = {parameter for parameter in parameters if parameter[0] == "*"}

    def call(*arguments, **keywords):
        given = set(names[: len(arguments)])
        if (
            len(arguments) > len(names)
            and "*args" not in open_ended
            or set(keywords) & given
            or set(keywords) - set(names)
            and "**kwargs" not in open_ended
            or set(needed) - given - set(keywords)
        ):
            raise TypeError(f"{name}() takes {parameters}, got {arguments} {keywords}")
        return work(*arguments, **keywords)

    call.__name__ = name
    return call


def cuda_bindings(machine, version: str) -> dict[str, types.ModuleType]:
    """Modules to put into sys.modules."""
    facts = json.loads((FACTS / f"cuda-{version}.json").read_text())
    runtime = types.ModuleType(facts["module"])
    for name, members in facts["enums"].items():
        setattr(runtime, name, enum.IntEnum(name, members))
    for name, value in facts["constants"].items():
        setattr(runtime, name, value)
    work = _Runtime(machine, runtime)
    for name, parameters in facts["functions"].items():
        if hasattr(work, name):
            setattr(runtime, name, checked(name, parameters, getattr(work, name)))
    work.properties = facts["properties"]
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    package.bindings, bindings.runtime, bindings.__version__ = bindings, runtime, version
    return {
        "cuda": package,
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": runtime,
    }


class _Handle:
    """A stream or graph of cuda-bindings: an object with a number."""

    def __init__(self, value, content=None):
        self.value, self.content = value, content

    def __int__(self):
        return self.value


class _Runtime:
    def __init__(self, machine, module):
        self.machine, self.rt = machine, module
        self.ok = module.cudaError_t.cudaSuccess

    def cudaGetDeviceCount(self):
        if not self.machine.gpus:
            return self.rt.cudaError_t.cudaErrorNoDevice, None
        return self.ok, self.machine.gpus

    def cudaGetErrorString(self, error):
        assert isinstance(error, self.rt.cudaError_t)
        return self.ok, b"no CUDA-capable device is detected" if error == 100 else b"invalid argument"

    def cudaGetDevice(self):
        return self.ok, 0

    def cudaGetDeviceProperties(self, device):
        values = {"name": self.machine.name.encode(), "major": self.machine.sm[0], "minor": self.machine.sm[1]}
        return self.ok, types.SimpleNamespace(**{key: values[key] for key in self.properties if key in values})

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.rt.cudaStreamNonBlocking
        return self.ok, _Handle(self.machine.new_stream())

    def cudaStreamDestroy(self, stream):
        self.machine.streams.remove(int(stream))
        return (self.ok,)

    def cudaStreamSynchronize(self, stream):
        self.machine.synchronize()
        return (self.ok,)

    def cudaMalloc(self, size):
        return self.ok, self.machine.allocate(size, device=True)

    def cudaFree(self, devPtr):
        self.machine.release(devPtr)
        return (self.ok,)

    def cudaHostAlloc(self, size, flags):
        return self.ok, self.machine.allocate(size, device=False)

    def cudaFreeHost(self, ptr):
        self.machine.release(ptr)
        return (self.ok,)

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        assert isinstance(kind, self.rt.cudaMemcpyKind)
        self.machine.copy(int(stream), int(dst), int(src), count, kind.name == "cudaMemcpyHostToDevice")
        return (self.ok,)

    def cudaStreamBeginCapture(self, stream, mode):
        assert isinstance(mode, self.rt.cudaStreamCaptureMode)
        self.machine.begin()
        return (self.ok,)

    def cudaStreamEndCapture(self, stream):
        return self.ok, _Handle(1, self.machine.end())

    def cudaGraphInstantiate(self, graph, flags):
        return self.ok, _Handle(2, list(graph.content))

    def cudaGraphDestroy(self, graph):
        graph.content = None
        return (self.ok,)

    def cudaGraphLaunch(self, graphExec, stream):
        assert graphExec.content is not None, "launched a destroyed graph"
        self.machine.launch(graphExec.content)
        return (self.ok,)

    def cudaGraphExecDestroy(self, graphExec):
        assert graphExec.content is not None, "destroyed twice"
        graphExec.content = None
        return (self.ok,)


def pycuda(machine, version: str = "2026.1") -> dict[str, types.ModuleType]:
    """Modules to put into sys.modules."""
    facts = json.loads((FACTS / f"pycuda-{version}.json").read_text())
    driver = types.ModuleType(facts["module"])
    driver.Error = type("Error", (Exception,), {})
    for name in facts["errors"][1:]:
        setattr(driver, name, type(name, (driver.Error,), {}))
    behaviour = _driver_classes(machine, driver)
    for name, kind in facts["classes"].items():
        setattr(driver, name, _restricted(name, kind, behaviour[name]))
    behaviour["types"] = driver
    for name, parameters in facts["functions"].items():
        setattr(driver, name, checked(name, parameters, behaviour["functions"][name]))
    package = types.ModuleType("pycuda")
    package.driver, package.VERSION = driver, tuple(int(part) for part in version.split("."))
    return {"pycuda": package, "pycuda.driver": driver}


def _restricted(name, facts, behaviour):
    """The behaviour's methods that the facts name, with the facts' parameters."""
    space = {}
    for method, parameters in facts["methods"].items():
        if method in vars(behaviour):

            def bound(self, *arguments, _name=method, _parameters=parameters, **keywords):
                work = getattr(behaviour, _name).__get__(self)
                return checked(f"{name}.{_name}", _parameters, work)(*arguments, **keywords)

            space[method] = bound
    for method, parameters in facts["static"].items():
        if method in vars(behaviour):
            space[method] = staticmethod(checked(method, parameters, getattr(behaviour, method)))
    for attribute in facts["properties"]:
        if attribute in vars(behaviour):
            space[attribute] = vars(behaviour)[attribute]
    return type(name, (), space)


def _driver_classes(machine, driver):
    stack = []

    class Device:
        def __init__(self, ordinal):
            assert ordinal < machine.gpus

        def name(self):
            return machine.name

        def compute_capability(self):
            return machine.sm

        def retain_primary_context(self):
            return driver.Context()

        @staticmethod
        def count():
            return machine.gpus

    class Context:
        def push(self):
            stack.append(self)

        @staticmethod
        def pop():
            stack.pop()

    class Stream:
        def __init__(self, flags=0):
            assert stack, "no context is current"
            self._number = machine.new_stream()

        def synchronize(self):
            machine.synchronize()

        @property
        def handle(self):
            return self._number

    class DeviceAllocation:
        def __int__(self):
            return self._address

        __index__ = __int__

        def free(self):
            machine.release(self._address)

    def init(flags=0):
        if not machine.gpus:
            raise driver.RuntimeError("cuInit failed: no CUDA-capable device is detected")

    def mem_alloc(bytes):
        allocation = driver.DeviceAllocation()
        allocation._address = machine.allocate(bytes, device=True)
        return allocation

    def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return machine.bytes_at(machine.allocate(nbytes, device=False), nbytes).view(dtype).reshape(shape)

    def memcpy_htod_async(dest, src, stream=None):
        machine.copy(stream.handle, int(dest), src.ctypes.data, src.nbytes, True)

    def memcpy_dtoh_async(dest, src, stream=None):
        machine.copy(stream.handle, dest.ctypes.data, int(src), dest.nbytes, False)

    functions = {f.__name__: f for f in (init, mem_alloc, pagelocked_empty, memcpy_htod_async, memcpy_dtoh_async)}
    return {
        "Device": Device,
        "Context": Context,
        "Stream": Stream,
        "DeviceAllocation": DeviceAllocation,
        "functions": functions,
    }
