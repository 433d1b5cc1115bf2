"""model.pt and checkpoint.pt: a damaged byte is told, a full disk is one line, equal contents are equal bytes."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.test_checkpoint import SMALL
from zeroseg.errors import ZerosegError
from zeroseg.model.checkpoint import load_checkpoint, load_model, save_checkpoint
from zeroseg.model.torch_file import load_torch, save_torch
from zeroseg.training.run_folder import RunFolder

FLIPS = 400
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def content():
    torch.manual_seed(0)
    return {"format": 1, "step": 3, "student": {f"w{i}": torch.randn(7, i + 5) for i in range(6)}, "note": "x"}


def equal(a, b) -> bool:
    tensors = zip(a["student"].items(), b["student"].items(), strict=True)
    return all(m == n and torch.equal(x, y) for (m, x), (n, y) in tensors) and (a["step"], a["note"]) == (
        b["step"],
        b["note"],
    )


def test_no_flipped_bit_gives_other_numbers(content, tmp_path):
    """Every member's checksum is checked; a flip in what zip leaves open (padding, times) changes nothing."""
    folder, rng, told = RunFolder(tmp_path), np.random.default_rng(5), 0
    folder.save_checkpoint(content)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for place in rng.integers(0, len(whole), FLIPS):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert equal(folder.load_checkpoint(), content), place
        except ZerosegError as error:
            told += 1
            assert len(str(error).splitlines()) == 1 and str(path) in str(error)
    assert told > FLIPS / 3


def test_the_damaged_weight_is_named(tmp_path):
    from zeroseg.model.zeroseg import ZeroSeg

    model = ZeroSeg(SMALL)
    save_checkpoint(tmp_path / "model.pt", model)
    data = bytearray((tmp_path / "model.pt").read_bytes())
    weight = model.state_dict()["head.norm.weight"].numpy().tobytes()
    data[data.index(weight) + 2] ^= 8
    (tmp_path / "model.pt").write_bytes(data)
    with pytest.raises(ZerosegError, match=r"model.pt: is damaged in archive/data/\d+ .its checksum differs.; copy or"):
        load_model(tmp_path / "model.pt")


def test_equal_contents_are_equal_bytes(content, tmp_path):
    """Whatever the process and the file are called."""
    code = (
        "import sys, torch; from pathlib import Path; from tests.model.test_checkpoint import SMALL\n"
        "from zeroseg.model.checkpoint import save_checkpoint; from zeroseg.model.zeroseg import ZeroSeg\n"
        "torch.manual_seed(3); save_checkpoint(sys.argv[1], ZeroSeg(SMALL), sidecar={'a': 1})"
    )
    for name in ("model.pt", "other.pt"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], cwd=ROOT, check=True)
    assert (tmp_path / "model.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


@pytest.fixture
def room_for_little():
    """Files of this process may grow to 4 KiB, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("save", [RunFolder.save_checkpoint, lambda folder, x: save_torch(x, folder.path / "model.pt")])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, room_for_little, save):
    folder = RunFolder(tmp_path)
    save(folder, {"step": 1})
    [path] = tmp_path.iterdir()
    before = path.read_bytes()
    with pytest.raises(ZerosegError, match=f"{path.name}: cannot be written") as error:
        save(folder, {"step": 2, "student": torch.zeros(100_000)})
    assert len(str(error.value).splitlines()) == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.to("meta"), "expected a dense array of real numbers, got a meta tensor"),
        (lambda w: w.to_sparse(), "got a sparse_coo float32 tensor"),
        (lambda w: w.to_sparse_csr(), "got a sparse_csr float32 tensor"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "got a strided qint8 tensor"),
        (lambda w: w.to(torch.complex64), "got a strided complex64 tensor"),
        (lambda w: (100 * w).to(torch.int8), "expected float32, got int8, whose scale is not in the file"),
        (lambda w: w > 0, "expected float32, got bool"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_no_plain_numbers_are_named(tmp_path, spoil, message):
    from zeroseg.model.zeroseg import ZeroSeg

    path = tmp_path / "model.pt"
    model = ZeroSeg(SMALL)
    name = next(key for key, value in model.state_dict().items() if value.ndim == 2)
    save_checkpoint(path, model)
    stored = torch.load(path, weights_only=True)
    stored["state_dict"][name] = spoil(stored["state_dict"][name])
    torch.save(stored, path)
    with pytest.raises(ZerosegError) as error:
        load_model(path)
    assert str(path) in str(error.value) and message in str(error.value) and name in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_what_is_read_is_what_was_saved(content, tmp_path):
    save_torch(content, tmp_path / "x.pt")
    assert equal(load_torch(tmp_path / "x.pt", "file"), content)
    with pytest.raises(ZerosegError, match="expected format, config"):
        load_checkpoint(tmp_path / "x.pt")
