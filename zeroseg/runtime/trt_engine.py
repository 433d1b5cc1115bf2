"""A TensorRT engine on disk: the file, and the manifest that describes it and where it can run.

tiny.engine.json beside tiny.engine has the model's sidecar (zeroseg/artifact.py) with the engine's checksum, and under
"engine" its source, GPU, TensorRT version and shapes. An engine is code for one GPU and one TensorRT. On another it
fails late or crashes, so everything is checked before it is deserialised.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.files import sha256, write_text
from zeroseg.runtime.rtx_engine import check_target
from zeroseg.runtime.trt_library import parse_version
from zeroseg.runtime.trt_memory import Gpu
from zeroseg.runtime.trt_plugins import KINDS
from zeroseg.sidecar import Sidecar, parse_sidecar

FORMAT = 1
SUFFIX = ".engine"
RTX_SUFFIX = ".rtx"
ADDED = {  # what engines from before a field was there do not say
    "plugins": "none",
    "capabilities": [],
    "build_seconds": None,
    "weights_bytes": None,
    "activation_bytes": None,
}
KINDS_OF = {  # field -> its types in JSON; the others are strings
    "format": (int,),
    "size_bytes": (int,),
    "profile": (dict,),
    "version_compatible": (bool,),
    "hardware_compatible": (bool,),
    "capabilities": (list,),
    "build_seconds": (int, float, type(None)),
    "weights_bytes": (int, type(None)),
    "activation_bytes": (int, type(None)),
}


@dataclass(frozen=True)
class Manifest:
    """The description of an engine.

    onnx_file, onnx_sha256: the network it was built from (name without folder). gpu, sm: the device. profile: input ->
    [least, best, greatest] shape. version_compatible: later TensorRT of the same major version may load it.
    hardware_compatible: other GPUs, of compute capability 8.0 and up, may. rebuild: the command that rebuilds it.
    plugins: which of trt_plugins.KINDS it holds; for "v3" the plugin library must be loaded before the engine.

    Of an engine of TensorRT for RTX (.rtx), which is built without a GPU, gpu and sm are empty and capabilities lists
    the compute capabilities it is for, such as ["8.6", "8.9"]; none means portable, 8.0 and later.

    build_seconds, weights_bytes, activation_bytes: as the builder reports them, the last at the profile's greatest
    shapes; None where it does not.
    """

    format: int
    size_bytes: int
    onnx_file: str
    onnx_sha256: str
    gpu: str
    sm: str
    tensorrt: str
    precision: str
    profile: dict[str, list[list[int]]]
    version_compatible: bool
    hardware_compatible: bool
    zeroseg: str
    rebuild: str
    plugins: str = "none"
    capabilities: list[str] = field(default_factory=list)
    build_seconds: float | None = None
    weights_bytes: int | None = None
    activation_bytes: int | None = None


@dataclass(frozen=True)
class EngineFile:
    """An engine whose bytes match its manifest."""

    path: Path
    sidecar: Sidecar
    manifest: Manifest

    @property
    def for_rtx(self) -> bool:
        """Whether TensorRT for RTX runs it."""
        return self.path.suffix == RTX_SUFFIX


def manifest_path(engine: Path) -> Path:
    return engine.with_name(engine.name + ".json")


def write_manifest(engine: Path, sidecar: dict, manifest: Manifest) -> None:
    """Write the manifest of an engine file that is already there. sidecar: the model's, as a dict."""
    document = {**sidecar, "files": {engine.name: sha256(engine)}, "engine": asdict(manifest)}
    write_text(manifest_path(engine), json.dumps(document, indent=2) + "\n")


