"""The processes of a run: one, or those that torchrun started."""

import os
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from zeroseg.errors import UnavailableError


@dataclass(frozen=True)
class Processes:
    """rank of this process, count of all, and the torch device this one computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            dist.barrier()

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over the processes, of an array of integers or floats."""
        if self.count == 1:
            return values
        shared = torch.from_numpy(values).to(self.device)
        dist.all_reduce(shared)
        return shared.cpu().numpy()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the processes."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values


def device_of(device: str = "auto") -> Processes:
    """Where this process is among those of torchrun, none of them joined. device: auto, cpu or cuda."""
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
    if processes.count > 1 and not dist.is_initialized():
        # days, because the others wait while the first one fills the caches
        dist.init_process_group("nccl" if processes.device.type == "cuda" else "gloo", timeout=timedelta(days=3))
    return processes


def leave() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()
