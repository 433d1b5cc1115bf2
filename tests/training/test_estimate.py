"""The estimate before a run, against the run: weights, cache on disk, steps; FLOPs against their formula."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from tests.training.test_distill import paper_config, run, weights
from zeroseg.training.estimate import estimate
from zeroseg.training.gpu_hours import gpu_hours
from zeroseg.training.processes import Processes
from zeroseg.training.recipes import RECIPES
from zeroseg.training.run_folder import read_curve
from zeroseg.training.train import main

VIEWS = 30  # of the paper's recipe
ALONE = Processes(0, 1, torch.device("cpu"))


def test_the_estimate_is_what_the_run_takes(dense_config, inputs, tmp_path):
    config = replace(
        dense_config,
        model=dense_config.model | {"embedding_dim": 16},
        epochs=1.0,
        ema_decay=0.9,
        crops=replace(dense_config.crops, sizes=((64, 64),)),
    )
    inputs = replace(inputs, cache=str(tmp_path / "cache"))
    path = run(config, inputs, "whole")
    got = estimate(config, 24, ALONE, seconds=0.2)
    saved = weights(path)
    # what is no parameter of the student: buffers of the stem's norms
    assert got.weights == sum(v.numel() for k, v in saved.items() if "running" not in k and "tracked" not in k)
    on_disk = sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*.bin"))
    assert got.cache_bytes * 24 == on_disk
    assert got.plan.steps == len(read_curve(path.with_name("curve.csv"))) and got.measured >= 1 and got.photo_s > 0
    state = torch.load(path.with_name("checkpoint.pt"), weights_only=True)
    moments = [v for entry in state["optimizer"]["state"].values() for k, v in entry.items() if k != "step"]
    trained = sum(v.numel() for v in moments) // 2
    assert got.trained == trained
    assert got.state_bytes == 4 * (got.weights + 4 * trained)  # weights; gradients, two moments, average


def test_compiling_is_no_part_of_the_measurement(teacher_config, monkeypatch):
    compiled, clock = [], [0.0]

    def timed(trainer, batch):
        seconds = 60.0 if compiled and compiled.pop() else 1.0
        clock[0] += seconds
        return seconds

    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(True) or module)
    monkeypatch.setattr("zeroseg.training.estimate._timed", timed)
    monkeypatch.setattr("zeroseg.training.estimate.time", SimpleNamespace(monotonic=lambda: clock[0]))
    got = estimate(replace(paper_config(teacher_config), compile=True, batch=1), None, ALONE, seconds=10)
    assert (got.measured, got.photo_s, got.measured_batch) == (10, 1.0, 1)


def test_flops_of_a_block_follow_the_formula(teacher_config):
    flops, kept = {}, {}
    for depth, recompute in ((1, False), (2, False), (2, True)):
        config = replace(paper_config(teacher_config, depth=depth, gumbel=False), recompute=recompute)
        got = estimate(config, None, ALONE, seconds=0.01)
        flops[depth, recompute], kept[depth, recompute] = got.flops, got.kept_bytes
        assert got.plan is None and "give --photos" in got.lines(config, ALONE)[-1]
    tokens, width = int(16 * (1 - 0.6)) + 1, 16  # kept places and the class token
    products = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * 4 * width
    assert flops[2, False] - flops[1, False] == pytest.approx(3 * 2 * products, rel=1e-6)  # backward is two more
    assert flops[2, True] > flops[2, False] and kept[2, True] < kept[2, False]


def test_dry_run_prints_settings_and_then_the_estimate(monkeypatch, photo_folder):
    monkeypatch.setattr("zeroseg.training.estimate.MEASURED_S", 0.1)
    settings = {
        "model.image_size": 32,
        "model.patch_size": 8,
        "model.width": 16,
        "model.depth": 1,
        "model.heads": 2,
        "model.decoder_width": 16,
        "model.decoder_depth": 1,
        "model.decoder_heads": 2,
        "crops.sizes": [[32, 32]],
    }
    args = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    done = CliRunner().invoke(
        main,
        [
            "-n",
            "--recipe",
            "paper",
            "--photos",
            str(photo_folder),
            "--batch",
            "5",
            "--device",
            "cpu",
            "--epochs",
            "2",
            "--teacher",
            "open_clip:ViT-B-32/openai",
            *args,
        ],
    )
    assert done.exit_code == 0, done.output
    document, rest = json.JSONDecoder().raw_decode(done.output)
    assert document["config"]["batch"] == 5
    lines = done.output[rest:].strip().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("weights: "))
    assert first > 0 and lines[0].startswith("teacher open_clip:")  # what teaches, before what it costs
    costs = [line.split(":")[0] for line in lines[first:]]
    assert costs == ["weights", "FLOPs", "memory", "cache", "speed", "steps", "time", "teachers", "one GPU"]
    assert lines[first + 5] == "steps: 8 of 5 photos, 4 per epoch"
    assert "Not measured: FLOPs at an assumed 10 TFLOP/s sustained" in lines[-1]
    tower = 2 * VIEWS * vit_products(49, 768, 12, 32 * 32 * 3, 512) / 1e9  # counted without the weights being there
    assert float(re.search(r"^teachers: ([\d.]+) GFLOPs", lines[-2])[1]) == pytest.approx(tower, rel=0.01)


def vit_products(places, width, depth, pixels, dim):
    """Multiply-adds of a ViT with a class token."""
    tokens = places + 1
    blocks = depth * (12 * tokens * width**2 + 2 * tokens**2 * width)
    return places * pixels * width + blocks + width * dim


def test_teachers_of_the_clip_recipe_are_counted_by_windows_and_patches():
    config = RECIPES["clip"].set("teacher.spec", "open_clip:ViT-B-32/openai").set("teacher.dense_short_side", 320)
    counted = gpu_hours(config, None)
    # 320 x 416 of a photo of 640 x 480: windows of 224 at 96, the last one shifted: 2 by 3
    clip = 6 * 2 * vit_products(49, 768, 12, 32 * 32 * 3, 512)
    dino = 2 * vit_products(16 * 21, 384, 12, 14 * 14 * 3, 0)
    assert counted.flops[config.teacher.spec] == pytest.approx(clip, rel=0.01)
    assert counted.flops[config.parts.dino] == pytest.approx(dino, rel=0.01)
    assert (counted.uncounted, counted.embedding_dim, counted.decode_s) == ([], 512, None)
    assert counted.walk_s > 0
    slow = replace(counted, flops={"a": 4 * 10**12}, decode_s=1.0, walk_s=0.4)
    # teachers: 4 TFLOP at 10 TFLOP/s are 0.4 s a photo, decoding and the walk 0.35 s on each of four workers; training
    # waits for decoding alone, 0.25 s
    assert slow.hours(3600, 7200, 10**12, 4) == pytest.approx((0.4, 2 * 0.25))
    assert slow.hours(3600, 7200, 10**12, 2)[0] == pytest.approx(0.7)


def test_what_is_not_counted_is_named():
    counted = gpu_hours(RECIPES["everyday"], None)
    assert not counted.flops and "nanodet" in counted.uncounted and "walk and saliency" in counted.uncounted
    assert "their time comes on top" in counted.lines(None, None, 1, 1)[0]
