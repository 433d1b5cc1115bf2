"""One training run from photos to model.pt, as a plain function; train.py is its command line."""

import hashlib
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import zeroseg
from zeroseg.errors import ZerosegError
from zeroseg.hub import fetching
from zeroseg.model.checkpoint import load_checkpoint, save_checkpoint
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.sidecar import InputSpec, Sidecar
from zeroseg.training.batches import TrainingSet, split_rows, validation_batch
from zeroseg.training.build_teacher import build_teacher
from zeroseg.training.conse import LabelSpace, load_label_space
from zeroseg.training.loop import Trainer, plan_steps
from zeroseg.training.objective import Objective, check_weights
from zeroseg.training.photos import PhotoSet, find_photos, name_some
from zeroseg.training.pictures import draw_curve, draw_masks
from zeroseg.training.precision import choose_precision
from zeroseg.training.processes import Processes
from zeroseg.training.rare import names_present, repeat_rare
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.run_folder import RunFolder
from zeroseg.training.shards import ShardOrder, ShardSet, cache_shards, find_shards, holds_shards
from zeroseg.training.stem_cache import cache_stem
from zeroseg.training.teacher import Teacher
from zeroseg.training.teachers.build import any_part, more_prototypes, name_vectors, spoken_names
from zeroseg.training.teachers.cache import cache_targets
from zeroseg.training.teachers.described import describe, zero_shot
from zeroseg.training.views import ViewCache, cache_views
from zeroseg.training.warm_start import load_initial

PICTURED = 8  # held-out photos drawn in masks.png


@dataclass(frozen=True)
class Inputs:
    """Files and folders of a run. Only classifier teachers need labels."""

    photos: str
    run: str
    cache: str
    label_names: str | None = None  # text, one name a line
    label_vectors: str | None = None  # .npy (N, D), row for row
    class_names: str | None = None  # JSON lines: names of each class
    label_space: str = "openai/clip-vit-base-patch32"  # embedding space of label_vectors
    stem_weights: str | None = None  # .safetensors for the hybrid encoder's stem; None = timm's hub
    initial: str | None = None  # model.pt to start from
    limit: int | None = None  # use this many photos
    cached_only: bool = False  # with helper teachers: train on the photos whose targets are cached, make none


def distill(
    config: TrainConfig,
    inputs: Inputs,
    processes: Processes,
    *,
    resume: bool = False,
    workers: int = 0,
    until: int | None = None,
    progress: bool = True,
) -> Path:
    """Train as configured; the run folder then has config.json, checkpoint.pt, curve.csv, pictures and model.pt.

    resume  continue from the checkpoint in inputs.run.
    until   stop after this step; resume continues later.
    Returns the path of model.pt, or of checkpoint.pt if the run stopped before its end.
    Raises ZerosegError, in one line, for wrong input. Then nothing was overwritten, and a run that did not reach its
    first step leaves no folder.
    """
    folder = RunFolder(inputs.run)
    try:
        return _distill(config, inputs, processes, folder, resume, workers, until, progress)
    except ZerosegError:
        folder.abandon()
        raise


