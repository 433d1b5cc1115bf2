"""Load TensorRT on this machine: its module, its version, and a logger that keeps its messages."""

import re

from zeroseg.errors import UnavailableError, ZerosegError

OLDEST = (10, 3)  # JetPack 6.2's
NEWEST_MAJOR = 11


def load_tensorrt(purpose: str):
    """Import tensorrt, in a supported version. UnavailableError, in one line, if there is none."""
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise UnavailableError(f"{purpose}: TensorRT is installed, but cannot be loaded ({error})") from error
        raise UnavailableError(
            f"{purpose} needs TensorRT: its Python package is not installed (JetPack brings "
            "it; elsewhere: pip install tensorrt)"
        ) from error
    except (ImportError, OSError) as error:  # its shared libraries
        raise UnavailableError(f"{purpose}: TensorRT is installed, but cannot be loaded ({error})") from error
    version = parse_version(tensorrt.__version__)
    if version < OLDEST or version[0] > NEWEST_MAJOR:
        raise UnavailableError(
            f"{purpose}: TensorRT {tensorrt.__version__} is installed; zeroseg supports "
            f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST_MAJOR}.x"
        )
    return tensorrt


def parse_version(text: str) -> tuple[int, int]:
    """(major, minor) of "10.3.0" or "11.4.0.106"."""
    try:
        major, minor = (int(part) for part in text.split(".")[:2])
    except ValueError:
        raise ZerosegError(f"TensorRT version {text!r}: expected something like 10.3.0") from None
    return major, minor


def library_name(version: str) -> str:
    """The name of the library of this version: "TensorRT 10.3.0", "TensorRT for RTX 1.7.1.116"."""
    return f"TensorRT {'for RTX ' if parse_version(version)[0] == 1 else ''}{version}"


def make_logger(trt, keep_layers: bool = False):
    """A trt.ILogger that prints nothing: `errors` collects complaints, `notes` what is worth telling, and, where
    keep_layers, `layers` the lines that describe the engine's layers.
    """
    severity_of = trt.ILogger.Severity

    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)  # pybind11 insists
            self.errors, self.notes, self.layers = [], [], []

        def log(self, severity, msg):
            if severity in (severity_of.ERROR, severity_of.INTERNAL_ERROR):
                self.errors.append(" ".join(msg.split()))
            elif severity == severity_of.INFO:
                self.notes.append(msg)
            elif keep_layers and "LayerType: " in msg:
                self.layers += [line for line in msg.splitlines() if line.startswith("Name: ")]

        def reason(self) -> str:
            """The last complaint, for a message."""
            return self.errors[-1] if self.errors else "TensorRT gave no reason"

        def reported(self, what: str) -> int | None:
            """The number in the last note "WHAT: 123 bytes"."""
            found = [match[1] for match in map(re.compile(rf"{what}: (\d+) bytes").match, self.notes) if match]
            return int(found[-1]) if found else None

    return Logger()
