"""Estimate the cost of a run before it begins: weights, FLOPs, memory, cache and steps; the time comes from real steps
on this machine with random data of the right shapes.
"""

import statistics
import time
from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training.batches import Batch, random_batch
from zeroseg.training.loop import Plan, Trainer, plan_steps
from zeroseg.training.precision import choose_precision
from zeroseg.training.processes import Processes
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.views import grid_boxes

MEASURED_S = 10.0


@dataclass(frozen=True)
class Estimate:
    """The cost of a run.

    weights, trained    numbers of weights; state_bytes: weights, gradients, AdamW's moments and the average.
    flops               of forward and backward pass, per photo (one multiply-add is 2).
    kept_bytes          memory that autograd keeps per photo for the backward pass.
    photo_s             seconds a photo took in a step, median of `measured` steps of `measured_batch` photos.
    cache_bytes         of the teacher's embeddings and cached stem features, per photo.
    photos, plan        None if no photos are given.
    """

    weights: int
    trained: int
    state_bytes: int
    flops: int
    kept_bytes: int
    photo_s: float
    measured: int
    measured_batch: int
    precision: str
    cache_bytes: int
    photos: int | None
    plan: Plan | None

    def lines(self, config: TrainConfig, processes: Processes) -> list[str]:
        """For the reader; memory is one process's, time that of all of them together."""
        share = max(1, min(config.micro_batch, config.batch // processes.count))
        lines = [
            f"weights: {self.weights / 1e6:.1f} M, {self.trained / 1e6:.1f} M of them trained",
            f"FLOPs: {self.flops / 1e9:.2f} G per photo, forward and backward",
            f"memory: {self.state_bytes / 2**20:.0f} MiB for weights and optimiser, {self.kept_bytes / 2**20:.1f} MiB "
            f"per photo: {(self.state_bytes + share * self.kept_bytes) / 2**30:.2f} GiB at {share} per forward pass",
            f"cache: {self.cache_bytes / 1e3:.1f} kB per photo"
            + (f", {self.cache_bytes * self.photos / 1e9:.2f} GB" if self.photos else ""),
            f"speed: {1 / self.photo_s:.2f} photos/s, {self.flops / self.photo_s / 1e9:.1f} GFLOP/s ({self.precision}; "
            f"median of {self.measured} steps of {self.measured_batch} on {processes.device.type}, without decoding)",
        ]
        if self.plan is None:
            return [*lines, "steps and time: give --photos"]
        total_s = self.plan.steps * config.batch * self.photo_s / processes.count
        return [
            *lines,
            f"steps: {self.plan.steps} of {config.batch} photos, {self.plan.per_epoch} per epoch",
            f"time: {_spoken(total_s)} on {processes.count} such process(es), plus the teachers' time once before",
        ]


def estimate(config: TrainConfig, photos: int | None, processes: Processes, seconds: float | None = None) -> Estimate:
    """Measure for about `seconds` (None: MEASURED_S) on this machine. photos: how many there are, None: not known.

    Raises ZerosegError for settings that contradict each other.
    """
    seconds = MEASURED_S if seconds is None else seconds
    torch.manual_seed(config.seed)
    precision, _ = choose_precision(config.precision, processes.device)
    alone = Processes(0, 1, processes.device)
    plain = replace(config, compile=False, batch=1, micro_batch=1)
    student = ZeroSeg(config.model_config())
    trainer = _trainer(student, plain, precision, alone)
    flops, kept = _count(trainer, random_batch(config, student, 1))
    count, times = 1, []
    _timed(trainer, random_batch(config, student, 1))  # what is set up in a first step
    first = _timed(trainer, random_batch(config, student, 1))
    while count * 2 <= min(config.micro_batch, config.batch) and 2 * count * first * 5 <= seconds:
        count *= 2
    trainer = _trainer(student, replace(config, batch=count, micro_batch=count), precision, alone)
    batch = random_batch(config, student, count)
    if count > 1 or config.compile:
        _timed(trainer, batch)
    end = time.monotonic() + seconds  # only now: compiling takes longer
    while not times or time.monotonic() < end:
        times.append(_timed(trainer, batch))
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    held = sum(p.numel() * p.element_size() for p in student.parameters())
    return Estimate(
        sum(p.numel() for p in student.parameters()),
        trained,
        held + 4 * trained * (3 + bool(config.ema_decay)),
        flops,
        kept,
        statistics.median(times) / count,
        len(times),
        count,
        precision,
        cache_bytes(config, student),
        photos,
        plan_steps(config, photos - min(config.val_photos, max(1, photos // 10), photos - 1)) if photos else None,
    )


def cache_bytes(config: TrainConfig, student: ZeroSeg) -> int:
    """Bytes on disk per photo: float16 embeddings, status and checksum of a row; cached crops of the first size."""
    places = len(grid_boxes(config.views.grids)) + config.views.dense_grid**2
    total = 2 * places * student.config.embedding_dim + 5
    if config.stem_views:
        height, width = config.crops.sizes[0]
        numbers = student.stem.fine_channels * (height // 16) * (width // 16)
        numbers += student.stem.coarse_channels * (height // 32) * (width // 32)
        total += config.stem_views * (2 * numbers + 4 * 4 + 1 + 5)
    return total


def _trainer(student: ZeroSeg, config: TrainConfig, precision: str, alone: Processes) -> Trainer:
    return Trainer(student, config, None, Plan(1, 1, 0), None, alone, precision)


def _timed(trainer: Trainer, batch: Batch) -> float:
    """Seconds of one step; its losses are read, so a GPU has done it."""
    start = time.perf_counter()
    trainer._step(batch, 0.0)  # weights stay as they are
    return time.perf_counter() - start


def _count(trainer: Trainer, batch: Batch) -> tuple[int, int]:
    """(FLOPs, bytes kept for the backward pass) of a step."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer._step(batch, 0.0)
    counter = FlopCounterMode(display=False)
    trainer.student.export_friendly = True  # the counter does not know every fused attention
    with counter:
        trainer._step(batch, 0.0)
    trainer.student.export_friendly = False
    return counter.get_total_flops(), sum(kept.values())


def _spoken(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
