"""Where onnxruntime-web comes from, and what is refused. Small stand-ins take the place of its files."""

import hashlib
import io
import tarfile
import urllib.error

import pytest
from click.testing import CliRunner

from tests.color_model import write_color_model
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.export.cli import main
from zeroseg.export.web import runtime

FILES = {"dist/a.mjs": b"export const a = 1;", "dist/a.wasm": b"\0asm"}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """The package has two small files, npm is missing and the registry cannot be reached."""

    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    files = {path: (path.replace("dist/a", "ort"), hashlib.sha256(data).hexdigest()) for path, data in FILES.items()}
    monkeypatch.setattr(runtime, "FILES", files)
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    monkeypatch.setattr(runtime.urllib.request, "urlopen", refuse)


def tarball(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["tarball", "package", "dist", "node_modules"])
def test_files_come_from_what_is_given(kind, tmp_path):
    if kind == "tarball":
        (tmp_path / "given").write_bytes(tarball(FILES))
    else:
        below = {"package": "dist", "dist": ".", "node_modules": "node_modules/onnxruntime-web/dist"}[kind]
        (tmp_path / "given" / below).mkdir(parents=True)
        for path, data in FILES.items():
            (tmp_path / "given" / below / path.removeprefix("dist/")).write_bytes(data)
    assert runtime.runtime_files(tmp_path / "given") == {"ort.mjs": FILES["dist/a.mjs"], "ort.wasm": b"\0asm"}


@pytest.mark.parametrize(
    "content, message",
    [
        (tarball({**FILES, "dist/a.wasm": b"other"}), "dist/a.wasm is not that of onnxruntime-web@"),
        (tarball({"dist/a.mjs": FILES["dist/a.mjs"]}), "dist/a.wasm of onnxruntime-web@"),
        (b"no tarball", "expected the tarball that npm pack onnxruntime-web@"),
        (tarball(FILES)[:60], "expected the tarball that npm pack onnxruntime-web@"),
    ],
    ids=["other bytes", "file missing", "no tarball", "cut"],  # a tarball holds the time, so it cannot be a test's name
)
def test_other_files_are_refused(content, message, tmp_path):
    (tmp_path / "given.tgz").write_bytes(content)
    with pytest.raises(ZerosegError, match="given.tgz: ") as error:
        runtime.runtime_files(tmp_path / "given.tgz")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_machine_without_a_network_is_told_what_to_do():
    with pytest.raises(UnavailableError, match="no route to host.*give --ort-web a folder or tarball") as error:
        runtime.runtime_files(None)
    assert "\n" not in str(error.value)


def test_download_of_other_bytes_is_refused(monkeypatch):
    monkeypatch.setattr(runtime.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(tarball(FILES)))
    with pytest.raises(ZerosegError, match="its SHA-512 differs"):
        runtime.runtime_files(None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--ort-web", "."], "expected exactly one of --onnx"),
        (["--onnx", "--ort-web", "."], "--ort-web: is for --web; leave it out"),
        (["--web", "site", "--precision", "fp16"], "--precision: has no effect with --web"),
        (["--web", "site", "-o", "x.onnx"], "--out: has no effect with --web"),
        (["--web", "site", "--onnx"], "expected exactly one of --onnx"),
        (["--web", "full"], "full: holds something else than a page of zeroseg; choose another folder"),
        (["--web", "full/mine.txt"], "mine.txt: is a file, expected a folder"),
        (["--web", "site"], "no route to host"),
    ],
)
def test_wrong_options_are_explained(arguments, message, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    model = write_color_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    done = CliRunner().invoke(main, [str(model), *arguments])
    assert done.exit_code in (1, 2) and message in done.output and "Traceback" not in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colors.json", "colors.onnx", "full"]


def test_model_of_another_space_is_refused(tmp_path):
    pytest.importorskip("onnx")
    model = write_color_model(tmp_path, embedding_space="my/space")
    done = CliRunner().invoke(main, [str(model), "--web", str(tmp_path / "site")])
    assert done.exit_code == 1 and "has the space my/space; the page needs a network with segments" in done.output
