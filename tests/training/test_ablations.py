"""The ablations: what a variant trains on, runs that go on where they stopped, and orders judged as they are."""

import json
import statistics

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.training.conftest import NET
from zeroseg.model.stem import ConvStem
from zeroseg.training.ablation import report as ablation_report
from zeroseg.training.ablation import runs as ablation_runs
from zeroseg.training.ablation.runs import HeldSet, hold_photos, variant_config, view_columns
from zeroseg.training.ablation.tables import BASE, FULL, TABLES, Variant, judge, variants
from zeroseg.training.ablations import main
from zeroseg.training.batches import TrainingSet
from zeroseg.training.build_teacher import build_teacher
from zeroseg.training.objective import Objective
from zeroseg.training.photos import find_photos
from zeroseg.training.recipes import RECIPES, CropConfig, LossWeights, ViewConfig
from zeroseg.training.views import cache_views

MODEL = {
    "stem": NET,
    "readout": "projector",
    "image_size": 64,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "head_width": 16,
    "head_heads": 2,
    "group_tokens": [6, 4],
    "output_groups": [6, 4],
    "projector_hidden": 24,
    "decoder_width": 16,
    "decoder_heads": 2,
    "decoder_depth": 1,
}
HALF = 2e-3  # stem features through ONNX Runtime against torch, relative; both are float32


@pytest.fixture
def base(teacher_config):
    from dataclasses import replace

    model = MODEL | {"reconstruction": True, "mask_ratio": 0.6}
    return replace(
        RECIPES["paper"],
        preset="tiny",
        model=model,
        freeze_stem=True,
        teacher=teacher_config,
        batch=8,
        crops=CropConfig(sizes=((64, 64),)),
        val_photos=0,
        losses=LossWeights(reconstruction=1.0),
        seed=5,
    )


def test_variants_that_stand_in_several_tables_are_run_once():
    assert len(variants(TABLES)) == 14 and len(variants(["T3"])) == 5
    for key, first, last in (("T4", BASE, FULL), ("T3", BASE, FULL)):
        assert (TABLES[key].rows[0][1:], TABLES[key].rows[-1][1:]) == ((first, 21.1), (last, 40.8))
    assert [published for _, variant, published in TABLES["T5"].rows if variant == FULL] == [40.8]
    assert len({variant.slug for variant in variants(TABLES)}) == 14


@pytest.mark.parametrize(
    ("published", "measured", "agreeing", "clear", "clear_agreeing", "words"),
    [
        ([1, 2, 3], [[1, 2], [3, 4], [5, 6]], 3, 3, 3, "order holds, all 3 pairs clear"),
        (
            [1, 2, 3],
            [[1, 4], [3, 4], [5, 6]],
            3,
            2,
            2,
            "means are in the paper's order: 3 of 3 pairs agree; 2 are clear",
        ),
        ([3, 2, 1], [[1, 2], [3, 4], [5, 6]], 0, 3, 0, "does not hold: 0 of 3 pairs agree; 3 are clear"),
        ([1, 3, 2], [[1, 1], [2, 9], [7, 7]], 2, 2, 2, "does not hold: 2 of 3 pairs agree; 2 are clear"),
        ([1, 2], [[4, 4], [4, 4]], 0, 0, 0, "does not hold: 0 of 1 pairs"),
    ],
)
def test_orders_are_judged_by_means_and_ranges(published, measured, agreeing, clear, clear_agreeing, words):
    verdict = judge(published, measured)
    assert (verdict.agreeing, verdict.clear, verdict.clear_agreeing) == (agreeing, clear, clear_agreeing)
    assert verdict.holds == (agreeing == len(published) * (len(published) - 1) // 2) and words in verdict.sentence()
    assert verdict.published == tuple(np.argsort(published))


def test_a_row_without_values_is_refused():
    with pytest.raises(ValueError, match="expected values for each of 2 rows"):
        judge([1, 2], [[1], []])


@pytest.mark.parametrize("grids", [(1,), (1, 3), (1, 2, 3, 4)])
def test_batches_are_those_of_the_ordinary_loop(base, photo_folder, labels, stem_file, tmp_path, grids):
    """The full cache's columns must be what a cache of only these grids holds, photo by photo, step by step."""
    photos, teacher = find_photos(photo_folder), build_teacher(base.teacher, labels)
    config = variant_config(base, Variant(("global_view",), grids), 5)
    full = cache_views(photos, teacher, ViewConfig(), tmp_path, progress=False)
    own = cache_views(photos, teacher, ViewConfig(grids), tmp_path, progress=False)
    stem = ConvStem(config.model_config())
    stem.load_pretrained(NET, stem_file)
    stem.eval()
    held = HeldSet(hold_photos(photos, full, config, 16, stem), grids, config, 5)
    ordinary = TrainingSet(photos, own, own.rows, config, 5, 16)
    reference = ConvStem(config.model_config())
    reference.load_pretrained(NET, stem_file)
    reference.eval()
    for step in range(5):
        got, wanted = held[step], ordinary[step]
        assert torch.equal(got.image, wanted.image) and torch.equal(got.views, wanted.views)
        assert got.grid == wanted.grid and len(view_columns(grids)) == got.views.shape[1]
        with torch.no_grad():
            for ours, theirs in zip(got.stem, reference(wanted.image), strict=True):
                assert (ours - theirs).abs().max() <= HALF * theirs.abs().max()


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        (BASE, {"global_view", "reconstruction"}),
        (FULL, {"multi_scale", "segment_matching", "reconstruction"}),
        (Variant(("segment_matching",), mask_ratio=0.0), {"segment_matching"}),
    ],
)
def test_a_variant_trains_its_losses_and_nothing_is_reconstructed_unmasked(base, labels, variant, wanted):
    config = variant_config(base, variant, 3)
    student = ablation_runs.new_student(config, build_teacher(base.teacher, labels), None)
    assert set(Objective(student, config).weights) == wanted and config.seed == 3
    assert (student.reconstruction is None) == (variant.mask_ratio == 0)
    assert student.config.mask_ratio == variant.mask_ratio and config.views.grids == variant.grids


