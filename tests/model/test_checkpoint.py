"""model.pt survives the round trip, and every kind of wrong file gets one clear line."""

from dataclasses import replace

import pytest
import torch

from zeroseg.config import PRESETS
from zeroseg.errors import ZerosegError
from zeroseg.model.checkpoint import load_checkpoint, load_model, save_checkpoint
from zeroseg.model.zeroseg import ZeroSeg

SMALL = replace(
    PRESETS["base"], width=24, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, head_width=24,
    head_heads=2, head_depths=(1, 1, 1), projector_hidden=32, embedding_dim=16, image_size=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return ZeroSeg(SMALL).eval()


def test_round_trip_gives_the_same_outputs(model, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, model, sidecar={"threshold": 0.25})
    loaded, sidecar = load_model(path)
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(loaded(image).segment_embeddings, model(image).segment_embeddings)
    assert sidecar == {"threshold": 0.25} and not loaded.training
    assert loaded.reconstruction is None and not loaded.config.reconstruction
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_training_weights_can_be_kept(model, tmp_path):
    save_checkpoint(tmp_path / "model.pt", model, inference=False)
    loaded, _ = load_model(tmp_path / "model.pt")
    assert loaded.config == SMALL
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values()))


def test_half_is_half_the_size_and_loads_as_float32(model, tmp_path):
    save_checkpoint(tmp_path / "full.pt", model)
    save_checkpoint(tmp_path / "half.pt", model, half=True)
    weights = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("reconstruction."))
    saved = (tmp_path / "full.pt").stat().st_size - (tmp_path / "half.pt").stat().st_size
    assert saved == pytest.approx(2 * weights, rel=0.1)
    loaded, _ = load_model(tmp_path / "half.pt")
    for (name, a), b in zip(loaded.named_parameters(), (p for n, p in model.named_parameters() if "reconst" not in n)):
        assert a.dtype == torch.float32, name
        torch.testing.assert_close(a, b.half().float(), atol=0, rtol=0)


def test_file_is_plain_data(model, tmp_path):
    save_checkpoint(tmp_path / "model.pt", model)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(content) == {"format", "config", "state_dict", "sidecar"} and content["format"] == 1


def test_half_refuses_weights_out_of_range(tmp_path):
    model = ZeroSeg(SMALL)
    model.head.norm.weight.data.fill_(1e6)
    with pytest.raises(ZerosegError, match="float16, head.norm.weight is out of its range"):
        save_checkpoint(tmp_path / "model.pt", model, half=True)
    assert not list(tmp_path.iterdir())


def test_failed_save_keeps_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    save_checkpoint(path, model)
    before = path.read_bytes()

    def interrupted(content, file):
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(ZerosegError, match="cannot be written .No space left"):
        save_checkpoint(path, model)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a zeroseg checkpoint"),
        (b"hello there", "not a zeroseg checkpoint"),
        (b"PK\x03\x04" + bytes(50), "not a zeroseg checkpoint"),
        ([1, 2], "expected format, config, state_dict"),
        ({"model": {}}, "expected format, config, state_dict"),
        ({"format": 9, "config": {}, "state_dict": {}}, "checkpoint format 9, this version reads 1"),
        ({"format": 1, "config": {"colour": 1}, "state_dict": {}}, "unknown field.* colour"),
        ({"format": 1, "state_dict": {}}, "expected a dict of fields"),
        ({"format": 1, "config": SMALL.to_dict(), "state_dict": {}}, "weights do not fit"),
        ({"format": 1, "config": SMALL.to_dict(), "state_dict": {"a": "b"}}, "state_dict"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, message):
    path = tmp_path / "wrong.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ZerosegError, match=message) as error:
        load_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ZerosegError, match="missing.pt: cannot be read"):
        load_checkpoint(tmp_path / "missing.pt")


def test_code_in_a_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": 1, "config": Trap(), "state_dict": {}}, tmp_path / "trap.pt")
    with pytest.raises(ZerosegError, match="not a zeroseg checkpoint"):
        load_checkpoint(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()
