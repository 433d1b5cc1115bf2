"""Metadata and packages. Build system, ruff and pytest settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Each folder is the package zeroseg.<folder>. They deliberately have no __init__.py of their own: with one, standing in
# the checkout would make OUR kernels/ hide the PyPI distribution of that name. tests/test_layout.py guards this.
FOLDERS = ["kernels", "export", "training", "bench"]

packages = ["zeroseg"] + [f"zeroseg.{name}" for name in find_packages("zeroseg")]
for folder in FOLDERS:
    packages += [f"zeroseg.{folder}"] + [f"zeroseg.{folder}.{name}" for name in find_packages(folder)]

EXTRAS = {
    "train": ["torch", "torchvision", "timm", "open_clip_torch", "safetensors", "matplotlib"],
    "export": ["torch", "timm", "onnx", "onnxscript"],
    "gpu": ["torch", "triton; platform_system == 'Linux'"],
    # TensorRT itself comes with the CUDA or JetPack installation; its wheels fetch their libraries from another index
    "trt": ["tensorrt"],
    "supervision": ["supervision"],
}
# what the tests compare against, and the linter
EXTRAS["dev"] = sorted({*EXTRAS["train"], *EXTRAS["export"], *EXTRAS["supervision"],
                        "pytest", "ruff", "build", "transformers", "torchmetrics", "pycocotools", "scipy"})

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
    package_data={"zeroseg": ["py.typed", "bundled/*", "words/*.npz", "words/*.txt"]},
    install_requires=["numpy>=1.24", "pillow>=10.1", "click>=8.1", "onnxruntime>=1.17", "tqdm>=4.64"],
    extras_require=EXTRAS,
    entry_points={"console_scripts": [
        "zeroseg = zeroseg.cli:main",
        "zeroseg-infer = zeroseg.cli:infer",
        "zeroseg-export = zeroseg.export.cli:main",
    ]},
)
