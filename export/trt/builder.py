"""One builder for TensorRT 10.3 to 11 and TensorRT for RTX: the bytes of an engine from the bytes of an ONNX file.

Networks are strongly typed in all versions: by a flag in 10 and RTX, always in 11 (where the flag is deprecated and
ignored). So every precision comes from the ONNX file. The flags and calibrators that 11 dropped are never used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.export.trt.layers import Layer, read_layer
from zeroseg.export.trt.progress import make_monitor
from zeroseg.files import whole_file
from zeroseg.runtime.trt_library import library_name, make_logger, parse_version
from zeroseg.runtime.trt_plugins import KINDS
from zeroseg.runtime.trt_profile import make_profile
from zeroseg.sidecar import Sidecar

CACHE_MARK = b"zeroseg's TensorRT timings\n"  # what a timing cache's file begins with: no other file is overwritten


@dataclass(frozen=True)
class Dialect:
    """The settings that a TensorRT version needs.

    network_flags: members of NetworkDefinitionCreationFlag. ahead_of_time: the engine is built without a GPU, for the
    compute capabilities that the options name.
    """

    network_flags: tuple[str, ...]
    ahead_of_time: bool = False


def choose_dialect(version: str) -> Dialect:
    """The dialect of a TensorRT version such as "10.3.0", or of TensorRT for RTX, whose versions begin with 1.

    The versions that are taken at all are those of zeroseg.runtime.trt_library and rtx_library.
    """
    major = parse_version(version)[0]
    return Dialect(("STRONGLY_TYPED",) if major in (1, 10) else (), ahead_of_time=major == 1)


@dataclass(frozen=True)
class BuildOptions:
    """max_batch: the profile's upper end. timing_cache: file, read if there and written afterwards.

    version_compatible: later TensorRT of the same major version may load the engine; hardware_compatible: GPUs of
    compute capability 8.0 and up other than this one may (not on Jetson). Both cost speed. plugins: one of
    zeroseg.runtime.trt_plugins.KINDS. capabilities: for TensorRT for RTX alone, the compute capabilities that the
    engine is for, such as ("sm86", "sm89"); none makes a portable one.
    """

    max_batch: int = 1
    workspace_mib: int = 1024
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    plugins: str = "none"
    capabilities: tuple[str, ...] = ()

    def __post_init__(self):
        if self.plugins not in KINDS:
            raise ZerosegError(f"plugins: expected one of {', '.join(KINDS)}, got {self.plugins!r}")
        for name in ("max_batch", "workspace_mib"):
            if getattr(self, name) < 1:
                raise ZerosegError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.plugins == "aot" and self.hardware_compatible:
            raise ZerosegError(
                "--plugins aot: its kernels are compiled for this GPU only, so --hardware-compatible is not "
                "possible; leave one of them out, or use --plugins v3"
            )


@dataclass(frozen=True)
class Plan:
    """A finished engine.

    content: TensorRT's host memory (nbytes, buffer protocol). profile: input -> [least, best, greatest] shape.
    weights_bytes, activation_bytes: GPU memory as the builder reports it, the second at the profile's greatest shapes;
    None where it does not. layers: only when asked for.
    """

    content: object
    profile: dict[str, list[list[int]]]
    seconds: float
    weights_bytes: int | None
    activation_bytes: int | None
    layers: list[Layer]


def build_plan(
    trt,
    onnx: bytes,
    source: str,
    sidecar: Sidecar,
    options: BuildOptions,
    note: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
    keep_layers: bool = False,
) -> Plan:
    """Build an engine. trt is the module of TensorRT or of TensorRT for RTX.

    source names the network in messages, note gets lines worth reading, keep_layers fills the plan's layers.
    ZerosegError in one line, with the node, when TensorRT cannot parse or build it; KeyboardInterrupt stops the build
    between two steps.
    """
    logger = make_logger(trt, keep_layers)
    builder = trt.Builder(logger)
    dialect, name = choose_dialect(trt.__version__), library_name(trt.__version__)
    network = builder.create_network(_network_flags(trt, dialect, options))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise ZerosegError(f"{source}: {name} cannot read it: {_parser_errors(parser, logger)}")
    inputs = {tensor.name: tuple(tensor.shape) for tensor in map(network.get_input, range(network.num_inputs))}
    profile = make_profile(inputs, sidecar, options.max_batch, source)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    _add_profile(builder, config, profile, source)
    if dialect.ahead_of_time:
        _set_capabilities(trt, config, options.capabilities)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if keep_layers:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _attach_timing_cache(config, options.timing_cache, note)
    monitor = make_monitor(trt, source) if show_progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    started = time.perf_counter()
    try:
        content = builder.build_serialized_network(network, config)
    finally:
        if monitor is not None:
            monitor.close()
    if content is None:
        raise ZerosegError(f"{source}: {name} cannot build an engine: {logger.reason()}")
    if options.timing_cache is not None:
        _save_timing_cache(config, options.timing_cache, note)
    return Plan(
        content,
        profile,
        round(time.perf_counter() - started, 2),
        logger.reported("Total Weights Memory"),
        logger.reported("Total Activation Memory"),
        [read_layer(line) for line in logger.layers],
    )


def _network_flags(trt, dialect: Dialect, options: BuildOptions) -> int:
    flags = 0
    for name in dialect.network_flags:
        flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))
    if options.plugins == "aot" and hasattr(trt.NetworkDefinitionCreationFlag, "PREFER_AOT_PYTHON_PLUGINS"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS)  # as the nodes themselves say
    return flags


def _set_capabilities(trt, config, capabilities: tuple[str, ...]) -> None:
    """Without any the library makes a portable engine."""
    if not capabilities:
        return
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index):
            raise ZerosegError(f"--rtx: {library_name(trt.__version__)} builds no engine for {name}")


def _add_profile(builder, config, shapes: dict, source: str) -> None:
    profile = builder.create_optimization_profile()
    for name, (least, best, greatest) in shapes.items():
        profile.set_shape(name, tuple(least), tuple(best), tuple(greatest))
    if config.add_optimization_profile(profile) < 0:
        raise ZerosegError(f"{source}: TensorRT does not accept the shapes {shapes}")


def read_timing_cache(path: Path | None) -> bytes:
    """What was kept of earlier builds; nothing where there is no such file yet. ZerosegError where none can be kept."""
    if path is None:
        return b""
    if not path.parent.is_dir():
        raise ZerosegError(f"--timing-cache: {path.parent}: no such folder")
    content = path.read_bytes() if path.exists() else b""
    if content and not content.startswith(CACHE_MARK):
        raise ZerosegError(f"--timing-cache: {path} is not a timing cache of zeroseg; choose another name")
    return content.removeprefix(CACHE_MARK)


def _attach_timing_cache(config, path: Path | None, note) -> None:
    if path is None:
        return
    content = read_timing_cache(path)
    if content and not config.set_timing_cache(config.create_timing_cache(content), False):
        note(f"{path}: belongs to another GPU or TensorRT; starting a new timing cache")
        content = b""
    if not content:
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _save_timing_cache(config, path: Path, note) -> None:
    """The engine is worth more than its timings: a full disk is only noted."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    try:
        with whole_file(path) as partial, open(partial, "wb") as file:
            file.write(CACHE_MARK)
            file.write(cache.serialize())
    except ZerosegError as error:
        note(f"--timing-cache: not written ({error})")


def _parser_errors(parser, logger) -> str:
    """The first error with its node, and how many more there are."""
    if not parser.num_errors:
        return logger.reason()
    error = parser.get_error(0)
    # node() is the node's index in the graph, -1 without one
    where = f"node {error.node()} ({error.node_operator()} {error.node_name()!r}): " if error.node() >= 0 else ""
    more = f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    return where + " ".join(error.desc().split()) + more
