"""Many short runs over the same photos: the teacher's views and the frozen stem's features are computed once for all.

All variants see centre crops, so a photo always gives the same data: pixels, stem features and views of the whole set
are held in memory, and a batch is a selection of rows. The ordinary loop trains each run. It is then measured as users
run it, with a background threshold chosen on photos without masks.
"""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.folders import MaskFolder
from zeroseg.files import write_text
from zeroseg.model.checkpoint import save_checkpoint
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training.ablation.tables import FULL_GRIDS, Variant
from zeroseg.training.batches import Batch, Schedule, validation_batch
from zeroseg.training.distill import sidecar
from zeroseg.training.forward import FrozenForward
from zeroseg.training.loop import Trainer, plan_steps
from zeroseg.training.photos import PhotoSet
from zeroseg.training.processes import Processes
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.run_folder import RunFolder, read_curve
from zeroseg.training.teacher import Teacher
from zeroseg.training.views import ViewCache, grid_boxes

STEM_BATCH = 16
SWEEP = np.linspace(0.1, 0.9, 9)  # quantiles of the unlabelled photos' scores


@dataclass(frozen=True)
class Measure:
    """How a trained model is measured.

    dataset           photos with masks, and how many of the first are used.
    unlabelled        photos on which the threshold is chosen by `rule` of zeroseg.training.choose_threshold.
    subset            class names averaged.
    label_pack        .npz of the dataset's names in the teacher's space; None: looked up in the bundled words.
    """

    dataset: MaskFolder
    photos: int
    unlabelled: tuple[Path, ...]
    rule: str
    subset: tuple[str, ...]
    label_pack: str | None = None


def variant_config(base: TrainConfig, variant: Variant, seed: int) -> TrainConfig:
    """base with the losses, views and masking of a variant.

    Without removed patches nothing can be reconstructed, so mask ratio 0 trains without that loss.
    """
    masked = variant.mask_ratio > 0
    chosen = {name: float(name in variant.losses) for name in ("global_view", "multi_scale", "segment_matching")}
    losses = replace(base.losses, **chosen, reconstruction=base.losses.reconstruction if masked else 0.0)
    model = base.model | {"mask_ratio": variant.mask_ratio, "reconstruction": masked and losses.reconstruction > 0}
    return replace(base, losses=losses, model=model, seed=seed, views=replace(base.views, grids=variant.grids))


def view_columns(grids: tuple[int, ...]) -> np.ndarray:
    """Indices of the views of some grids among those of FULL_GRIDS: (V,) int64."""
    if set(grids) - set(FULL_GRIDS):
        raise ZerosegError(f"views.grids: expected some of {FULL_GRIDS}, got {grids}")
    of_column = np.repeat(FULL_GRIDS, [len(grid_boxes((grid,))) for grid in FULL_GRIDS])
    return np.flatnonzero(np.isin(of_column, grids))


def hold_photos(photos: PhotoSet, cache: ViewCache, config: TrainConfig, patch: int, stem=None) -> Batch:
    """All readable photos as one batch on the CPU: centre crops, every cached view, and features of a given stem."""
    whole = validation_batch(photos, cache, cache.rows, config, patch)
    if stem is None:
        return whole
    run = FrozenForward(stem, 32)
    parts = [run(whole.image[i : i + STEM_BATCH]) for i in range(0, len(whole), STEM_BATCH)]
    return replace(whole, stem=tuple(torch.cat(maps) for maps in zip(*parts, strict=True)))


class HeldSet(torch.utils.data.Dataset):
    """Item number `step` is that step's batch, rows of photos held in memory; on_step() is called for each."""

    def __init__(self, whole: Batch, grids: tuple[int, ...], config: TrainConfig, steps: int, on_step=None):
        self.whole, self.columns, self.on_step = whole, torch.from_numpy(view_columns(grids)), on_step
        self.schedule = Schedule([np.arange(len(whole))], config.batch, steps, config.seed)

    def __len__(self) -> int:
        return len(self.schedule.bucket)

    def __getitem__(self, step: int) -> Batch:
        rows = torch.from_numpy(self.schedule[step][1])
        if self.on_step:
            self.on_step()
        whole = self.whole
        stem = whole.stem and tuple(maps[rows] for maps in whole.stem)
        return Batch(whole.image[rows], stem, whole.views[rows][:, self.columns], None, whole.grid)


