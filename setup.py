"""Metadata, packages, and the native CPU library. Build system, ruff and pytest settings are in pyproject.toml."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent

# Each folder is the package zeroseg.<folder>. They deliberately have no __init__.py of their own: with one, standing in
# the checkout would make OUR kernels/ hide the PyPI distribution of that name. tests/test_layout.py guards this.
FOLDERS = ["kernels", "export", "training", "bench"]

packages = ["zeroseg"] + [f"zeroseg.{name}" for name in find_packages("zeroseg")]
for folder in FOLDERS:
    packages += [f"zeroseg.{folder}"] + [f"zeroseg.{folder}.{name}" for name in find_packages(folder)]

EXTRAS = {
    "train": ["torch", "torchvision", "timm", "open_clip_torch", "safetensors", "matplotlib"],
    # the exporter changes what it writes from one minor version to the next: those whose files passed the gate
    "export": ["torch>=2.14,<2.16", "timm", "onnx>=1.23,<1.24", "onnxscript>=0.7,<0.8"],
    "gpu": ["torch", "triton; platform_system == 'Linux'"],
    # TensorRT itself comes with the CUDA or JetPack installation; its wheels fetch their libraries from another index
    "trt": ["tensorrt", "cuda-bindings"],
    # TensorRT for RTX: the Python bindings, and ONNX Runtime's provider, whose wheel carries the libraries of both.
    # Engines are built without a GPU; there are wheels for Linux on x86-64
    "rtx": [
        "tensorrt-rtx-cu13-bindings>=1.7; platform_system == 'Linux' and platform_machine == 'x86_64'",
        "onnxruntime-ep-nv-tensorrt-rtx-cu13>=0.5; platform_system == 'Linux' and platform_machine == 'x86_64'",
    ],
    "openvino": ["openvino"],
    "supervision": ["supervision"],
    "annotate": ["pyarrow"],
    "search": ["lancedb>=0.38", "pyarrow", "av>=14.4"],
    # outlines of masks with their holes, and fewer corners: 3 MB. OpenCV finds outlines too, but is 60 MB, cuts no
    # outline exactly (its corners are pixel centres) and its simplified ones may cross themselves unseen
    "datasets": ["contourpy>=1.2", "shapely>=2.0"],
    "eval": ["pyyaml"],
    "ray": ["ray[data]", "pyarrow"],
    "hub": ["huggingface_hub>=0.30", "safetensors"],
    "mqtt": ["paho-mqtt>=2.0", "av>=14.4"],
    "live": ["av>=14.4"],
    # zeroseg-serve --engine triton asks the server over gRPC; http is for the tests. It wants protobuf < 7: see
    # docs/serving.md. Before 0.7 the server's wheel did not say that it reads nothing from NumPy 2, so a resolver takes
    # an older one beside NumPy 2
    "triton": [
        "nvidia-pytriton>=0.7; platform_system == 'Linux' and platform_machine == 'x86_64'",
        "tritonclient[http,grpc]",
        "fastapi>=0.115",
        "uvicorn>=0.30",
        "python-multipart>=0.0.18",
    ],
    "serve": ["av>=14.4", "fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.18"],
}
# what the tests compare against, and the linter; OpenCV 5 has no face finder (training/person_probe.py)
EXTRAS["dev"] = sorted(
    {
        *EXTRAS["train"],
        *EXTRAS["export"],
        *EXTRAS["supervision"],
        *EXTRAS["serve"],
        *EXTRAS["ray"],
        *EXTRAS["datasets"],
        *EXTRAS["eval"],
        *EXTRAS["search"],
        *EXTRAS["hub"],
        *EXTRAS["mqtt"],
        *EXTRAS["openvino"],
        *EXTRAS["rtx"],
        "boto3",
        "httpx2",
        "moto[server]",
        "playwright",
        "schemathesis",
        "pytest",
        "pytest-xdist",
        "ruff",
        "cmake",
        "opencv-python-headless<5",
        "transformers",
        "torchmetrics",
        "pycocotools",
        "scipy",
        "webdataset",
    }
)


@functools.cache
def native_library() -> Path | None:
    """Build the native CPU library; None where it cannot be built or is not wanted.

    ZEROSEG_BUILD_NATIVE: unset tries, and goes on without (NumPy does the same work, slower); 1 makes a failure an
    error; 0 does not try.
    """
    wanted = os.environ.get("ZEROSEG_BUILD_NATIVE", "")
    if wanted == "0":
        return None
    build = HERE / "build" / "native"
    shutil.rmtree(build, ignore_errors=True)  # another compiler or option may have made it
    cmake = shutil.which("cmake") or "cmake"
    output = build / "out"
    try:
        for command in (
            [cmake, "-S", HERE, "-B", build, f"-DZEROSEG_LIBRARY_DIR={output}"],
            [cmake, "--build", build, "--config", "Release"],
        ):
            subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or getattr(error, "stdout", None) or str(error)).strip()
        if wanted == "1":
            raise SystemExit(f"zeroseg: ZEROSEG_BUILD_NATIVE=1, but the library cannot be built:\n{reason}") from None
        print(f"zeroseg: no native CPU library ({reason.splitlines()[0]}); NumPy is used instead", file=sys.stderr)
        return None
    [library] = output.glob("*zeroseg_cpu.*")
    return library


@functools.cache
def cuda_library() -> Path | None:
    """Build the CUDA library where ZEROSEG_CUDA=1 asks for it; a failure is an error. ZEROSEG_CUDA_ONLY="75;90" is for
    those capabilities only."""
    if os.environ.get("ZEROSEG_CUDA") != "1":
        return None
    build = HERE / "build" / "cuda"
    shutil.rmtree(build, ignore_errors=True)
    cmake = shutil.which("cmake") or "cmake"
    output = build / "out"
    for command in (
        [
            cmake,
            "-S",
            HERE,
            "-B",
            build,
            f"-DZEROSEG_LIBRARY_DIR={output}",
            "-DZEROSEG_CUDA=ON",
            f"-DZEROSEG_CUDA_ONLY={os.environ.get('ZEROSEG_CUDA_ONLY', '')}",
        ],
        [cmake, "--build", build, "--config", "Release", "--target", "zeroseg_cuda"],
    ):
        try:
            subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", None) or getattr(error, "stdout", None) or str(error)).strip()
            if "nvcc was not found" in reason:
                reason = "nvcc was not found; install the CUDA toolkit or set CUDA_HOME"
            raise SystemExit(f"zeroseg: ZEROSEG_CUDA=1, but the library cannot be built: {reason}") from None
    [library] = output.glob("*zeroseg_cuda.*")
    return library


class BuildPy(build_py):
    """Puts the libraries beside zeroseg/kernels/_native.py: in the wheel, or in an editable checkout."""

    def run(self):
        super().run()
        target = HERE / "kernels" if self.editable_mode else Path(self.build_lib) / "zeroseg" / "kernels"
        for library in filter(None, (native_library(), cuda_library())):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, target / library.name)


class BdistWheel(bdist_wheel):
    """With the library, which ctypes loads, a wheel serves any Python 3 of this platform; without it, any machine."""

    def run(self):
        self.root_is_pure = native_library() is None and cuda_library() is None
        self.distribution.has_ext_modules = lambda: not self.root_is_pure  # where `install` puts what it copies
        super().run()

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(
    name="zeroseg",
    version=re.search(r'^__version__ = "(.+)"$', (HERE / "zeroseg/__init__.py").read_text(), re.M)[1],
    description="Open-vocabulary segmentation of photos, small enough for a CPU",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.10",
    packages=packages,
    package_dir={f"zeroseg.{folder}": folder for folder in FOLDERS},
    package_data={
        "zeroseg": ["py.typed", "bundled/*", "live/page/*", "gst/python/*.py"],
        "zeroseg.export": ["photos/*", "web/page/*"],
    },
    include_package_data=False,  # the sdist carries sources and tests that no installed copy needs
    install_requires=["numpy>=1.24", "pillow>=10.1", "click>=8.1", "onnxruntime>=1.17", "tqdm>=4.64"],
    extras_require=EXTRAS,
    cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel},
    entry_points={
        "console_scripts": [
            "zeroseg = zeroseg.cli:main",
            "zeroseg-infer = zeroseg.cli:infer",
            "zeroseg-export = zeroseg.export.cli:main",
            "zeroseg-serve = zeroseg.commands.serve:main",
        ]
    },
)
