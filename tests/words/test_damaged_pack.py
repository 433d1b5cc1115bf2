"""Array files whose headers claim a wrong size give one line and allocate nothing."""

import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from zeroseg.cli import main
from zeroseg.dense.text import _read
from zeroseg.errors import ZerosegError
from zeroseg.words import LabelPack
from zeroseg.words.stored_arrays import check_arrays

VECTORS = np.eye(2, 512, dtype=np.float32)


def claiming(path, shape: str):
    """A pack of two labels whose vectors' header claims this shape (as wide as the true one, in characters)."""
    LabelPack(["cat", "dog"], VECTORS).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = members["vectors.npy"]
    assert b"'shape': (2, 512), }" in header
    claim = f"'shape': {shape}, }}".encode()
    end = header.index(b"\n")
    body = header[: header.index(b"'shape'")] + claim
    members["vectors.npy"] = body + b" " * (end - len(body)) + header[end:]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("shape", ["(1000000000, 512)", "(2, 511)", "(3, 512)", "(2, 256)", "()"])
def test_a_header_that_claims_other_bytes_is_one_line(tmp_path, shape):
    path = claiming(tmp_path / "labels.npz", shape)
    with pytest.raises(ZerosegError, match=r"labels.npz: expected a label pack .*vectors has 4096 bytes") as error:
        LabelPack.load(path)
    assert "\n" not in str(error.value)
    done = CliRunner().invoke(main, ["infer", "a.jpg", "--labels", str(path)])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)


def test_a_damaged_text_cache_is_made_again(tmp_path):
    assert _read(claiming(tmp_path / "cache.npz", "(1000000000, 512)")) == {}
    np.savez(tmp_path / "good.npz", names=np.array(["cat", "dog"]), vectors=VECTORS)
    np.testing.assert_array_equal(_read(tmp_path / "good.npz")["dog"], VECTORS[1])


def test_what_unpacks_to_more_than_is_sensible_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", vectors=np.zeros(2**27 + 1, np.float32))
    with pytest.raises(ValueError, match="it unpacks to 512 MiB"):
        check_arrays(tmp_path / "bomb.npz")