def new_student(config: TrainConfig, teacher: Teacher, stem_state: dict | None) -> ZeroSeg:
    """The student before training; stem_state: the pretrained stem's weights, None for a plain ViT."""
    torch.manual_seed(config.seed)
    student = ZeroSeg(config.model_config())
    if student.config.readout == "prototypes":
        student.readout.set_vectors(*teacher.prototypes(student.config.prototypes))
    if stem_state is not None:
        student.stem.load_state_dict(stem_state)
    return student


def run_variant(
    folder: RunFolder,
    config: TrainConfig,
    whole: Batch,
    stem_state: dict | None,
    teacher: Teacher,
    measure: Measure,
    processes: Processes,
    trained: bool = True,
    on_step=None,
) -> dict:
    """Train (unless not trained: then the student stays as it was made) and measure; result.json is the run's end.

    An interrupted run continues from its checkpoint. Returns the content of result.json.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_config({"config": config.to_dict(), "model": config.model_config().to_dict()})
    student, result, began = new_student(config, teacher, stem_state), {}, time.monotonic()
    if trained:
        plan = plan_steps(config, len(whole))
        data = HeldSet(whole, config.views.grids, config, plan.steps, on_step)
        trainer = Trainer(student, config, data, plan, folder, processes, "fp32")
        if folder.has_checkpoint():
            trainer.load_state(folder.load_checkpoint())
        trainer.run(progress=False)
        student = trainer.result()
        curve = read_curve(folder.path / "curve.csv")
        result = {"steps": plan.steps, "step_ms": step_ms(curve), "loss": float(curve[-1]["total"])}
    result["train_s"] = time.monotonic() - began
    path = folder.path / "model.pt"
    save_checkpoint(path, student.cpu(), sidecar=sidecar(config, student, teacher, len(whole)), half=True)
    began = time.monotonic()
    result |= measure_model(path, measure)
    result["measure_s"] = time.monotonic() - began
    write_json(folder.path / "result.json", result)
    (folder.path / "checkpoint.pt").unlink(missing_ok=True)  # the optimiser's state is of no more use
    return result


def step_ms(curve: list[dict[str, str]]) -> float:
    """Median time of a step in ms, from the seconds of a curve.csv; the clock restarts where a run resumed."""
    seconds = np.array([0.0, *(float(row["seconds"]) for row in curve)])
    taken = np.diff(seconds)
    return float(1000 * np.median(taken[taken > 0]))


def measure_model(path: Path, measure: Measure, quantiles: np.ndarray = SWEEP) -> dict:
    """mIoU of a model.pt in percent: at the threshold of the rule, at the best one on the masks, with oracle names.

    quantiles  of the unlabelled photos' scores: the thresholds of which the best is taken.
    """
    from zeroseg.evaluation.evaluate import evaluate
    from zeroseg.evaluation.label_sets import label_set
    from zeroseg.evaluation.metrics import mean_iou, naming_accuracy
    from zeroseg.evaluation.network import SegmenterPredict
    from zeroseg.evaluation.protocol import ProtocolConfig
    from zeroseg.segment.segmenter import Segmenter
    from zeroseg.training.choose_threshold import choose_threshold, pixel_scores

    names = label_set(measure.dataset)
    segmenter = Segmenter.load(path, threads=torch.get_num_threads())
    segmenter.set_labels(measure.label_pack or list(names.names))
    predict = SegmenterPredict(segmenter)
    scores, _ = pixel_scores(predict, list(measure.unlabelled), len(names.names))
    # if all pixels have the same score there are no two modes: then all is foreground
    threshold = choose_threshold(scores, measure.rule) if scores.min() < scores.max() else float(scores.min())
    sweep = sorted({float(q) for q in np.quantile(scores, quantiles)})
    report = evaluate(
        predict,
        measure.dataset,
        ProtocolConfig(threshold=threshold),
        names,
        subset=measure.subset,
        limit=measure.photos,
        sweep=sweep,
    )
    own, naming = 100 * mean_iou(report.confusion, report.subset), naming_accuracy(report.confusion)
    best = max([100 * mean_iou(matrix, report.subset) for _, matrix in report.sweep] + [own])
    return {
        "miou": own,
        "threshold": threshold,
        "miou_best": best,
        "oracle": 100 * mean_iou(report.oracle["majority"], report.subset),
        "naming": None if math.isnan(naming) else 100 * naming,
        "photos": len(report.predict_ms),
    }


def write_json(path: Path, value: dict) -> None:
    """Write JSON completely or not at all; ZerosegError if it cannot be written."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def describe(measure: Measure) -> dict:
    """The settings of a measurement, JSON-able."""
    values = asdict(replace(measure, dataset=None, unlabelled=()))
    return values | {"dataset": measure.dataset.name, "unlabelled": len(measure.unlabelled)}
