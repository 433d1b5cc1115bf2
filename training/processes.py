"""The processes of a run: one, or those that torchrun started."""

import os
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from zeroseg.errors import UnavailableError, ZerosegError

CACHES = timedelta(days=3)  # others may wait so long while one fills a cache
STEPS = timedelta(minutes=30)  # between two steps the first one validates and saves; longer, and one is lost


@dataclass(frozen=True)
class Processes:
    """rank of this process, count of all, and the torch device this one computes on.

    steps  the process group of the steps, with the timeout STEPS; None for one process.
    """

    rank: int
    count: int
    device: torch.device
    steps: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def wait(self, caches: bool = False) -> None:
        """Wait until every process arrives. caches: whether one of them may be filling a cache."""
        if self.count > 1:
            dist.barrier(None if caches else self.steps)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over the processes, of an array of integers or floats; any of them may be filling a cache."""
        if self.count == 1:
            return values
        shared = torch.from_numpy(values).to(self.device)
        dist.all_reduce(shared)
        return shared.cpu().numpy()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the processes."""
        if self.count > 1:
            dist.all_reduce(values, group=self.steps)
            values /= self.count
        return values


def device_of(device: str = "auto") -> Processes:
    """This process's rank and device under torchrun, without joining the group. device: auto, cpu or cuda."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("device: torch sees no CUDA GPU on this machine; use --device cpu")
    use_gpu = device != "cpu" and torch.cuda.is_available()
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(place)
    return Processes(rank, count, place)


def join(device: str = "auto") -> Processes:
    """Join the process group of torchrun, if it started this process. device: auto, cpu or cuda."""
    processes = device_of(device)
    if processes.count == 1:
        return processes
    if not dist.is_initialized():
        dist.init_process_group("nccl" if processes.device.type == "cuda" else "gloo", timeout=CACHES)
    return replace(processes, steps=dist.new_group(timeout=STEPS))


@contextmanager
def lost_ones_named():
    """Context for the work of several processes: another process's death gives one line, not a traceback."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # gloo has no kind of its own
            raise
        reason = textwrap.shorten(str(error), 160, placeholder=" ...")
        raise ZerosegError(
            "another process of this run ended or cannot be reached; when all can run again, --resume "
            f"continues from the last checkpoint ({reason})"
        ) from error


def leave() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()
