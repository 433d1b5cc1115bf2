"""zeroseg-serve --engine triton: its messages if it cannot serve."""

import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

pytest.importorskip("fastapi")

from zeroseg.commands.serve import serve  # noqa: E402
from zeroseg.errors import UnavailableError  # noqa: E402


@pytest.mark.parametrize(
    "options, line",
    [
        (["test://"], "--engine triton serves photos only; leave the SOURCE out, or use --engine own"),
        (["--short-side", "96"], "--short-side: --engine triton runs photos at the model's own size; use --engine own"),
        (
            ["--triton-host", "0.0.0.0"],
            "--triton-host 0.0.0.0 allows access from the network, and Triton has no token: give ",
        ),
        (["--host", "0.0.0.0"], "give --token SECRET, or --insecure"),
        (["--model", "nowhere.onnx"], "nowhere.onnx: no such model file"),
        (["--max-batch", "0"], "0 is not in the range"),
    ],
)
def test_what_cannot_be_served_is_one_line(options, line):
    done = CliRunner().invoke(serve, ["--labels", "cat", "--engine", "triton", *options])
    assert done.exit_code != 0 and line in done.output and "Traceback" not in done.output


def test_missing_server_is_named(monkeypatch, tmp_path):
    from zeroseg.serving import server_files

    monkeypatch.setattr(server_files, "find_spec", lambda name: None)
    done = CliRunner().invoke(serve, ["--labels", "cat", "--engine", "triton", "--triton-http", "0"])
    assert done.exit_code == 1
    assert done.output.strip() == (
        "Error: --engine triton needs the Triton Inference Server, which is not installed: "
        "pip install 'zeroseg[triton]' (Linux x86-64, glibc 2.35 or newer)"
    )


def test_numpy_2_is_refused(monkeypatch, tmp_path):
    """With NumPy 2 every array reached the server's Python processes empty, and the answers were wrong."""
    from zeroseg.serving import server_files

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    root = tmp_path / "pytriton" / "tritonserver"
    for file in ("bin/tritonserver", f"python_backend_stubs/{version}/triton_python_backend_stub"):
        (root / file).parent.mkdir(parents=True)
        (root / file).touch()
    monkeypatch.setattr(
        server_files, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "pytriton" / "__init__.py"))
    )
    monkeypatch.setattr(server_files.np, "__version__", "2.4.6")
    with pytest.raises(UnavailableError, match=r"needs NumPy below 2, found 2\.4\.6: pip install"):
        server_files.find_server(tmp_path / "backends")
