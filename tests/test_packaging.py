"""The wheel, installed alone in a clean environment: small, without torch, and its console scripts work."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroseg.artifact import BUNDLED

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
INSTALLED_LIMIT_MB = 250
WHEEL_LIMIT_MB = 45


def call(*command, cwd):
    """Run a command away from the checkout; its output, or a failure that shows it."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the checkout, without what earlier builds left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns(".git", "build", "dist", "runs", "*.egg-info", "__pycache__", "*.so", "*.dylib")
    shutil.copytree(ROOT, folder / "source", ignore=leave)
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        folder / "source",
        cwd=folder,
    )
    [path] = folder.glob("zeroseg-*.whl")
    return path


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """The folder of a virtual environment that holds the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    call(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return folder


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"zeroseg"}
    ours = {name for name in names if name.startswith("zeroseg/")}
    expected = {
        "zeroseg/__init__.py",
        "zeroseg/py.typed",
        "zeroseg/cli.py",
        "zeroseg/segment/segmenter.py",
        "zeroseg/kernels/_dispatch.py",
        "zeroseg/kernels/mask_decode/__init__.py",
    }
    assert expected <= ours
    for folder in ("zeroseg", "kernels", "export", "training", "bench"):
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
        assert {file if folder == "zeroseg" else f"zeroseg/{file}" for file in files} <= ours
    assert {f"zeroseg/bundled/{path.name}" for path in BUNDLED.glob("*")} <= ours
    assert {f"zeroseg/live/page/{path.name}" for path in (ROOT / "zeroseg/live/page").glob("*")} <= ours
    assert {f"zeroseg/export/web/page/{path.name}" for path in (ROOT / "export/web/page").glob("*")} <= ours
    assert not [name for name in ours if "/tests/" in name or name.endswith(".pt")]
    libraries = [name for name in ours if name.endswith((".so", ".dylib"))]
    if shutil.which("c++"):  # cmake comes with the build's own requirements
        assert libraries and "py3-none-" in wheel.name and not wheel.name.endswith("-any.whl")
    else:
        assert not libraries and wheel.name.endswith("py3-none-any.whl")
    info = {name.split("/", 1)[1] for name in names if ".dist-info/" in name}
    assert {"licenses/LICENSE", "licenses/NOTICE", "entry_points.txt"} <= info


def test_wheel_is_small(wheel):
    assert wheel.stat().st_size < WHEEL_LIMIT_MB * 1e6


def test_clean_install_is_small_and_without_torch(clean):
    listed = call("venv/bin/python", "-m", "pip", "list", "--format", "freeze", cwd=clean).lower()
    assert "torch" not in listed and "zeroseg==" in listed
    [packages] = (clean / "venv/lib").glob("python*/site-packages")
    without = {"pip", "setuptools"}  # the environment's own
    size = sum(
        file.stat().st_size
        for path in packages.iterdir()
        if path.name.split("-")[0] not in without
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    )
    assert size <= INSTALLED_LIMIT_MB * 1e6, f"{size / 1e6:.0f} MB"


def test_installed_copy_is_used(clean):
    where = call("venv/bin/python", "-c", "import zeroseg.kernels.mask_decode as m; print(m.__file__)", cwd=clean)
    assert "site-packages" in where


@pytest.mark.parametrize("script", ["zeroseg", "zeroseg-infer", "zeroseg-export", "zeroseg-serve"])
def test_console_scripts_explain_themselves(clean, script):
    assert "Usage:" in call(f"venv/bin/{script}", "--help", cwd=clean)


def test_doctor_runs(clean):
    output = call("venv/bin/zeroseg", "doctor", cwd=clean)
    assert "no: torch is not installed" in output
    assert ("native" if shutil.which("c++") else "reference; not native") in output


def test_machine_without_a_compiler_still_installs(tmp_path):
    """Builds with compilers out of reach: a wheel for any machine, whose kernels say why they run on NumPy."""
    leave = shutil.ignore_patterns(
        ".git", "build", "dist", "runs", "*.egg-info", "__pycache__", "*.so", "*.dylib", "tests", "docs", "models"
    )
    shutil.copytree(ROOT, tmp_path / "source", ignore=leave)
    call(
        "env",
        "CXX=/nowhere/c++",
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        ".",
        tmp_path / "source",
        cwd=tmp_path,
    )
    [path] = tmp_path.glob("zeroseg-*.whl")
    assert path.name.endswith("py3-none-any.whl")
    zipfile.ZipFile(path).extractall(tmp_path / "installed")
    code = (
        "import sys; sys.path.insert(0, 'installed')\nimport numpy as np\n"
        "from zeroseg.kernels import mask_decode as m\nfrom zeroseg.kernels._dispatch import last_impl\n"
        "m.mask_decode(np.zeros((2, 3, 4), np.float32), np.arange(2), (5, 6))\n"
        "print(last_impl('mask_decode'), m.IMPLEMENTATIONS['native']())"
    )
    output = call(sys.executable, "-c", code, cwd=tmp_path)
    assert output.startswith("reference ") and "was not built" in output


@pytest.mark.skipif(not (BUNDLED / "tiny.onnx").is_file(), reason="this checkout has no bundled model")
def test_infer_finds_the_cat(clean):
    photo = ROOT / "docs/photos/chelsea.jpg"
    call("venv/bin/zeroseg-infer", photo, "--labels", "dog,cat,sofa", "--out", "found", cwd=clean)
    largest = json.loads((clean / "found/chelsea.json").read_text(encoding="utf-8"))["found"][0]
    assert largest["category"] == "cat" and largest["area"] > 0.5 * 300 * 451
    overlay = np.asarray(Image.open(clean / "found/chelsea_overlay.png").convert("RGB"))[:300, :451].astype(int)
    assert np.abs(overlay - np.asarray(Image.open(photo)).astype(int)).mean() > 5  # of 255: it is tinted
