"""A tiny model registered with open_clip, its checkpoint, and a text cache of its own."""

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The name, as for --model, of a class-token tower: window 64, patch 16."""
    pytest.importorskip("torch")
    pytest.importorskip("open_clip")
    pytest.importorskip("timm")
    from tests.dense import tiny_towers

    return f"open_clip:zeroseg-tiny/{tiny_towers.save('class-token', tmp_path_factory.mktemp('weights'))}"


@pytest.fixture(autouse=True)
def text_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zeroseg" / "text"
