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
from zeroseg.training.refit_readout import main, readout_losses, stored
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
    found = readout_losses(embeddings, crops)
    _, wanted = Objective(student, replace(config, losses=LOSSES))(batch)
    for name in asdict(LOSSES):
        if getattr(LOSSES, name):
            assert found[name].item() == pytest.approx(wanted[name].item(), rel=2e-3), name


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


def test_what_cannot_be_fitted_is_refused_in_one_line(run, dense_config, inputs, tmp_path):
    def refused(model, folder):
        done = CliRunner().invoke(main, [str(model), "--run", str(folder), "-o", str(tmp_path / "out")])
        assert done.exit_code == 1 and not (tmp_path / "out").exists()
        return done.output

    folder, _ = run
    path = replace(inputs, run=str(tmp_path / "plain"))
    path = distill(replace(dense_config, epochs=1.0), path, Processes(0, 1, torch.device("cpu")), progress=False)
    assert "expected a model with the readout prototypes, got projector" in refused(path, path.parent)
    assert "no run to resume" in refused(folder / "model.pt", tmp_path / "none")
    settings = json.loads((folder / "config.json").read_text())
    for name, changes, wrong in (
        ("views", {"config": settings["config"] | {"views": {"grids": [1]}}}, "and dense targets"),
        (
            "space",
            {"inputs": settings["inputs"] | {"label_space": "other/space"}},
            "teacher has the space other/space",
        ),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(settings | changes))
        assert wrong in refused(folder / "model.pt", tmp_path / name)
