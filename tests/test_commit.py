"""The commit that figures and exported files name."""

import shutil
import subprocess

import pytest

from zeroseg.commit import current_commit


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_is_the_checkouts_own(tmp_path, monkeypatch):
    def git(*command):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True, capture_output=True, text=True)

    assert current_commit(root=tmp_path) is None
    git("init", "-q")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_text("one")
    git("add", "part")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "--short", "HEAD").stdout.strip()
    assert current_commit("part", root=tmp_path) == commit
    (tmp_path / "part" / "file").write_text("two")
    assert current_commit("part", root=tmp_path) == commit + "+" and current_commit("other", root=tmp_path) == commit
    assert current_commit(root=tmp_path / "part") is None  # a folder of somebody's checkout is none itself
    monkeypatch.setenv("PATH", "")
    assert current_commit(root=tmp_path) is None
