"""All runs of the ablations in one folder: find finished and missing runs, estimate their cost, and run them.

The folder's config.json has the settings of every run. A command with the same settings resumes. More seeds and other
tables are allowed; any other change is refused by name.
"""

import hashlib
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

import zeroseg
from zeroseg.errors import ZerosegError
from zeroseg.hub import fetching
from zeroseg.model.checkpoint import save_checkpoint
from zeroseg.model.stem import ConvStem
from zeroseg.training.ablation.runs import (
    Measure,
    describe,
    hold_photos,
    measure_model,
    new_student,
    run_variant,
    variant_config,
    write_json,
)
from zeroseg.training.ablation.tables import FULL, FULL_GRIDS, Variant, variants
from zeroseg.training.batches import Batch
from zeroseg.training.distill import Inputs, sidecar
from zeroseg.training.loop import build_optimizer, plan_steps
from zeroseg.training.objective import Objective
from zeroseg.training.photos import PhotoSet, name_some
from zeroseg.training.processes import Processes
from zeroseg.training.progress import progress_bar
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.run_folder import RunFolder
from zeroseg.training.teacher import Teacher
from zeroseg.training.views import cache_views, cut_views

UNTRAINED = "untrained"


@dataclass(frozen=True)
class Job:
    """One run: variant None measures the student as it is before training."""

    variant: Variant | None
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant.slug if self.variant else UNTRAINED}_seed{self.seed}"


def plan_jobs(tables: list[str], seeds: int) -> list[Job]:
    """Every variant of the tables and the untrained student, seed by seed, so that an interrupted grid has complete
    seeds.
    """
    return [Job(variant, seed) for seed in range(seeds) for variant in (None, *variants(tables))]


def depends_on(base: TrainConfig, photos: PhotoSet, teacher: Teacher, measure: Measure) -> dict:
    """All that results depend on, JSON-able."""
    config = base.to_dict()
    config["teacher"]["weights"] = None  # which they are says the fingerprint, wherever they lie
    return json.loads(
        json.dumps(
            {
                "config": config,
                "model": base.model_config().to_dict(),
                "photos": {"count": len(photos), "fingerprint": photos.fingerprint},
                "teacher": teacher.fingerprint,
                "measure": describe(measure) | {"files": _digest(measure.dataset.photos[: measure.photos])},
            }
        )
    )


def check_settings(folder: Path, settings: dict) -> None:
    """ZerosegError if the folder holds runs of other settings, or anything that is no folder of runs."""
    if not (folder / "config.json").is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ZerosegError(f"ablations: {folder} is not empty and has no ablation runs; choose another --out")
        return
    before, now = _flat(RunFolder(folder).read_config().get("settings") or {}), _flat(settings)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            was, is_now = _short(before.get(name)), _short(now.get(name))
            raise ZerosegError(
                f"ablations: the runs in {folder} have {name} = {was}, but now it is {is_now}; change it back "
                "or choose another --out"
            )


