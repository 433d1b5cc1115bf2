"""A whole run: what lands in the folder, resuming bit for bit, two processes, and the command line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.training.conse import class_vectors, load_label_space, name_vector
from zeroseg.training.distill import distill
from zeroseg.training.processes import Processes
from zeroseg.training.recipes import RECIPES, CropConfig, DiffusionConfig, LossWeights, ViewConfig
from zeroseg.training.run_folder import read_curve

ALONE = Processes(0, 1, torch.device("cpu"))
NET = "test_efficientnet"
ROOT = Path(__file__).resolve().parents[2]


def run(config, inputs, name, **options):
    inputs = replace(inputs, run=str(Path(inputs.run).parent / name))
    return distill(config, inputs, ALONE, progress=False, **options)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_dense_run_learns_and_leaves_everything(dense_config, inputs):
    path = run(replace(dense_config, epochs=20.0, ema_decay=0.9), inputs, "whole")
    folder = path.parent
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.pt",
        "config.json",
        "curve.csv",
        "curve.json",
        "curve.png",
        "masks.png",
        "model.pt",
    ]
    rows = read_curve(folder / "curve.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    first, last = rows[0], rows[-1]
    curve = json.loads((folder / "curve.json").read_text())
    assert curve["total"] == [float(row["total"]) for row in rows]
    assert curve["val_total"][0] is None and curve["val_total"][-1] == float(last["val_total"])
    for name in ("group_variance", "segment_name", "place"):
        assert float(last[f"val_{name}"]) > 0 and float(first[name]) > 0
    total = sum(float(last[name]) for name in ("group_variance", "segment_name", "place"))
    assert float(last["total"]) == pytest.approx(total, rel=1e-4)
    assert float(last["total"]) < 0.8 * float(first["total"])
    assert Image.open(folder / "masks.png").size == (2 * 64, 2 * 64)
    saved = torch.load(path, weights_only=True)
    assert saved["config"]["embedding_dim"] == 16 and saved["sidecar"]["embedding_space"] == "test/space"
    assert saved["sidecar"]["files"] == {}  # a runtime refuses a description without this field
    assert json.loads((folder / "config.json").read_text())["config"]["epochs"] == 20


@pytest.mark.parametrize("stem_views", [2, 0])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(dense_config, inputs, stem_views):
    config = replace(dense_config, stem_views=stem_views, micro_batch=3)
    whole = run(config, inputs, "whole")
    assert run(config, inputs, "halves", until=2).name == "checkpoint.pt"
    halves = run(config, inputs, "halves", resume=True)
    assert_equal(weights(whole), weights(halves))
    a, b = (read_curve(path.with_name("curve.csv")) for path in (whole, halves))
    for left, right in zip(a, b, strict=True):
        assert left | {"seconds": ""} == right | {"seconds": ""}


def test_bf16_autocast_follows_fp32(dense_config, inputs):
    rows = {}
    for precision in ("fp32", "bf16"):
        path = run(replace(dense_config, epochs=1.0, precision=precision, ema_decay=0.0), inputs, precision)
        rows[precision] = read_curve(path.with_name("curve.csv"))
        assert all(value.dtype != torch.bfloat16 and value.isfinite().all() for value in weights(path).values())
    first = [float(rows[precision][0]["total"]) for precision in ("fp32", "bf16")]
    assert first[0] != first[1] and first[1] == pytest.approx(first[0], rel=0.02)


def test_prototypes_come_from_the_teacher_and_diffused_targets_train(prototypes):
    config, inputs = prototypes
    losses, conse = LossWeights(segment_name=1.0, image_name=0.5), config.teacher.conse
    config = replace(config, diffusion=DiffusionConfig(share=0.9), losses=losses)
    saved = weights(run(config, inputs, "prototypes"))
    labels = load_label_space(inputs.label_names, inputs.label_vectors, inputs.class_names, "test/space")
    wanted = [*class_vectors(labels, conse), name_vector(labels, "person")]
    torch.testing.assert_close(saved["readout.vectors"], torch.from_numpy(np.stack(wanted)))
    torch.testing.assert_close(saved["readout.centre"], torch.from_numpy(labels.mean()))
    few = replace(config, model=config.model | {"prototypes": 1000})
    with pytest.raises(ZerosegError, match="prototypes: expected 1001"):
        run(few, inputs, "few")


def paper_config(teacher_config, **changes):
    """The paper's recipe with a tiny ViT."""
    tiny = {
        "image_size": 32,
        "patch_size": 8,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "head_width": 16,
        "head_heads": 2,
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
        "group_tokens": [6, 4],
        "output_groups": [6, 4],
        "projector_hidden": 24,
    }
    return replace(
        RECIPES["paper"],
        model=tiny | changes,
        teacher=teacher_config,
        crops=CropConfig(sizes=((32, 32),)),
        epochs=4.0,
        warmup_epochs=1.0,
        batch=8,
        micro_batch=4,
        val_photos=2,
        precision="fp32",
        lr=1e-2,
    )


def test_paper_run_resumes_bit_for_bit_with_masking_and_gumbel_noise(teacher_config, inputs):
    config = paper_config(teacher_config)
    assert config.views.grids == (1, 2, 3, 4) and config.losses == LossWeights(1.0, 1.0, 0.0, 1.0)
    whole = run(config, inputs, "whole")
    run(config, inputs, "halves", until=3)
    halves = run(config, inputs, "halves", resume=True)
    assert_equal(weights(whole), weights(halves))
    row = read_curve(whole.with_name("curve.csv"))[-1]
    assert float(row["reconstruction"]) > 0 and row["val_reconstruction"] == ""


