"""The command line: help, dry run, and bad input in one line each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zeroseg.config import ModelConfig
from zeroseg.errors import ZerosegError
from zeroseg.training.recipes import RECIPES, TrainConfig
from zeroseg.training.train import main

ROOT = Path(__file__).resolve().parents[2]


def call(*args):
    return CliRunner().invoke(main, list(map(str, args)))


def test_help_has_examples_and_is_instant_without_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "training" / "train.py", "--help"],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0 and "python training/train.py --photos" in done.stdout
    assert "torchrun" in done.stdout and " torch\n" not in done.stderr and " numpy\n" not in done.stderr


def test_dry_run_prints_everything_that_is_resolved(tmp_path):
    result = call(
        "--print-config",
        "--photos",
        tmp_path,
        "--recipe",
        "paper",
        "--lr",
        "1e-3",
        "--set",
        "losses.reconstruction=0.5",
        "--set",
        "model.head_width=384",
        "--set",
        "teacher.spec=open_clip:ViT-B-16/openai",
    )
    assert result.exit_code == 0, result.output
    plan = json.loads(result.output)
    config = TrainConfig.from_dict(plan["config"])
    assert config.lr == 1e-3 and config.losses.reconstruction == 0.5 and config.teacher.spec.endswith("ViT-B-16/openai")
    assert plan["model"]["head_width"] == 384 and plan["inputs"]["photos"] == str(tmp_path)
    assert ModelConfig.from_dict(plan["model"]) == config.model_config()


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipes_survive_json(name):
    config = RECIPES[name]
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    config.model_config()


def test_the_paper_s_recipe_is_the_paper_s():
    config = RECIPES["paper"]
    assert (config.epochs, config.warmup_epochs, config.batch, config.lr) == (80, 20, 4096, 1.5e-4)
    assert config.peak_lr() == pytest.approx(2.4e-3) and config.views.grids == (1, 2, 3, 4)
    model = config.model_config()
    assert (model.mask_ratio, model.depth, model.group_tokens, model.decoder_depth) == (0.6, 12, (32, 8), 8)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no photos for training: give --photos DIR, as in python training/train.py"),
        (["--photos", "/nowhere"], "photos: /nowhere is not a folder"),
        (["--set", "lr"], "expected FIELD=VALUE"),
        (["--set", "no.such=1"], "no is not a group of settings"),
        (["--set", "losses.such=1"], "losses.such: no such setting"),
        (["--set", 'epochs="many"'], "epochs: expected float"),
        (["--set", 'model.width="wide"', "-n"], "width: expected a positive int"),
        (["--resume", "--out", "/nowhere"], "has no run to resume"),
    ],
)
def test_bad_input_is_one_line(args, message):
    result = call(*args)
    assert result.exit_code == 1 and result.output.startswith("Error: ") and message in result.output
    assert result.output.count("\n") == 1


def test_empty_folder_is_one_line(tmp_path):
    result = call("--photos", tmp_path, "--out", tmp_path / "run")
    assert result.exit_code == 1 and "no image in" in result.output and not (tmp_path / "run").exists()


def test_command_trains_stops_and_resumes(photo_folder, label_folder, teacher_folder, stem_file, tmp_path):
    common = ["--out", tmp_path / "run", "--workers", "0"]
    model = [
        'stem="test_efficientnet"',
        "width=16",
        "depth=1",
        "heads=2",
        "head_width=16",
        "head_heads=2",
        "projector_hidden=16",
        "image_size=64",
        'readout="projector"',
    ]
    settings = [f"model.{item}" for item in model] + [
        "crops.sizes=[[64,64]]",
        "views.dense_grid=4",
        "val_photos=2",
        "teacher.dense_short_side=64",
        "teacher.conse.worn_weight=0",
    ]
    args = [
        "--photos",
        photo_folder,
        "--labels",
        label_folder,
        "--teacher",
        "timm:test_efficientnet",
        "--teacher-weights",
        teacher_folder,
        "--stem-weights",
        stem_file,
        "--cache",
        tmp_path / "cache",
        "--batch",
        "8",
        "--epochs",
        "1",
        "--stem-views",
        "1",
        "--precision",
        "fp32",
    ]
    args += [part for item in settings for part in ("--set", item)]
    result = call(*args, *common, "--max-steps", "1")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "run" / "model.pt").exists()
    again = call(*args, *common)
    assert again.exit_code == 1 and "is not empty; add --resume" in again.output
    changed = call("--resume", "--lr", "5", *args, *common)
    assert changed.exit_code == 1 and f"this run has lr = {RECIPES['dense'].lr}, which cannot change" in changed.output
    done = call("--resume", *common)  # the run knows its settings
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "model.pt").is_file()


def test_torchrun_leaves_our_options_to_us():
    from torch.distributed.run import get_args_parser

    options = [name for option in main.params for name in option.opts if name != "--run"]
    parsed = get_args_parser().parse_args(["--nproc-per-node", "2", "training/train.py", *options])
    assert parsed.training_script_args == options


def test_unknown_settings_are_refused():
    with pytest.raises(ZerosegError, match="unknown setting losses.such"):
        TrainConfig.from_dict({"losses": {"such": 1}})
