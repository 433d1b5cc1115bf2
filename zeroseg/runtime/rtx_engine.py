"""Additional steps to run an engine of TensorRT for RTX, compared with TensorRT's engines.

The engine's code is finished for the GPU at the first run. A runtime cache, tiny.rtx.cache beside tiny.rtx, keeps the
result, so that the next start is fast. The engine's header says whether it fits this GPU, driver and library.
"""

import logging
from pathlib import Path

from zeroseg.errors import ZerosegError

_log = logging.getLogger("zeroseg.runtime")
CACHE_SUFFIX = ".cache"
REASONS = {  # members of trt.EngineInvalidityDiagnostics
    "VERSION_MISMATCH": "another version of TensorRT for RTX built it",
    "UNSUPPORTED_CC": "it was not built for this GPU",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory",
    "MALFORMED_ENGINE": "it is not an engine of TensorRT for RTX",
    "CUDA_ERROR": "CUDA reports an error",
}


def why_invalid(rtx, runtime, header: bytes, reason: str = "") -> str | None:
    """Why an engine cannot run here, from its first runtime.engine_header_size bytes; None if it can.

    reason is the library's own message, used if the header gives none.
    """
    validity, found = runtime.get_engine_validity(header)
    if validity != rtx.EngineValidity.INVALID:
        return None
    bits = rtx.EngineInvalidityDiagnostics.__members__.items()
    return (
        "; ".join(REASONS.get(name, name) for name, bit in bits if int(found) & int(bit)) or reason or "no reason given"
    )


class CachedContext:
    """An execution context that caches its compiled kernels in a file."""

    def __init__(self, engine, path: Path):
        """engine: an ICudaEngine of TensorRT for RTX; path: its file. `context` is None when there is no memory."""
        self._path, self._written = path.with_name(path.name + CACHE_SUFFIX), b""
        config = engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        self._read()
        config.set_runtime_cache(self._cache)
        self.context = engine.create_execution_context(config)

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
        except OSError:
            return
        if self._cache.deserialize(content):
            self._written = content
        else:
            _log.info("%s: belongs to another GPU, driver or version; starting a new one", self._path)

    def save(self) -> None:
        """Write the cache if it has grown; a full disk is only logged."""
        content = bytes(self._cache.serialize())
        if content == self._written:
            return
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            partial.write_bytes(content)
            partial.replace(self._path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            _log.warning("%s: not written (%s)", self._path, error)
            return
        self._written = content


def check_target(path: Path, capabilities: list[str], built_by: str, gpu, version: str, hint: str) -> None:
    """Raise ZerosegError, naming every difference, unless the manifest names this version and this kind of GPU.

    capabilities: such as ["8.6", "8.9"], none for a portable engine. gpu: a trt_memory.Gpu.
    """
    differences = []
    if built_by != version:
        differences.append(f"built by TensorRT for RTX {built_by}, found {version}")
    if capabilities and gpu.sm not in capabilities:
        differences.append(f"built for compute capability {', '.join(capabilities)}, here is {gpu.name} ({gpu.sm})")
    if not capabilities and tuple(int(part) for part in gpu.sm.split(".")) < (8, 0):
        differences.append(f"built for GPUs of compute capability 8.0 on, here is {gpu.name} ({gpu.sm})")
    if differences:
        raise ZerosegError(f"{path}: {'; '.join(differences)}; {hint}")
