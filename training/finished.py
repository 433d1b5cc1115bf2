"""A finished student in, a changed one out, for the commands that need no training."""

from pathlib import Path

import torch

from zeroseg.errors import ZerosegError
from zeroseg.model.checkpoint import load_model, save_checkpoint


def open_finished(path: Path, out: Path):
    """The model of path and its description. ZerosegError in one line where there is none, or where out exists."""
    if out.exists():
        raise ZerosegError(f"{out}: exists already; give another name")
    return load_model(path)


def save_finished(out: Path, model, sidecar: dict, like: Path) -> None:
    """Write model to out, its weights in the precision that they have in like."""
    stored = torch.load(like, map_location="cpu", weights_only=True)["state_dict"]
    half = any(value.dtype == torch.float16 for value in stored.values())
    save_checkpoint(out, model, sidecar=sidecar, half=half)
