"""zeroseg: open-vocabulary segmentation of photos, small enough for a CPU.

Importing this package does no work: every public name below is loaded when it is first used, so `import zeroseg`
costs milliseconds and never imports torch or onnxruntime.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path

__version__ = "0.1.0"

# zeroseg.kernels, .export, .training and .bench live beside this package in a checkout and inside it in a wheel.
# The marker has two parts, so that a stray file next to an installed package does not count as a checkout.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "kernels" / "mask_decode").is_dir():
    __path__.append(str(_root))

_HOME = {
    "Collection": "zeroseg.search.collection",
    "LabelPack": "zeroseg.words",
    "Segmentation": "zeroseg.segment.segmentation",
    "Segmenter": "zeroseg.segment.segmenter",
    "UnavailableError": "zeroseg.errors",
    "ZerosegError": "zeroseg.errors",
    "embed_labels": "zeroseg.words",
    "load_segments": "zeroseg.segment.encoded",
}
__all__ = sorted(_HOME) + ["__version__"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'zeroseg' has no attribute {name!r}")
    return getattr(_import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
