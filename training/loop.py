"""The training loop: steps, learning rate, averaged weights, validation, checkpoints.

Every random number of a step is derived from (seed, step), so the state is only the weights, the optimiser and the
step. A resumed run equals the uninterrupted one bit for bit.
"""

import copy
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from zeroseg.errors import ZerosegError
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training.batches import Batch, TrainingSet, random_batch
from zeroseg.training.compiling import compile_errors
from zeroseg.training.objective import Objective, reaches_all
from zeroseg.training.processes import Processes
from zeroseg.training.progress import progress_bar
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.run_folder import RunFolder

SAVE_EVERY_S = 600


@dataclass(frozen=True)
class Plan:
    """steps of the whole run, of one epoch, and of the warm-up."""

    steps: int
    per_epoch: int
    warmup: int


def plan_steps(config: TrainConfig, photo_count: int) -> Plan:
    """How many steps a run over photo_count photos has; an epoch has at least one."""
    per_epoch = max(1, photo_count // config.batch)
    return Plan(max(1, round(config.epochs * per_epoch)), per_epoch, round(config.warmup_epochs * per_epoch))


def learning_rate(config: TrainConfig, plan: Plan, step: int) -> float:
    """Linear warm-up, then half a cosine down to min_lr."""
    peak = config.peak_lr()
    if step < plan.warmup:
        return peak * (step + 1) / plan.warmup
    share = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return config.min_lr + (peak - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def build_optimizer(student: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trained weights; no weight decay on 1-D parameters (biases, norms)."""
    trained = [p for p in student.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.peak_lr(), betas=config.betas, eps=config.adam_eps
    )


class Average:
    """Exponential moving average of the trained weights; the decay grows to its value over the first steps."""

    def __init__(self, student: nn.Module, decay: float):
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in student.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, student: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(student.named_parameters())
        for name, value in self.values.items():
            value.lerp_(parameters[name].detach(), 1 - decay)


class Trainer:
    """A student in training: `run` continues from self.step to the end (or to `until`)."""

    def __init__(
        self,
        student: ZeroSeg,
        config: TrainConfig,
        data: TrainingSet,
        plan: Plan,
        folder: RunFolder,
        processes: Processes,
        precision: str = "fp32",
        workers: int = 0,
    ):
        self.config, self.data, self.plan, self.folder = config, data, plan, folder
        self.processes, self.precision, self.workers = processes, precision, workers
        self.student = student.to(processes.device)
        if config.freeze_stem and student.stem is not None:
            student.stem.requires_grad_(False)
        self.student.encoder.recompute = config.recompute
        self.objective = Objective(self.student, config)
        self.wrapped = self.objective
        if processes.count > 1:
            ids = [processes.device.index] if processes.device.type == "cuda" else None
            # some parts may have no loss in a recipe, such as an image readout of their own: looked for in every step
            unused = not reaches_all(self.objective, random_batch(config, student, 1).to(processes.device))
            self.wrapped = nn.parallel.DistributedDataParallel(
                self.objective, ids, process_group=processes.steps, find_unused_parameters=unused
            )
        if config.compile:
            self.wrapped = torch.compile(self.wrapped)
        self.optimizer = build_optimizer(student, config)
        self.average = Average(student, config.ema_decay) if config.ema_decay else None
        self.best = None  # (loss on the held-out photos, step, weights) with keep_best
        self.step = 0

    def state(self) -> dict:
        """Everything that changes in training."""
        return {
            "step": self.step,
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values if self.average else None,
            "best": self.best,
        }

    def load_state(self, state: dict) -> None:
        """Inverse of state; ZerosegError if it belongs to another student."""
        try:
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average:
                for name, value in self.average.values.items():
                    value.copy_(state["average"][name])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise ZerosegError(
                f"checkpoint {self.folder.path / 'checkpoint.pt'} does not fit the config.json beside it: "
                f"another model or recipe ({type(error).__name__})"
            ) from error
        self.best = state.get("best")
        self.step = int(state["step"])

    def result(self) -> ZeroSeg:
        """A copy of the student in evaluation mode, with the averaged weights where there are any."""
        student = copy.deepcopy(self.student).eval()
        if self.average:
            student.load_state_dict(self.average.values, strict=False)
        return student

    def chosen(self) -> ZeroSeg:
        """The result of the epoch with the lowest loss on held-out photos; without keep_best, result()."""
        student = self.result()
        if self.best is not None:
            student.load_state_dict(self.best[2], strict=False)
        return student

    def _note_best(self, loss: float, student: ZeroSeg) -> None:
        if self.config.keep_best and (self.best is None or loss < self.best[0]):
            weights = {n: p.detach().clone() for n, p in student.named_parameters() if not n.startswith("stem.")}
            self.best = (loss, self.step, weights)

    def run(self, validate=None, until: int | None = None, progress: bool = True) -> None:
        """Train to the end, or to step `until`.

        validate  result student -> {name: value}; called after every epoch and at the end, on the first process.
        """
        last = min(self.plan.steps, until or self.plan.steps)
        names = list(self.objective.weights)
        columns = ["epoch", "lr", "seconds", "total", *names, "val_total", *(f"val_{name}" for name in names)]
        curve = self.folder.curve(columns, self.step) if self.processes.first else None
        loader = torch.utils.data.DataLoader(
            self.data,
            batch_size=None,
            sampler=range(self.step, last),
            num_workers=self.workers,
            collate_fn=_unchanged,
            pin_memory=False,
            persistent_workers=False,
        )
        bar = progress_bar("training", "step", self.plan.steps, self.step, progress and self.processes.first)
        saved = began = time.monotonic()
        try:
            for batch in loader:
                lr = learning_rate(self.config, self.plan, self.step)
                row = self._step(batch, lr)
                if not math.isfinite(row["total"]):
                    raise ZerosegError(
                        f"training: the loss is {row['total']} at step {self.step}; lower lr or set "
                        f"clip_norm (the last checkpoint in {self.folder.path} is sound)"
                    )
                self.step += 1
                row |= {"epoch": self.step / self.plan.per_epoch, "lr": lr, "seconds": time.monotonic() - began}
                due = self.step % self.plan.per_epoch == 0 or self.step == last
                if self.processes.first:
                    if due and validate is not None:
                        result = self.result()
                        row |= {f"val_{name}": value for name, value in validate(result).items()}
                        self._note_best(row["val_total"], result)
                    curve.add(self.step, row)
                    bar.set_postfix(loss=f"{row['total']:.4f}", refresh=False)
                    bar.update()
                    if due or time.monotonic() - saved > SAVE_EVERY_S:
                        self.folder.save_checkpoint(self.state())
                        saved = time.monotonic()
        finally:
            bar.close()
            if curve is not None:
                curve.close()
        self.processes.wait()

    def _step(self, batch: Batch, lr: float) -> dict[str, float]:
        """One step of the optimiser on this process's share of the batch; the mean losses over all processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.objective.train()
        self.optimizer.zero_grad(set_to_none=True)
        count, sums = len(batch), None
        noise = self._mask_noise(batch, count)
        starts = range(0, count, self.config.micro_batch)
        for start in starts:
            stop = min(count, start + self.config.micro_batch)
            torch.manual_seed(_seed(self.config.seed, self.step, self.processes.rank, start))
            last = start == starts[-1]
            hold = self.wrapped.no_sync() if self.processes.count > 1 and not last else nullcontext()
            part = batch.part(start, stop).to(self.processes.device)
            with compile_errors(), hold:
                with self._autocast():
                    total, values = self.wrapped(part, None if noise is None else noise[start:stop])
                share = (stop - start) / count
                (total * share).backward()
            row = torch.stack([total.detach(), *values.values()]) * share
            sums = row if sums is None else sums + row
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_([p for p in self.student.parameters() if p.requires_grad], self.config.clip_norm)
        self.optimizer.step()
        if self.average:
            self.average.update(self.student, self.step)
        sums = self.processes.mean(sums)
        return dict(zip(["total", *values], sums.tolist(), strict=True))

    def _mask_noise(self, batch: Batch, count: int) -> torch.Tensor | None:
        """This process's rows of the whole batch's noise, so that the count of processes does not change it."""
        if not self.student.config.mask_ratio:
            return None
        generator = torch.Generator().manual_seed(_seed(self.config.seed, self.step))
        noise = torch.rand(self.config.batch, batch.grid[0] * batch.grid[1], generator=generator)
        first = self.processes.rank * count
        return noise[first : first + count].to(self.processes.device)

    def _autocast(self):
        if self.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.processes.device.type, torch.bfloat16)


def _unchanged(item):
    return item


def _seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