def begin(folder: Path, settings: dict) -> None:
    """Make the folder of runs, unless it is there with the same settings."""
    check_settings(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").is_file():
        write_json(
            folder / "config.json", {"zeroseg": zeroseg.__version__, "torch": torch.__version__, "settings": settings}
        )


def read_result(run: Path) -> dict | None:
    """The result of a finished run; None if it is not finished. ZerosegError if its result.json is damaged."""
    try:
        return json.loads((run / "result.json").read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as error:
        raise ZerosegError(f"ablations: {run} is damaged; delete it, and the command makes it again") from error


class Grid:
    """photos, teacher and the base settings of all runs, in the folder inputs.run."""

    def __init__(
        self,
        base: TrainConfig,
        inputs: Inputs,
        photos: PhotoSet,
        teacher: Teacher,
        measure: Measure,
        processes: Processes,
    ):
        space = {"embedding_dim": teacher.dim, "embedding_space": teacher.space}
        self.base = replace(base, model=base.model | space)
        self.inputs, self.photos, self.teacher, self.measure = inputs, photos, teacher, measure
        self.processes, self.folder = processes, Path(inputs.run)

    def settings(self) -> dict:
        """All that the results depend on, JSON-able."""
        return depends_on(self.base, self.photos, self.teacher, self.measure)

    def check(self) -> None:
        """ZerosegError if the folder holds runs of other settings, or anything that is no such folder."""
        check_settings(self.folder, self.settings())

    def result(self, job: Job) -> dict | None:
        """What a finished run found; None if it is still to do."""
        return read_result(self.folder / "runs" / job.name)

    def steps(self, job: Job) -> int:
        """Steps of a run, as if every photo can be read."""
        return plan_steps(self.base, len(self.photos)).steps if job.variant else 0

    def run(self, jobs: list[Job], progress: bool = True) -> dict[Job, dict]:
        """Run the missing jobs; returns the results of all."""
        begin(self.folder, self.settings())
        pending = [job for job in jobs if self.result(job) is None]
        if pending:
            self._run(pending, len(jobs), progress)
        return {job: self.result(job) for job in jobs}

    def _run(self, pending: list[Job], total: int, progress: bool) -> None:
        views = replace(self.base.views, grids=FULL_GRIDS)
        cache = cache_views(self.photos, self.teacher, views, self.inputs.cache, progress)
        if cache.unreadable:
            tqdm.write(
                f"{len(cache.unreadable)} of {len(self.photos)} photos cannot be read and are left out: "
                f"{name_some(cache.unreadable)}",
                file=sys.stderr,
            )
        stem = self._stem()
        state = None if stem is None else {name: value.clone() for name, value in stem.state_dict().items()}
        whole = hold_photos(self.photos, cache, self.base, self.base.model_config().patch_size, stem)
        bar = progress_bar("ablations", "step", sum(map(self.steps, pending)), 0, progress)
        for number, job in enumerate(pending, 1 + total - len(pending)):
            bar.set_postfix_str(f"run {number} of {total}: {job.name}", refresh=False)
            config = variant_config(self.base, job.variant or FULL, job.seed)
            result = run_variant(
                RunFolder(self.folder / "runs" / job.name),
                config,
                whole,
                state,
                self.teacher,
                self.measure,
                self.processes,
                trained=job.variant is not None,
                on_step=bar.update,
            )
            tqdm.write(
                f"{job.name}: mIoU {result['miou']:.1f}, best {result['miou_best']:.1f}, oracle "
                f"{result['oracle']:.1f}; trained {result['train_s']:.0f} s, measured "
                f"{result['measure_s']:.0f} s",
                file=sys.stderr,
            )
        bar.close()

    def _stem(self) -> ConvStem | None:
        """The frozen stem with its ImageNet weights; None for a plain ViT."""
        model = self.base.model_config()
        if model.encoder != "hybrid":
            return None
        stem = ConvStem(model)
        if self.inputs.stem_weights:
            stem.load_pretrained(model.stem, self.inputs.stem_weights)
        else:
            with fetching(f"weights of the stem {model.stem}", "--stem-weights FILE"):
                stem.load_pretrained(model.stem)
        return stem

    def estimate(self, jobs: list[Job]) -> dict:
        """Seconds that the jobs not done yet should take, from their own steps on random batches, measured now.

        {"teacher_s" (if no photo is cached), "train_s", "measure_s", "memory_mib" of the photos held}
        """
        pending = [job for job in jobs if self.result(job) is None]
        model, height = self.base.model_config(), self.base.crops.sizes[0]
        with torch.no_grad():
            crops = cut_views(self.photos.read(0), FULL_GRIDS, self.teacher.view_size)
            self.teacher.embed(crops[:1])
            teacher_s = len(self.photos) * _seconds(lambda: self.teacher.embed(crops))
        image = torch.randn(self.base.batch, 3, *height)
        grid = tuple(side // model.patch_size for side in height)
        per_mask, bytes_held = {}, 0
        for ratio in sorted({job.variant.mask_ratio for job in pending if job.variant}):
            config = variant_config(self.base, replace(FULL, mask_ratio=ratio), 0)
            student = new_student(config, self.teacher, None)
            if student.stem is not None:
                student.stem.requires_grad_(False)
            with torch.no_grad():
                stem = student.stem and tuple(student.stem(image))
            bytes_held = image[0].nbytes + 4 * 30 * self.teacher.dim + sum(maps[0].nbytes for maps in stem or ())
            batch = Batch(image, stem, torch.randn(len(image), 30, self.teacher.dim), None, grid)
            per_mask[ratio] = _step_seconds(student, config, batch)
        train_s = sum(self.steps(job) * per_mask[job.variant.mask_ratio] for job in pending if job.variant)
        measure_s = len(pending) * self._measure_seconds() if pending else 0.0
        return {
            "teacher_s": teacher_s if pending else 0.0,
            "train_s": train_s,
            "measure_s": measure_s,
            "memory_mib": len(self.photos) * bytes_held / 2**20,
        }

    def _measure_seconds(self) -> float:
        """One run's measurement: what one photo of each kind takes, and what every two more add."""
        one, three = (
            replace(self.measure, photos=min(count, self.measure.photos), unlabelled=self.measure.unlabelled[:count])
            for count in (1, 3)
        )
        config = variant_config(self.base, FULL, 0)
        student = new_student(config, self.teacher, None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            save_checkpoint(path, student, sidecar=sidecar(config, student, self.teacher, 0))
            measure_model(path, one)  # imports and caches
            first = _seconds(lambda: measure_model(path, one))
            more = max(0.0, _seconds(lambda: measure_model(path, three)) - first) / 4
        return first + more * (self.measure.photos + len(self.measure.unlabelled) - 2)


def _step_seconds(student, config: TrainConfig, batch: Batch) -> float:
    objective = Objective(student, config).train()
    optimizer = build_optimizer(student, config)
    ratio = student.config.mask_ratio
    noise = torch.rand(len(batch), math.prod(batch.grid)) if ratio else None

    def step():
        for start in range(0, len(batch), config.micro_batch):
            stop = start + config.micro_batch
            objective(batch.part(start, stop), None if noise is None else noise[start:stop])[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return statistics.median(_seconds(step) for _ in range(3))


def _seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _digest(paths) -> str:
    """Of names, sizes and modification times."""
    text = "".join(f"{path.name}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\n" for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(values, prefix: str = "") -> dict:
    result = {}
    for name, value in values.items():
        result |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return result


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