def read_engine(path: Path) -> EngineFile:
    """Read the manifest and check the files against it; needs neither TensorRT nor a GPU.

    ZerosegError in one line, with the command that rebuilds, if the manifest is missing or malformed, the engine is
    truncated or another file, or the network beside it is not the one that the engine was built from.
    """
    source = manifest_path(path)
    try:
        document = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ZerosegError(
            f"{path}: its manifest {source.name} is missing, and an engine cannot run without it; build "
            f"it with zeroseg-export {'--rtx' if path.suffix == RTX_SUFFIX else '--trt'}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ZerosegError(f"{source}: cannot be read as JSON ({error})") from error
    sidecar = parse_sidecar(document, str(source))
    manifest = parse_manifest(document.get("engine"), f"{source}: engine")
    differences = _file_differences(path, sidecar, manifest)
    if differences:
        raise ZerosegError(f"{path}: {'; '.join(differences)}; {rebuild_hint(manifest)}")
    return EngineFile(path, sidecar, manifest)


def parse_manifest(document, source: str) -> Manifest:
    """Validate the "engine" object; source names it in messages."""
    if not isinstance(document, dict):
        raise ZerosegError(f"{source}: expected a JSON object, got {type(document).__name__}")
    if document.get("format") != FORMAT:
        raise ZerosegError(f"{source}: format {document.get('format')!r}, this version of zeroseg reads {FORMAT}")
    document = {**ADDED, **document}
    for name in (item.name for item in fields(Manifest)):
        value, kinds = document.get(name), KINDS_OF.get(name, (str,))
        if type(value) not in kinds:
            raise ZerosegError(f"{source}: {name}: expected {kinds[0].__name__}, got {json.dumps(value)}")
    for name, shapes in document["profile"].items():
        if not (
            isinstance(shapes, list)
            and len(shapes) == 3
            and len({len(s) for s in map(_as_list, shapes)}) == 1
            and all(type(side) is int and side > 0 for shape in shapes for side in shape)
        ):
            raise ZerosegError(f"{source}: profile: {name}: expected three shapes, got {json.dumps(shapes)}")
    if document["plugins"] not in KINDS:
        raise ZerosegError(f"{source}: plugins: expected one of {', '.join(KINDS)}, got {document['plugins']!r}")
    return Manifest(**{item.name: document[item.name] for item in fields(Manifest)})


def check_machine(engine: EngineFile, gpu: Gpu, tensorrt: str) -> None:
    """Raise ZerosegError, naming every difference, unless the engine was built for this GPU and this TensorRT."""
    manifest = engine.manifest
    if engine.for_rtx:
        check_target(engine.path, manifest.capabilities, manifest.tensorrt, gpu, tensorrt, rebuild_hint(manifest))
        return
    differences = []
    if manifest.tensorrt != tensorrt:
        built, here = parse_version(manifest.tensorrt), parse_version(tensorrt)
        if not (manifest.version_compatible and built[0] == here[0] and built <= here):
            kind = ", for it and later ones of its major version" if manifest.version_compatible else ""
            differences.append(f"built by TensorRT {manifest.tensorrt}{kind}, found {tensorrt}")
    if (manifest.gpu, manifest.sm) != (gpu.name, gpu.sm):
        capability = tuple(int(part) for part in gpu.sm.split("."))
        if not (manifest.hardware_compatible and capability >= (8, 0)):
            differences.append(
                f"built for {manifest.gpu} (compute capability {manifest.sm}), here is {gpu.name} ({gpu.sm})"
            )
    if differences:
        raise ZerosegError(f"{engine.path}: {'; '.join(differences)}; {rebuild_hint(manifest)}")


def rebuild_hint(manifest: Manifest) -> str:
    return f"rebuild it here: {manifest.rebuild}"


def _file_differences(path: Path, sidecar: Sidecar, manifest: Manifest) -> list[str]:
    size = path.stat().st_size
    if size != manifest.size_bytes:
        kind = "truncated" if size < manifest.size_bytes else "another file"
        return [f"{kind}, it has {size} bytes and its manifest says {manifest.size_bytes}"]
    if sha256(path) not in sidecar.files.values():
        return ["does not match its manifest (sha256 differs)"]
    onnx = path.with_name(Path(manifest.onnx_file).name)
    differences = []
    if onnx.is_file() and sha256(onnx) != manifest.onnx_sha256:
        differences.append(f"built from another {onnx.name} than the one beside it (sha256 differs)")
    if onnx.is_file() and onnx.with_suffix(".json").is_file():
        try:
            beside = parse_sidecar(json.loads(onnx.with_suffix(".json").read_text(encoding="utf-8")), onnx.name)
        except (OSError, ValueError, ZerosegError):
            return differences  # it is the network's own business, not the engine's
        for what in ("embedding_space", "embedding_dim", "input"):
            if getattr(beside, what) != getattr(sidecar, what):
                differences.append(f"{what} {getattr(sidecar, what)}, that of {onnx.name} is {getattr(beside, what)}")
    return differences


def _as_list(value) -> list:
    return value if isinstance(value, list) else []
