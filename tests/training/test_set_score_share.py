"""training/set_score_share.py: the configuration changes; weights are rounded only where that is asked for."""

import zlib

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from zeroseg.config import PRESETS
from zeroseg.model.checkpoint import load_checkpoint, load_model, save_checkpoint
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training.set_score_share import main


@pytest.mark.parametrize("half", [True, False])
def test_only_the_share_changes(tmp_path, half):
    torch.manual_seed(0)
    before, after = tmp_path / "model.pt", tmp_path / "shared.pt"
    model = ZeroSeg(PRESETS["tiny"])
    model.readout.set_vectors(torch.nn.functional.normalize(torch.randn(1001, 512), dim=1), 0.1 * torch.randn(512))
    save_checkpoint(before, model, sidecar={"name": "x", "card": {"photos": 3}}, half=half)
    done = CliRunner().invoke(main, [str(before), "-o", str(after), "--share", "0.6"])
    assert done.exit_code == 0 and f"wrote {after}" in done.output, done.output
    old, new = load_checkpoint(before), load_checkpoint(after)
    assert new.config.to_dict() == old.config.to_dict() | {"score_share": 0.6}
    assert new.sidecar == old.sidecar | {"card": {"photos": 3, "score_share": 0.6}}
    stored = [torch.load(path, weights_only=True)["state_dict"] for path in (before, after)]
    assert all(
        torch.equal(stored[1][name], value) and stored[1][name].dtype == value.dtype
        for name, value in stored[0].items()
    )
    image = torch.randn(1, 3, 64, 96)
    one, two = (load_model(path)[0].eval() for path in (before, after))
    with torch.no_grad():
        assert torch.equal(one(image).segment_embeddings, two(image).segment_embeddings)
    assert (one.scoring().share, two.scoring().share) == (0.0, 0.6)
    np.testing.assert_array_equal(one.scoring().centre, two.scoring().centre)


def test_half_rounds_the_weights_and_nothing_else(tmp_path):
    model = ZeroSeg(PRESETS["tiny"])
    save_checkpoint(tmp_path / "model.pt", model, sidecar={"name": "x"})
    done = CliRunner().invoke(main, [str(tmp_path / "model.pt"), "-o", str(tmp_path / "half.pt"), "--half"])
    assert done.exit_code == 0, done.output
    stored = torch.load(tmp_path / "half.pt", weights_only=True)["state_dict"]
    for name, value in model.state_dict().items():
        if name in stored:
            assert torch.equal(stored[name], value.half() if value.is_floating_point() else value), name
    assert (tmp_path / "half.pt").stat().st_size < 0.55 * (tmp_path / "model.pt").stat().st_size


def test_bits_round_the_rows_of_trained_matrices_and_nothing_else(tmp_path):
    torch.manual_seed(0)
    model = ZeroSeg(PRESETS["tiny"])
    save_checkpoint(tmp_path / "model.pt", model, sidecar={"name": "x"})
    done = CliRunner().invoke(main, [str(tmp_path / "model.pt"), "-o", str(tmp_path / "8.pt"), "--half", "--bits", "8"])
    assert done.exit_code == 0, done.output
    stored, trained = torch.load(tmp_path / "8.pt", weights_only=True)["state_dict"], set()
    matrices = {name for name, value in model.named_parameters() if value.dim() > 1 and not name.startswith("stem.")}
    for name, value in model.state_dict().items():
        if name not in matrices:
            assert name not in stored or torch.equal(stored[name], value.half() if value.is_floating_point() else value)
            continue
        for row, exact in zip(stored[name].double().flatten(1), value.double().flatten(1), strict=True):
            step = 2.0 ** np.ceil(np.log2(max(exact.abs().max().item(), 1e-12) / 127))
            assert torch.equal(row, torch.round(row / step) * step) and row.abs().max() <= 127 * step
            assert (row - exact).abs().max() <= step / 2
        trained.add(name)
    assert trained == matrices & stored.keys() and len(trained) > 40
    sizes = [len(zlib.compress(path.read_bytes(), 1)) for path in (tmp_path / "model.pt", tmp_path / "8.pt")]
    assert sizes[1] < sizes[0] / 2


def test_bad_input_ends_in_one_line(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"no model")
    for out, message in (("model.pt", "exists already"), ("out.pt", "model.pt: ")):
        done = CliRunner().invoke(main, [str(tmp_path / "model.pt"), "-o", str(tmp_path / out)])
        assert done.exit_code == 1 and message in done.output and len(done.output.strip().splitlines()) == 1
    assert CliRunner().invoke(main, [str(tmp_path / "model.pt"), "-o", "x.pt", "--share", "1"]).exit_code == 2