@pytest.mark.parametrize("compiled", [False, True])
def test_two_processes_equal_one(teacher_config, inputs, tmp_path, compiled):
    # no Gumbel noise: every process draws its own
    config = paper_config(teacher_config, gumbel=False)
    # where a gradient is zero but for rounding, AdamW turns the rounding into whole steps; a large eps does not
    config = replace(config, batch=8, micro_batch=2, epochs=1.0, adam_eps=1e-3)
    alone = run(config, inputs, "alone")
    settings = {
        "config": replace(config, compile=compiled).to_dict(),
        "inputs": vars(replace(inputs, run=str(tmp_path / "pair"))),
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    script = tmp_path / "pair.py"
    script.write_text(
        "import json, sys, torch\n"
        f"sys.path.append({str(ROOT)!r})\n"
        "from zeroseg.training.distill import Inputs, distill\n"
        "from zeroseg.training.processes import join, leave\n"
        "from zeroseg.training.recipes import TrainConfig\n"
        "torch.set_num_threads(1)\n"
        "plain = torch.compile\n"
        "torch.compile = lambda module: plain(module, backend='eager')\n"  # the default one takes a minute
        f"settings = json.load(open({str(tmp_path / 'settings.json')!r}))\n"
        "processes = join('cpu')\n"
        "assert processes.count == 2\n"
        "import zeroseg.training.loop as loop\n"
        "kept = []\n"
        "class Kept(loop.Trainer):\n"
        "    def run(self, *a, **k):\n"
        "        super().run(*a, **k)\n"
        f"        torch.save(self.student.state_dict(), {str(tmp_path)!r} + f'/rank{{processes.rank}}.pt')\n"
        "import zeroseg.training.distill as d\n"
        "d.Trainer = Kept\n"
        "distill(TrainConfig.from_dict(settings['config']), Inputs(**settings['inputs']), processes, progress=False)\n"
        "leave()\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "find_unused_parameters" not in done.stderr  # torch warns where it looks for unused weights in vain
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert_equal(*ranks)
    pair = weights(tmp_path / "pair" / "model.pt")
    for name, value in weights(alone).items():
        torch.testing.assert_close(pair[name], value, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    a, b = (read_curve(path / "curve.csv") for path in (alone.parent, tmp_path / "pair"))
    assert [float(row["total"]) for row in a] == pytest.approx([float(row["total"]) for row in b], abs=1e-5)


def test_folder_of_another_run_is_not_touched(dense_config, inputs):
    path = run(dense_config, inputs, "mine", until=1)
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(ZerosegError, match="not empty; add --resume"):
        run(dense_config, inputs, "mine")
    assert before == {p.name: p.read_bytes() for p in path.parent.iterdir()}


@pytest.mark.parametrize("made_before", [False, True])
def test_a_run_that_cannot_begin_leaves_no_folder(dense_config, inputs, tmp_path, made_before):
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.jpg").write_bytes(b"no photo")
    folder = tmp_path / "new"
    if made_before:
        folder.mkdir()
    with pytest.raises(ZerosegError, match="read"):
        run(dense_config, replace(inputs, photos=str(tmp_path / "junk"), cache=str(tmp_path / "cache")), "new")
    assert folder.exists() == made_before and not list(folder.glob("*"))


def test_wrong_checkpoint_is_one_line(dense_config, inputs):
    path = run(dense_config, inputs, "broken", until=1)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ZerosegError, match="cannot be read") as error:
        run(dense_config, inputs, "broken", resume=True)
    assert "\n" not in str(error.value)
    torch.save({"format": 1, "step": 1, "student": {"x": torch.zeros(1)}}, path)
    with pytest.raises(ZerosegError, match="another model or recipe"):
        run(dense_config, inputs, "broken", resume=True)


def test_initial_weights_of_another_model_are_refused(dense_config, inputs, tmp_path):
    path = run(dense_config, inputs, "first", until=None)
    again = run(replace(dense_config, epochs=1.0), replace(inputs, initial=str(path)), "second")
    assert weights(again).keys() == weights(path).keys()
    other = replace(dense_config, model=dense_config.model | {"head_width": 32})
    with pytest.raises(ZerosegError, match="is a different model than this run's"):
        run(other, replace(inputs, initial=str(path)), "third")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": LossWeights()}, "every weight is 0"),
        ({"losses": LossWeights(multi_scale=1.0)}, "need views.grids"),
        ({"views": ViewConfig((1, 2), 0)}, "need views.dense_grid"),
        ({"losses": LossWeights(reconstruction=1.0)}, "reconstruction needs a model"),
        ({"freeze_stem": False}, "only a frozen stem"),
        ({"augment": "centre"}, "cached for random crops"),
        ({"preset": "huge"}, "preset: expected one of"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(dense_config, inputs, changes, message):
    with pytest.raises(ZerosegError, match=message) as error:
        run(replace(dense_config, **changes), inputs, "wrong")
    assert "\n" not in str(error.value) and not Path(inputs.run).with_name("wrong").exists()
