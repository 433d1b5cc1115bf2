"""Build an engine and its manifest from an ONNX file: build, compare on this GPU, then move into place."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from zeroseg.artifact import Artifact, read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.export.gate import Gate
from zeroseg.export.parity import Case, Parity
from zeroseg.export.trt.builder import BuildOptions, build_plan
from zeroseg.export.trt.fit import fitting
from zeroseg.export.trt.manifest import make_manifest
from zeroseg.export.trt.plugins import with_plugins
from zeroseg.runtime.base import Runner
from zeroseg.runtime.trt_engine import (
    EngineFile,
    manifest_path,
    read_engine,
    write_manifest,
)
from zeroseg.runtime.trt_library import load_tensorrt
from zeroseg.runtime.trt_memory import open_memory
from zeroseg.runtime.trt_plugins import LIBRARY
from zeroseg.runtime.trt_runner import TrtRunner


def why_not() -> str | None:
    """What this machine lacks for building an engine, in one line; None when it lacks nothing."""
    try:
        load_tensorrt("building an engine")
        open_memory().close()
    except UnavailableError as error:
        return str(error)
    return None


def build_engine(
    onnx: Path,
    out: Path,
    options: BuildOptions,
    reference: Runner,
    cases: list[Case],
    *,
    rebuild: str,
    masks: Callable[[Runner], float] | None = None,
    report: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
) -> EngineFile:
    """Build out (.engine, and .engine.json beside it) from onnx and compare it with reference on cases.

    rebuild is the command that does this again, for the manifest; masks, if any, gives a runner's mIoU, which is
    compared too. report gets the comparison's table and notes. Cases of other sizes than the engine takes are left out.
    ZerosegError when TensorRT fails or the masks differ; what was at `out` and beside it before stays as it was.
    """
    trt = load_tensorrt("building an engine")
    memory = open_memory()
    gpu = memory.gpu()
    memory.close()
    artifact = read_artifact(onnx, "onnxruntime")
    content = onnx.read_bytes()
    sidecar = json.loads(onnx.with_suffix(".json").read_text(encoding="utf-8"))
    given = with_plugins(trt, content, options.plugins, gpu.sm, onnx, out)
    plan = build_plan(trt, given, onnx.name, artifact.sidecar, options, report, show_progress)
    with tempfile.TemporaryDirectory(prefix=".zeroseg-engine-", dir=out.parent) as folder:
        partial = Path(folder) / out.name
        with open(partial, "wb") as file:
            file.write(plan.content)
        manifest = make_manifest(onnx, partial, trt.__version__, gpu, options, plan, rebuild)
        write_manifest(partial, sidecar, manifest)
        if (library := out.parent / LIBRARY).is_file():
            partial.with_name(LIBRARY).symlink_to(library.resolve())  # a link: it finds its own neighbour from there
        check_engine(partial, reference, cases, masks=masks, report=report, name=str(out))
        for source, target in ((partial, out), (manifest_path(partial), manifest_path(out))):
            os.replace(source, target)
    return read_engine(out)


def check_engine(
    engine: Path,
    reference: Runner,
    cases: list[Case],
    *,
    report: Callable[[str], None],
    masks: Callable[[Runner], float] | None = None,
    name: str | None = None,
) -> Parity:
    """The gate on this GPU: compare an engine with the reference. ZerosegError if they disagree."""
    file = read_engine(engine)
    taken = fitting(cases, file, report)
    runner = TrtRunner(Artifact(engine, file.sidecar, TrtRunner.backend))
    try:
        parity = Gate(reference, taken, file.sidecar, masks).check(runner)
    finally:
        runner.close()
    report(parity.table())
    if not parity.ok:
        raise ZerosegError(f"{name or engine}: {parity.why_not('the engine')}; it is not kept")
    return parity