def _distill(
    config: TrainConfig,
    inputs: Inputs,
    processes: Processes,
    folder: RunFolder,
    resume: bool,
    workers: int,
    until: int | None,
    progress: bool,
) -> Path:
    say = _printer(processes)
    config.model_config()
    check_weights(config, {name: weight for name, weight in asdict(config.losses).items() if weight})
    if config.batch % processes.count:
        raise ZerosegError(f"batch: {config.batch} does not divide among {processes.count} processes")
    photos = find_source(config, inputs)
    sharded = isinstance(photos, ShardSet)
    if config.repeat_share and (sharded or config.stem_views or not config.views.dense_grid):
        raise ZerosegError("repeat_share: expected a folder of photos, dense targets and stem_views=0; set it to 0")
    teacher = build_teacher(config.teacher, find_labels(inputs), str(processes.device))
    student, config = _student(config, inputs, teacher)

    stored = folder.read_config() if resume else None
    if stored and stored["photos"]["fingerprint"] != photos.fingerprint:
        raise ZerosegError(f"photos: {inputs.photos} has changed since {inputs.run} began; start another run")
    precision, why = choose_precision(stored["precision"] if stored else config.precision, processes.device)
    processes.wait(caches=True)  # the hub's too
    if processes.first and not resume:
        folder.begin()
        folder.write_config(
            {
                "zeroseg": zeroseg.__version__,
                "torch": torch.__version__,
                "config": config.to_dict(),
                "inputs": asdict(inputs),
                "model": student.config.to_dict(),
                "precision": precision,
                "photos": {"count": len(photos), "fingerprint": photos.fingerprint},
                "teacher": teacher.fingerprint,
            }
        )
    say(
        f"zeroseg {zeroseg.__version__} from {Path(zeroseg.__file__).parent}; torch {torch.__version__}, "
        f"{processes.count} process(es) on {processes.device.type}; {precision}: {why}"
    )

    if sharded:
        helped = config if any_part(config.parts) else None
        cache = cache_shards(
            photos, teacher, config.views, inputs.cache, processes, progress, helped, max(1, workers)
        )  # fmt: skip
        if cache.readable.sum() < len(photos):
            say(f"{len(photos) - cache.readable.sum()} of {len(photos)} photos cannot be read and are left out")
        rows = ShardOrder(cache, config)
        held_out = rows.held_out
    else:
        cache = _first_alone(processes, lambda: find_targets(photos, teacher, config, inputs, workers, progress))
        if cache.unreadable:
            say(
                f"{len(cache.unreadable)} of {len(photos)} photos cannot be read and are left out: "
                f"{name_some(cache.unreadable)}"
            )
        rows, held_out = split_rows(cache.rows, config.val_photos, config.seed)
    trained_on = len(rows)
    if config.repeat_share:
        names = name_vectors(teacher.space, teacher.centre).things
        rows = repeat_rare(rows, names_present(cache.dense, rows, names), config.repeat_share, config.seed)
        say(f"photos with rare names are repeated: {len(rows)} per epoch, of {trained_on}")
    stem = None
    if config.stem_views:
        stem = _first_alone(
            processes,
            lambda: cache_stem(
                photos,
                student.stem,
                config.mean,
                config.std,
                config.stem_views,
                config.crops,
                config.seed,
                inputs.cache,
                _weights_digest(student.stem),
                progress=progress,
                rows=cache.rows,
            ),
        )
    plan = plan_steps(config, len(rows))
    data = TrainingSet(
        photos, cache, rows, config, plan.steps, student.config.patch_size, stem, processes.rank, processes.count
    )
    trainer = Trainer(student, config, data, plan, folder, processes, precision, workers)
    if resume and folder.has_checkpoint():
        trainer.load_state(folder.load_checkpoint())
    weights = sum(p.numel() for p in student.parameters() if p.requires_grad)
    say(
        f"{trained_on} photos to train on, {len(held_out)} held out; {plan.steps} steps of {config.batch}, "
        f"{plan.per_epoch} per epoch; {weights / 1e6:.1f} M weights to train"
        + (f"; resuming at step {trainer.step}" if trainer.step else "")
    )
    validate = (
        Validation(photos, cache, held_out, config, student.config.patch_size, folder, processes)
        if processes.first and len(held_out)
        else None
    )
    trainer.run(validate, until, progress)
    if trainer.step < plan.steps:
        say(f"stopped after step {trainer.step} of {plan.steps}; --resume goes on")
        return folder.path / "checkpoint.pt"
    path = folder.path / "model.pt"
    if processes.first:
        if trainer.best is not None:
            say(f"took the weights after step {trainer.best[1]}: the lowest loss on the held-out photos")
        save_checkpoint(path, trainer.chosen(), sidecar=sidecar(config, student, teacher, trained_on))
        folder.write_image("curve.png", draw_curve(folder.path / "curve.csv"))
        folder.write_curve_json()
        say(f"wrote {path}")
    processes.wait()
    return path


def find_targets(photos, teacher, config: TrainConfig, inputs: Inputs, threads: int, progress: bool) -> ViewCache:
    """What the teacher, or the teacher with its helpers, says of every photo."""
    if not any_part(config.parts):
        return cache_views(photos, teacher, config.views, inputs.cache, progress)
    make = not inputs.cached_only
    return cache_targets(photos, teacher, config, inputs.cache, threads=max(1, threads), make=make, progress=progress)


class Validation:
    """Losses and masks of the held-out photos; masks.png and curve.png follow the run."""

    def __init__(
        self,
        photos,
        cache: ViewCache,
        rows: np.ndarray,
        config: TrainConfig,
        patch: int,
        folder: RunFolder,
        processes: Processes,
    ):
        self.batch = validation_batch(photos, cache, rows, config, patch)
        self.config, self.folder, self.device = config, folder, processes.device
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
        self.pictures = self.batch.image[:PICTURED] * std + mean

    @torch.no_grad()
    def __call__(self, student: ZeroSeg) -> dict[str, float]:
        objective = Objective(student, self.config).eval()
        sums: dict[str, float] = {}
        for start in range(0, len(self.batch), self.config.micro_batch):
            part = self.batch.part(start, start + self.config.micro_batch).to(self.device)
            total, values = objective(part)
            for name, value in {"total": total, **values}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(part) / len(self.batch)
        output = student(self.batch.image[:PICTURED].to(self.device))
        self.folder.write_image("masks.png", draw_masks(self.pictures, output.soft_map.float().cpu(), output.grid))
        if (self.folder.path / "curve.csv").stat().st_size and self._has_rows():
            self.folder.write_image("curve.png", draw_curve(self.folder.path / "curve.csv"))
        return sums

    def _has_rows(self) -> bool:
        with open(self.folder.path / "curve.csv", encoding="utf-8") as file:
            return sum(1 for _ in file) > 1


