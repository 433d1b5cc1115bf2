"""Engines of TensorRT for RTX before they run: header as the real library reads it, manifest, cache file."""

from types import SimpleNamespace

import pytest

from zeroseg.errors import ZerosegError
from zeroseg.runtime.rtx_engine import REASONS, CachedContext, check_target, why_invalid
from zeroseg.runtime.trt_library import make_logger
from zeroseg.runtime.trt_memory import Gpu


def test_the_library_tells_a_foreign_file_by_its_header(rtx):
    logger = make_logger(rtx)
    runtime = rtx.Runtime(logger)
    junk = b"not an engine".ljust(runtime.engine_header_size, b"\0")
    assert why_invalid(rtx, runtime, junk, logger.reason()) == "it is not an engine of TensorRT for RTX"


def test_every_diagnostic_of_the_library_has_its_words(rtx):
    assert set(REASONS) == set(rtx.EngineInvalidityDiagnostics.__members__)


@pytest.mark.parametrize("validity, found, said", [
    ("VALID", 0, None), ("SUBOPTIMAL", 0, None), ("INVALID", 0, "what it logged"),
    ("INVALID", 2, "it was not built for this GPU"),
    ("INVALID", 5, "another version of TensorRT for RTX built it; the NVIDIA driver is too old"),
])  # fmt: skip
def test_diagnostics_become_words(rtx, validity, found, said):
    runtime = SimpleNamespace(get_engine_validity=lambda header: (rtx.EngineValidity.__members__[validity], found))
    assert why_invalid(rtx, runtime, b"", "what it logged") == said


@pytest.mark.parametrize("capabilities, version, gpu, said", [
    (["8.6", "8.9"], "1.7.1.116", Gpu("RTX 3060", "8.6"), None),
    ([], "1.7.1.116", Gpu("RTX 5090", "12.0"), None),
    (["8.6"], "1.7.1.116", Gpu("L4", "8.9"), "tiny.rtx: built for compute capability 8.6, here is L4 (8.9); again"),
    ([], "1.7.1.116", Gpu("T4", "7.5"), "tiny.rtx: built for GPUs of compute capability 8.0 on, here is T4 (7.5); "
     "again"),
    (["8.6"], "1.6.0", Gpu("L4", "8.9"), "tiny.rtx: built by TensorRT for RTX 1.7.1.116, found 1.6.0; built for "
     "compute capability 8.6, here is L4 (8.9); again"),
])  # fmt: skip
def test_the_manifest_is_held_against_the_machine(capabilities, version, gpu, said):
    if said is None:
        check_target("tiny.rtx", capabilities, "1.7.1.116", gpu, version, "again")
        return
    with pytest.raises(ZerosegError) as caught:
        check_target("tiny.rtx", capabilities, "1.7.1.116", gpu, version, "again")
    assert str(caught.value) == said


class Engine:
    """Keeps what was compiled in its cache, as the library's does; takes back only what begins with its mark."""

    def create_runtime_config(self):
        self.config = SimpleNamespace(create_runtime_cache=Cache, set_runtime_cache=self._set)
        return self.config

    def _set(self, cache):
        self.cache = cache

    def create_execution_context(self, config):
        assert config is self.config and self.cache is not None, "the context is made with the cache in its config"
        return self


class Cache:
    def __init__(self):
        self.kernels = b""

    def deserialize(self, blob):
        if not blob.startswith(b"this GPU:"):
            return False
        self.kernels = blob.removeprefix(b"this GPU:")
        return True

    def serialize(self):
        return memoryview(b"this GPU:" + self.kernels)


def test_what_the_gpu_compiled_is_kept_beside_the_engine(tmp_path):
    path, engine = tmp_path / "tiny.rtx", Engine()
    first = CachedContext(engine, path)
    engine.cache.kernels += b"one,"
    first.save()
    assert (tmp_path / "tiny.rtx.cache").read_bytes() == b"this GPU:one,"
    again = Engine()
    second = CachedContext(again, path)
    assert again.cache.kernels == b"one," and second.context is again
    before = (tmp_path / "tiny.rtx.cache").stat().st_ino
    second.save()
    assert (tmp_path / "tiny.rtx.cache").stat().st_ino == before  # nothing new, nothing written
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.rtx.cache"]


def test_another_gpus_cache_is_replaced(tmp_path):
    (tmp_path / "tiny.rtx.cache").write_bytes(b"another GPU's")
    engine = Engine()
    kept = CachedContext(engine, tmp_path / "tiny.rtx")
    engine.cache.kernels = b"mine"
    kept.save()
    assert (tmp_path / "tiny.rtx.cache").read_bytes() == b"this GPU:mine"


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path, monkeypatch, caplog):
    from pathlib import Path

    def full(self, target):
        raise OSError(28, "No space left on device")

    engine = Engine()
    kept = CachedContext(engine, tmp_path / "tiny.rtx")
    engine.cache.kernels = b"mine"
    monkeypatch.setattr(Path, "replace", full)
    kept.save()
    assert "not written" in caplog.text and not list(tmp_path.iterdir())
