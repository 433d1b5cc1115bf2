"""One builder for TensorRT 10.3 to 11: from the bytes of an ONNX file to the bytes of an engine.

Networks are strongly typed in both: 10 by a flag, 11 always (the flag is there, deprecated and ignored). So every
precision comes from the ONNX file, and the flags and calibrators that 11 dropped are used in neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.export.trt.progress import make_monitor
from zeroseg.files import whole_file
from zeroseg.image import network_size
from zeroseg.runtime.trt_library import make_logger, parse_version
from zeroseg.runtime.trt_plugins import KINDS
from zeroseg.sidecar import Sidecar

BEST_LABELS = 20  # the label count that tactics are timed at; any count up to the greatest runs
BEST_PHOTO = (480, 640)
CACHE_MARK = b"zeroseg's TensorRT timings\n"  # what a timing cache's file begins with: no other file is overwritten


@dataclass(frozen=True)
class Dialect:
    """What a TensorRT version wants said. network_flags: members of NetworkDefinitionCreationFlag."""

    network_flags: tuple[str, ...]


def choose_dialect(version: str) -> Dialect:
    """The dialect of a TensorRT version such as "10.3.0"; its range is zeroseg.runtime.trt_library's."""
    return Dialect(("STRONGLY_TYPED",) if parse_version(version)[0] == 10 else ())


@dataclass(frozen=True)
class BuildOptions:
    """max_batch, max_labels: the profile's upper ends. timing_cache: file, read if there and written afterwards.

    version_compatible: later TensorRT of the same major version may load the engine; hardware_compatible: GPUs of
    compute capability 8.0 and up other than this one may (not on Jetson). Both cost speed. plugins: one of
    zeroseg.runtime.trt_plugins.KINDS.
    """

    max_batch: int = 1
    max_labels: int = 1200
    workspace_mib: int = 1024
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    plugins: str = "none"

    def __post_init__(self):
        if self.plugins not in KINDS:
            raise ZerosegError(f"plugins: expected one of {', '.join(KINDS)}, got {self.plugins!r}")
        for name in ("max_batch", "max_labels", "workspace_mib"):
            if getattr(self, name) < 1:
                raise ZerosegError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.plugins == "aot" and self.hardware_compatible:
            raise ZerosegError(
                "--plugins aot: its kernels are compiled for this GPU, so --hardware-compatible would "
                "not hold; leave one of them out, or use --plugins v3"
            )


def make_profile(sidecar: Sidecar, options: BuildOptions) -> dict[str, list[list[int]]]:
    """Input -> [least, best, greatest] shape: every size that zeroseg's preprocessing makes of a photo.

    A network without segments is run on windows, which have one size.
    """
    labels = [[count, sidecar.embedding_dim] for count in (1, min(BEST_LABELS, options.max_labels), options.max_labels)]
    if sidecar.dense is not None:
        side = sidecar.dense.window
        return {"image": [[count, 3, side, side] for count in (1, 1, options.max_batch)], "label_embeddings": labels}
    spec = sidecar.input
    best = network_size(BEST_PHOTO, spec.short_side, spec.max_long_side, spec.multiple)
    # a square photo gives the longest short side, a panorama the longest long side
    side = max(network_size(size, spec.short_side, spec.max_long_side, spec.multiple)[1] for size in ((1, 1), (1, 999)))
    least = spec.multiple
    return {
        "image": [[1, 3, least, least], [1, 3, *best], [options.max_batch, 3, side, side]],
        "label_embeddings": labels,
    }


def build_plan(
    trt,
    onnx: bytes,
    source: str,
    profile: dict[str, list[list[int]]],
    options: BuildOptions,
    note: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
):
    """Build; returns TensorRT's host memory with the engine (nbytes, buffer protocol).

    source names the network in messages, note gets lines worth reading. ZerosegError in one line, with the node, when
    TensorRT cannot parse or build it; KeyboardInterrupt stops the build between two steps.
    """
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    dialect = choose_dialect(trt.__version__)
    flags = 0
    for name in dialect.network_flags:
        flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))
    if options.plugins == "aot" and hasattr(trt.NetworkDefinitionCreationFlag, "PREFER_AOT_PYTHON_PLUGINS"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS)  # as the nodes themselves say
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise ZerosegError(f"{source}: TensorRT {trt.__version__} cannot read it: {_parser_errors(parser, logger)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    _add_profile(builder, network, config, profile, source)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    _attach_timing_cache(config, options.timing_cache, note)
    monitor = make_monitor(trt, source) if show_progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    try:
        plan = builder.build_serialized_network(network, config)
    finally:
        if monitor is not None:
            monitor.close()
    if plan is None:
        raise ZerosegError(f"{source}: TensorRT {trt.__version__} cannot build an engine: {logger.reason()}")
    if options.timing_cache is not None:
        _save_timing_cache(config, options.timing_cache, note)
    return plan


def _add_profile(builder, network, config, shapes: dict, source: str) -> None:
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    if sorted(names) != sorted(shapes):
        raise ZerosegError(
            f"{source}: not a zeroseg network: its inputs are {', '.join(names)}, expected {', '.join(shapes)}"
        )
    profile = builder.create_optimization_profile()
    for name, (least, best, greatest) in shapes.items():
        profile.set_shape(name, tuple(least), tuple(best), tuple(greatest))
    if config.add_optimization_profile(profile) < 0:
        raise ZerosegError(f"{source}: TensorRT does not take the shapes {shapes}")


def read_timing_cache(path: Path | None) -> bytes:
    """What was kept of earlier builds; nothing where there is no such file yet. ZerosegError where none can be kept."""
    if path is None:
        return b""
    if not path.parent.is_dir():
        raise ZerosegError(f"--timing-cache: {path.parent}: no such folder")
    content = path.read_bytes() if path.exists() else b""
    if content and not content.startswith(CACHE_MARK):
        raise ZerosegError(f"--timing-cache: {path} is another kind of file; give a name that is free")
    return content.removeprefix(CACHE_MARK)


def _attach_timing_cache(config, path: Path | None, note) -> None:
    if path is None:
        return
    content = read_timing_cache(path)
    if content and not config.set_timing_cache(config.create_timing_cache(content), False):
        note(f"{path}: a timing cache of another GPU or TensorRT, starting a new one")
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