def sidecar(config: TrainConfig, student: ZeroSeg, teacher: Teacher, photo_count: int) -> dict:
    """The model's sidecar: input, embedding space, scoring, threshold and origin."""
    model = student.config
    return Sidecar(
        name=config.name,
        embedding_space=model.embedding_space,
        embedding_dim=model.embedding_dim,
        segments=model.segments,
        stride=model.patch_size,
        input=InputSpec(
            config.short_side, model.size_multiple, config.max_long_side, tuple(config.mean), tuple(config.std)
        ),
        threshold=config.threshold,
        scoring=student.scoring(),
        files={},
        card={
            "teacher": teacher.spec,
            "teachers": [item.name for item in describe(config)],
            "zero_shot": zero_shot(config),
            "photos": photo_count,
            "epochs": config.epochs,
            "preset": config.preset,
        },
    ).to_dict()


def find_source(config: TrainConfig, inputs: Inputs) -> PhotoSet | ShardSet:
    """The training photos: a folder of shards or of photos."""
    if not holds_shards(inputs.photos):
        return find_photos(inputs.photos, inputs.limit)
    if config.stem_views:
        raise ZerosegError(
            "stem_views: the stem can be cached only for a folder of photos, not for shards; add --stem-views 0"
        )
    if inputs.limit:
        raise ZerosegError("limit: only for a folder of photos; with shards, give a folder with fewer shards")
    if inputs.cached_only:
        raise ZerosegError("cached_only: only for a folder of photos; with shards, leave --cached-only out")
    return find_shards(inputs.photos, 2 * config.shuffle_shards + 2)


def find_labels(inputs: Inputs) -> LabelSpace | None:
    """The label files of a run; None without all three."""
    if not (inputs.label_names and inputs.label_vectors and inputs.class_names):
        return None
    return load_label_space(inputs.label_names, inputs.label_vectors, inputs.class_names, inputs.label_space)


def _student(config: TrainConfig, inputs: Inputs, teacher: Teacher) -> tuple[ZeroSeg, TrainConfig]:
    """The student before training, and the configuration with the teacher's space in it."""
    space = {"embedding_dim": teacher.dim, "embedding_space": teacher.space}
    config = replace(config, model=config.model | space)
    model = config.model_config()
    torch.manual_seed(config.seed)
    student = ZeroSeg(model)
    if model.readout == "prototypes":
        student.readout.set_vectors(*prototypes(config, teacher))
    if inputs.initial:
        load_initial(student, load_checkpoint(inputs.initial).state, inputs.initial, config.seed)
    elif student.stem is not None and config.stem_pretrained:
        if inputs.stem_weights:
            student.stem.load_pretrained(model.stem, inputs.stem_weights)
        else:
            with fetching(f"weights of the stem {model.stem}", "--stem-weights FILE or stem_pretrained=false"):
                student.stem.load_pretrained(model.stem)
    if config.stem_views and (student.stem is None or not config.freeze_stem):
        raise ZerosegError("stem_views: only a frozen stem can be cached; use a hybrid preset and freeze_stem = true")
    if config.stem_views and config.augment != "crops":
        raise ZerosegError("stem_views: the stem is cached for random crops; set augment to crops")
    return student, config


def prototypes(config: TrainConfig, teacher: Teacher) -> tuple[torch.Tensor, torch.Tensor]:
    """The vectors (P, D) that a readout mixes, the teacher's and then the helpers' names, and their centre (D,)."""
    conse = config.teacher.conse
    worn = conse.worn_name if conse.worn_gain else None
    beyond = [name for name in spoken_names(config.parts) if name != worn]
    rows, centre = teacher.prototypes(config.model_config().prototypes - len(beyond))
    return more_prototypes(rows, centre, beyond), centre


def _first_alone(processes: Processes, make):
    """make() on the first process, then, when what it makes is on disk, on the others."""
    result = make() if processes.first else None
    processes.wait(caches=True)
    return result if processes.first else make()


def _weights_digest(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _printer(processes: Processes):
    return (lambda line: tqdm.write(line, file=sys.stderr)) if processes.first else (lambda line: None)