@pytest.fixture(scope="module")
def arguments(photo_folder, label_folder, teacher_folder, stem_file, voc, voc_pack, tmp_path_factory):
    """Command line of a grid that takes seconds."""
    root = tmp_path_factory.mktemp("grid")
    args = [
        "--photos",
        photo_folder,
        "--voc-dev",
        voc,
        "--cache",
        root / "cache",
        "--labels",
        label_folder,
        "--teacher",
        f"timm:{NET}",
        "--teacher-weights",
        teacher_folder,
        "--stem-weights",
        stem_file,
        "--label-pack",
        voc_pack,
        "--size",
        "64",
        "--eval-side",
        "64",
        "--batch",
        "8",
        "--epochs",
        "2",
        "--only",
        "T4",
        "--seeds",
        "1",
        "--subset",
        "background,cat,dog",
        "--threshold-photos",
        "3",
        "--set",
        "teacher.view_size=32",
        "--set",
        "teacher.conse.worn_weight=0",
        "--set",
        "teacher.conse.worn_gain=0",
    ]
    args += [part for name, value in MODEL.items() for part in ("--set", f"model.{name}={json.dumps(value)}")]
    return list(map(str, args))


def call(*args):
    return CliRunner().invoke(main, list(map(str, args)))


def test_a_stopped_grid_goes_on_to_the_same_results(arguments, tmp_path, monkeypatch):
    whole = call(*arguments, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    served, item = [], HeldSet.__getitem__

    def until_the_second_epoch(self, step):
        served.append(step)
        if len(served) == 6 + 5:  # the second run, after its checkpoint at step 3
            raise RuntimeError("power cut")
        return item(self, step)

    monkeypatch.setattr(HeldSet, "__getitem__", until_the_second_epoch)
    assert "power cut" in str(call(*arguments, "--out", tmp_path / "cut").exception)
    done = [path.parent.name for path in (tmp_path / "cut" / "runs").glob("*/result.json")]
    assert sorted(done) == ["global-view_1_mask60_seed0", "untrained_seed0"]
    stamp = (tmp_path / "cut" / "runs" / done[0] / "result.json").stat().st_mtime_ns
    served.clear()
    monkeypatch.setattr(HeldSet, "__getitem__", lambda self, step: served.append(step) or item(self, step))
    again = call(*arguments, "--out", tmp_path / "cut")
    assert again.exit_code == 0, again.output
    assert served[:3] == [3, 4, 5] and len(served) == 3 + 2 * 6
    assert (tmp_path / "cut" / "runs" / done[0] / "result.json").stat().st_mtime_ns == stamp
    a, b = (json.loads((tmp_path / name / "ablations.json").read_text()) for name in ("whole", "cut"))
    for one, other in zip(a["tables"]["T4"]["rows"], b["tables"]["T4"]["rows"], strict=True):
        assert all(one[name] == other[name] for name in ("variant", "miou", "miou_best", "oracle"))
        assert 0 <= one["miou"]["values"][0] <= one["miou_best"]["values"][0] <= 100 and one["miou"]["sd"] is None
    assert a["untrained"]["oracle"] == b["untrained"]["oracle"]
    assert a["settings"]["config"] == b["settings"]["config"]
    assert json.loads(whole.stdout.splitlines()[-1]) == a
    assert Image.open(tmp_path / "cut" / "ablations.png").width > 300

    changed = call(*arguments, "--out", tmp_path / "cut", "--lr", "0.5")
    assert changed.exit_code == 1 and "config.lr = 0.001, but now it is 0.5" in changed.output
    assert changed.output.count("\n") == 1
    plan = call(*arguments, "--out", tmp_path / "cut", "--seeds", "2", "-n")
    assert plan.exit_code == 0 and "10 runs, 5 done; estimated" in plan.output, plan.output
    assert plan.output.count("\nto do ") == 5 and "\ndone        6 steps  global-view_1_mask60_seed0" in plan.output


def test_measured_is_what_the_evaluation_command_says(arguments, voc, tmp_path):
    from zeroseg.evaluation.evaluate import evaluate
    from zeroseg.evaluation.label_sets import label_set
    from zeroseg.evaluation.network import SegmenterPredict
    from zeroseg.evaluation.protocol import ProtocolConfig
    from zeroseg.evaluation.standard_sets import voc_dev
    from zeroseg.segment.segmenter import Segmenter

    done = call(*arguments, "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    run = tmp_path / "one" / "runs" / f"{FULL.slug}_seed0"
    result = json.loads((run / "result.json").read_text())
    assert not (run / "checkpoint.pt").exists() and result["steps"] == 6 and result["photos"] == 4
    pack = arguments[arguments.index("--label-pack") + 1]
    predict, dataset = SegmenterPredict(Segmenter.load(run / "model.pt").set_labels(pack)), voc_dev(voc)
    report = evaluate(predict, dataset, ProtocolConfig(threshold=result["threshold"]), label_set(dataset))
    iou = []  # by hand: background, cat and dog
    for c in (0, 8, 12):
        hit = report.confusion[c, c]
        iou.append(hit / (report.confusion[c].sum() + report.confusion[:, c].sum() - hit))
    assert result["miou"] == pytest.approx(100 * statistics.mean(iou), abs=1e-9)


def test_the_report_is_made_of_every_seed():
    """Base worst, both best, the two between the wrong way round: 5 of 6 pairs, as drawn up by hand."""
    rng = np.random.default_rng(0)
    levels = {
        BASE.slug: 10,
        Variant(("multi_scale",)).slug: 30,
        Variant(("segment_matching",)).slug: 20,
        FULL.slug: 40,
        None: 5,
    }
    noise = {slug: rng.uniform(-1, 1, 3) for slug in levels}
    results = {
        (slug, seed): {name: level + float(noise[slug][seed]) for name in ("miou", "miou_best", "oracle")}
        | ({"step_ms": 7.0} if slug else {})
        for slug, level in levels.items()
        for seed in range(3)
    }
    document = ablation_report.collect(["T4"], 3, results)
    for row in document["tables"]["T4"]["rows"]:
        values = levels[row["variant"]] + noise[row["variant"]]
        assert row["miou"]["values"] == pytest.approx(list(values)) and row["step_ms"]["mean"] == 7
        assert row["miou"]["mean"] == pytest.approx(np.mean(values))
        assert row["miou"]["sd"] == pytest.approx(np.std(values, ddof=1))
        assert (row["miou"]["low"], row["miou"]["high"]) == (values.min(), values.max())
    verdict = document["tables"]["T4"]["verdicts"]["miou"]
    assert (verdict["holds"], verdict["agreeing"], verdict["clear"], verdict["clear_agreeing"]) == (False, 5, 6, 5)
    assert verdict["order"] == ["base", "+ matching", "+ multi-scale", "+ both"]
    said = ablation_report.text(document)
    assert "does not hold: 5 of 6 pairs agree" in said and f"{np.mean(10 + noise[BASE.slug]):.1f} ± " in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "T9"], "--only: expected some of T4,T3,T5, got 'T9'"),
        (["--only", ""], "--only: expected some of"),
        (["--rule", "guess"], "--rule: expected one of otsu, minimum-error"),
        (["--set", "lr"], "expected FIELD=VALUE"),
        (["--photos", "/nowhere"], "photos: /nowhere is not a folder"),
        (["--voc-dev", "/nowhere"], "/nowhere"),
        (["--subset", "unicorn", "--limit", "8"], "expected classes of VOC-animals dev, got 'unicorn'"),
    ],
)
def test_bad_input_is_one_line(arguments, tmp_path, args, message):
    result = call(*arguments, "--out", tmp_path / "out", *args)
    assert result.exit_code == 1 and message in result.output and result.output.startswith("Error: "), result.output
    assert result.output.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(arguments, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    result = call(*arguments, "--out", tmp_path)
    assert result.exit_code == 1 and "is not empty and has no ablation runs" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_help_has_an_example_without_torch():
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).resolve().parents[2] / "training" / "ablations.py"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, "--help"], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0 and "python training/ablations.py --photos" in done.stdout
    assert " torch\n" not in done.stderr and " numpy\n" not in done.stderr
