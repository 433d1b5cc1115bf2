"""training/refit_readout.py: the losses of training without the places; the readout learns and the rest stays."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from click.testing import CliRunner

from zeroseg.model.checkpoint import load_checkpoint, load_model
from zeroseg.training.batches import Batch
from zeroseg.training.distill import distill
from zeroseg.training.objective import Objective
from zeroseg.training.processes import Processes
from zeroseg.training.recipes import DiffusionConfig, LossWeights
from zeroseg.training.refit_readout import main, naming_loss, readout_losses, stored
from zeroseg.training.run_folder import read_curve

LOSSES = LossWeights(segment_name=1.0, place=1.0, image_name=0.1)


@pytest.fixture
def run(prototypes):
    """The folder of a short run of a student with prototypes, and its settings; targets are diffused in training."""
    config, inputs = prototypes
    losses = replace(LOSSES, group_variance=1.0)
    config = replace(config, losses=losses, lr=1e-3, diffusion=DiffusionConfig(share=0.9))
    return distill(config, inputs, Processes(0, 1, torch.device("cpu")), progress=False).parent, config


def test_losses_are_those_of_training(run):
    folder, config = run
    student = load_model(folder / "model.pt")[0].eval()
    torch.manual_seed(0)
    student.readout.correct.weight.data.normal_(std=0.3)
    batch = Batch(torch.randn(3, 3, 64, 96), None, None, 0.2 * torch.randn(3, 24, 16), (4, 6))
    crops = stored(student, batch, config)
    crops = crops.take(torch.arange(3))
    embeddings = student.readout.embed(crops.tokens, crops.pooled, crops.pooled[:, -1:], student.stem)
    found = readout_losses(embeddings, crops, student.readout.vectors, 0.1)
    _, wanted = Objective(student, replace(config, losses=LOSSES))(batch)
    for name in asdict(LOSSES):
        if getattr(LOSSES, name):
            assert found[name].item() == pytest.approx(wanted[name].item(), rel=2e-3), name


def test_naming_is_the_cross_entropy_of_the_names():
    """Two names at right angles; targets of the first one; the second segment has three times the area and strength."""
    names = torch.eye(2)
    target = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    segments = torch.tensor([[[5.0, 0.0], [0.0, 0.1]]])
    share = torch.tensor([[0.25, 0.75]])
    wanted = torch.tensor([1.0, 0.0]).softmax(0)  # tau 1
    right = -(wanted * wanted.log()).sum()
    wrong = -(wanted * wanted.flip(0).log()).sum()
    torch.testing.assert_close(naming_loss(segments, target, share, names, 1.0), (right + 9 * wrong) / 10)


def test_only_the_readout_changes_and_its_losses_fall(run, tmp_path):
    folder, _ = run
    options = ["--crops", "16", "--steps", "30", "--batch", "8", "--lr", "0.02"]
    command = [str(folder / "model.pt"), "--run", str(folder), "-o", str(tmp_path / "out"), *options]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    before, after = (load_checkpoint(path / "model.pt") for path in (folder, tmp_path / "out"))
    changed = {name for name, value in before.state.items() if not torch.equal(value, after.state[name])}
    assert changed == {f"readout.{name}" for name, _ in load_model(folder / "model.pt")[0].readout.named_parameters()}
    assert after.sidecar == before.sidecar
    rows = read_curve(tmp_path / "out" / "curve.csv")
    assert len(rows) == 30 and float(rows[-1]["val_total"]) < 0.95 * float(rows[0]["val_total"])
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["refit"]["steps"] == 30 and settings["inputs"]["photos"]
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1 and "is not empty" in again.output


def test_what_cannot_be_fitted_is_refused_in_one_line(dense_config, inputs, tmp_path):
    path = distill(replace(dense_config, epochs=1.0), inputs, Processes(0, 1, torch.device("cpu")), progress=False)
    done = CliRunner().invoke(main, [str(path), "--run", str(path.parent), "-o", str(tmp_path / "out")])
    assert done.exit_code == 1 and "expected a model with the readout prototypes, got projector" in done.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(main, [str(path), "--run", str(tmp_path / "none"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 1
