"""training/balance_classes.py: the bias of every class sinks by the logarithm of how many mean the same."""

import math

import pytest
import torch
from click.testing import CliRunner

from zeroseg.config import PRESETS, ModelConfig
from zeroseg.model.checkpoint import load_checkpoint, save_checkpoint
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training.balance_classes import main
from zeroseg.training.conse import class_crowding


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    model = ZeroSeg(PRESETS["tiny"])
    model.readout.set_vectors(torch.nn.functional.normalize(torch.randn(1001, 512), dim=1), torch.zeros(512))
    return model


def test_crowding_counts_classes_of_one_meaning():
    """Three of one meaning, one at 60 degrees from them, one alone, one without a name."""
    vectors = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0], [0, 0, 1], [0, 0, 0]])
    near = 0.5**4
    wanted = [math.log(3 + near)] * 3 + [math.log(1 + 3 * near), 0.0, 0.0]
    torch.testing.assert_close(class_crowding(vectors), torch.tensor(wanted))


@pytest.mark.parametrize("half", [True, False])
def test_only_the_biases_change_and_once(student, tmp_path, half):
    before, after = tmp_path / "model.pt", tmp_path / "balanced.pt"
    save_checkpoint(before, student, sidecar={"name": "x", "card": {"photos": 3}}, half=half)
    done = CliRunner().invoke(main, [str(before), "-o", str(after), "--amount", "0.5"])
    assert done.exit_code == 0, done.output
    old, new = load_checkpoint(before), load_checkpoint(after)
    wanted = old.state["readout.correct.bias"] - 0.5 * class_crowding(old.state["readout.vectors"])
    torch.testing.assert_close(new.state["readout.correct.bias"], wanted, atol=2e-3 if half else 1e-6, rtol=0)
    assert all(torch.equal(new.state[name], value) for name, value in old.state.items() if "correct.bias" not in name)
    assert new.sidecar == {"name": "x", "card": {"photos": 3, "class_balance": 0.5}}
    stored = torch.load(after, weights_only=True)["state_dict"]["readout.correct.bias"]
    assert stored.dtype == (torch.float16 if half else torch.float32)
    again = CliRunner().invoke(main, [str(after), "-o", str(tmp_path / "twice.pt")])
    assert again.exit_code == 1 and "its classes are already balanced, by 0.5" in again.output
    over = CliRunner().invoke(main, [str(before), "-o", str(before)])
    assert over.exit_code == 1 and "exists already" in over.output


def test_model_without_classes_is_refused(tmp_path):
    torch.manual_seed(0)
    config = ModelConfig.from_dict(PRESETS["tiny"].to_dict() | {"readout": "projector"})
    save_checkpoint(tmp_path / "model.pt", ZeroSeg(config))
    done = CliRunner().invoke(main, [str(tmp_path / "model.pt"), "-o", str(tmp_path / "out.pt")])
    assert done.exit_code == 1 and "got readout projector" in done.output and not (tmp_path / "out.pt").exists()
