"""What each part of the dense recipe brings: every part can be left out, and the report is the runs' difference."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.training.conftest import NET
from zeroseg.training import additions
from zeroseg.training.additions import ADDITIONS, NAMES, RECIPE, collect, main, parts, text, without
from zeroseg.training.loop import Trainer
from zeroseg.training.objective import check_weights
from zeroseg.training.recipes import RECIPES


@pytest.mark.parametrize("addition", parts("probe.npz"), ids=lambda addition: addition.name)
def test_every_part_can_be_left_out_and_nothing_else_changes(addition):
    recipe = RECIPES["dense"]
    changed = without(recipe, addition, 7)
    check_weights(changed, {name: weight for name, weight in asdict(changed.losses).items() if weight})
    before = recipe.to_dict() | {"model": recipe.model_config().to_dict()}
    after = changed.to_dict() | {"model": changed.model_config().to_dict()}
    paths = {change.partition("=")[0] for change in addition.changes}
    assert _different(before, after) == paths | {"seed"}
    # ImageNet's classes and, if the teacher has it, the name for what people wear: else the run is refused
    assert changed.model_config().prototypes == 1000 + (changed.teacher.conse.worn_gain > 0)
    assert without(recipe, RECIPE, 0) == recipe and len(set(NAMES)) == len(ADDITIONS) + 1


def _different(before: dict, after: dict, prefix: str = "") -> set[str]:
    found = set()
    for name, value in before.items():
        if isinstance(value, dict):
            found |= _different(value, after[name], f"{prefix}{name}.")
        elif value != after[name]:
            found.add(prefix + name)
    return found


@pytest.fixture(scope="module")
def arguments(photo_folder, label_folder, teacher_folder, stem_file, voc, voc_pack, tmp_path_factory):
    """Command line of runs that take seconds."""
    model = {
        "stem": NET,
        "image_size": 64,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "head_width": 16,
        "head_heads": 2,
        "group_tokens": [6, 4],
        "output_groups": [6, 4],
        "projector_hidden": 24,
        "readout": "projector",
    }
    settings = {f"model.{name}": value for name, value in model.items()} | {
        "teacher.view_size": 32,
        "teacher.dense_short_side": 64,
        "teacher.conse.worn_classes": [8, 9],
        "views.dense_grid": 4,
        "batch": 8,
        "micro_batch": 8,
        "crops.sizes": [[64, 64], [64, 96]],
        "val_photos": 2,
        "precision": "fp32",
        "lr": 1e-2,
        "diffusion.share": 0.5,
        "short_side": 64,
    }
    args = [
        "--photos",
        photo_folder,
        "--voc-dev",
        voc,
        "--labels",
        label_folder,
        "--cache",
        tmp_path_factory.mktemp("additions"),
        "--teacher",
        f"timm:{NET}",
        "--teacher-weights",
        teacher_folder,
        "--stem-weights",
        stem_file,
        "--label-pack",
        voc_pack,
        "--limit",
        "20",
        "--epochs",
        "3",
        "--subset",
        "background,cat,dog",
        "--threshold-photos",
        "3",
    ]
    args += [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    return list(map(str, args))


def call(*args):
    return CliRunner().invoke(main, list(map(str, args)))


def test_runs_are_compared_seed_by_seed_and_go_on_where_they_stopped(arguments, tmp_path, monkeypatch):
    out, step, taken = tmp_path / "out", Trainer._step, []

    def power_cut(self, batch, lr):
        taken.append(self.step)
        if len(taken) == 8:  # of the second run's six steps the second
            raise KeyboardInterrupt
        return step(self, batch, lr)

    monkeypatch.setattr(Trainer, "_step", power_cut)
    wanted = ("--only", "recipe,place", "--out", out)
    stopped = call(*arguments, *wanted, "--seeds", "1")
    assert stopped.exit_code == 1 and (out / "runs" / "recipe_seed0" / "result.json").is_file(), stopped.output
    stamp = (out / "runs" / "recipe_seed0" / "result.json").stat().st_mtime_ns
    monkeypatch.setattr(Trainer, "_step", step)
    done = call(*arguments, *wanted, "--seeds", "2")
    assert done.exit_code == 0, done.output
    assert (out / "runs" / "recipe_seed0" / "result.json").stat().st_mtime_ns == stamp

    results = {path.parent.name: json.loads(path.read_text()) for path in (out / "runs").glob("*/result.json")}
    assert set(results) == {f"{name}_seed{seed}" for name in ("recipe", "place") for seed in (0, 1)}
    rows = {row["name"]: row for row in json.loads((out / "additions.json").read_text())["rows"]}
    for measure in ("miou", "miou_best", "oracle"):
        brought = [results[f"recipe_seed{s}"][measure] - results[f"place_seed{s}"][measure] for s in (0, 1)]
        assert rows["place"][measure]["brings"]["values"] == pytest.approx(brought)
        assert f"({np.mean(brought):+.1f})" in done.output
    assert "brings" not in rows["recipe"]["miou"] and rows["recipe"]["seeds"] == [0, 1]
    assert rows["place"]["changes"] == ["losses.place=0"] and not list(out.glob("runs/*/checkpoint.pt"))
    assert Image.open(out / "additions.png").width > 300
    curve = (out / "runs" / "place_seed0" / "curve.csv").read_text().splitlines()
    assert "place" not in curve[0].split(",") and "segment_name" in curve[0].split(",")

    changed = call(*arguments, *wanted, "--epochs", "4")
    assert changed.exit_code == 1 and "config.epochs = 3.0, but now it is 4.0" in changed.output
    plan = call(*arguments, *wanted, "--seeds", "3", "-n")
    assert plan.exit_code == 0 and "6 runs, 4 done; one of them:" in plan.output, plan.output
    assert plan.output.count("\nto do ") == 2 and "\nsteps: 6 of 8 photos" in plan.output


def test_a_seed_that_only_one_of_two_has_is_not_compared(tmp_path):
    found = {"recipe_seed0": 50.0, "recipe_seed1": 60.0, "soft_seed1": 57.0, "probe_seed1": 62.0, "crops_seed2": 1.0}
    for name, miou in found.items():
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(dict.fromkeys(("miou", "miou_best", "oracle"), miou)))
    (tmp_path / "runs" / "place_seed0").mkdir()  # not finished
    document = collect(tmp_path)
    recipe, crops, soft, probe = document["rows"]
    assert probe["added"] and probe["miou"]["brings"]["values"] == [2.0]  # 62 with it, 60 without
    assert (recipe["miou"]["values"], soft["miou"]["brings"]["values"]) == ([50.0, 60.0], [3.0])
    assert crops["name"] == "crops" and "brings" not in crops["miou"]
    assert all(said in text(document) for said in ("nothing", "55.0 ± 7.1", "57.0 (+3.0)", "+ probe", "62.0 (+2.0)"))
    additions.draw(document, tmp_path / "bars.png")
    assert Image.open(tmp_path / "bars.png").height > 100


def test_a_part_that_is_none_is_refused(arguments, tmp_path):
    result = call(*arguments, "--only", "recipe,luck", "--out", tmp_path / "out")
    assert result.exit_code == 1 and result.output.startswith("Error: --only: expected some of recipe,group_variance,")
    assert result.output.count("\n") == 1 and not (tmp_path / "out").exists()


def test_help_has_an_example_without_torch():
    script = Path(__file__).resolve().parents[2] / "training" / "additions.py"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, "--help"], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0 and "python training/additions.py --photos" in done.stdout
    assert " torch\n" not in done.stderr and " numpy\n" not in done.stderr
