"""model.pt: {"format": 1, "config": dict, "state_dict": dict of tensors, "sidecar": dict}.

It is written by torch.save and loads with weights_only=True. Equal models give equal bytes.
"""

from pathlib import Path
from typing import NamedTuple

import torch

from zeroseg.config import ModelConfig
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.files import sha256
from zeroseg.model.torch_file import load_torch, save_torch
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.pretrained.folder import WEIGHTS, read_config
from zeroseg.sidecar import FORMAT as SIDECAR_FORMAT
from zeroseg.sidecar import Scoring, scoring_to_dict

FORMAT = 1


class Checkpoint(NamedTuple):
    """What a model.pt holds. state is float32 whatever precision the file has."""

    config: ModelConfig
    state: dict
    sidecar: dict


def save_checkpoint(path, model: ZeroSeg, *, sidecar: dict | None = None, half: bool = False, inference: bool = True):
    """Write model.pt atomically: the file appears whole or not at all.

    half stores floating-point weights as float16, half the size; loading returns them to float32.
    inference leaves out the reconstruction head, which only training needs, and notes that in the config.
    """
    config = model.config.to_dict()
    state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    if inference:
        config["reconstruction"] = False
        state = {k: v for k, v in state.items() if not k.startswith("reconstruction.")}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        bad = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
        if bad:
            raise ZerosegError(f"{path}: cannot be stored as float16, {bad[0]} is out of its range or not finite")
    state = {k: v.clone() for k, v in state.items()}
    save_torch({"format": FORMAT, "config": config, "state_dict": state, "sidecar": sidecar or {}}, path)


def load_checkpoint(path) -> Checkpoint:
    """Read a model.pt on the CPU.

    Raises ZerosegError, in one line, for a missing or damaged file, anything that is not a model.pt, and a weight that
    is no dense array of numbers.
    """
    if Path(path).name == WEIGHTS:
        return _load_folder(Path(path))
    content = load_torch(path, "zeroseg checkpoint")
    state = content.get("state_dict") if isinstance(content, dict) else None
    tensors = isinstance(state, dict) and all(isinstance(v, torch.Tensor) for v in state.values())
    if not tensors or "format" not in content:
        raise ZerosegError(f"{path}: not a zeroseg checkpoint (expected format, config, state_dict)")
    if content["format"] != FORMAT:
        raise ZerosegError(f"{path}: checkpoint format {content['format']}, this version reads {FORMAT}; upgrade")
    try:
        config = ModelConfig.from_dict(content.get("config"))
    except ValueError as error:
        raise ZerosegError(f"{path}: {error}") from error
    for name, value in state.items():
        if value.is_meta or value.layout != torch.strided or value.is_quantized or value.is_complex():
            kind = "meta" if value.is_meta else f"{value.layout} {value.dtype}".replace("torch.", "")
            raise ZerosegError(f"{path}: weight {name}: expected a dense array of real numbers, got a {kind} tensor")
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return Checkpoint(config, state, content.get("sidecar") or {})


def _load_folder(path: Path) -> Checkpoint:
    """The weights of a model folder (zeroseg.pretrained.folder)."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise missing_extra("safetensors", "hub", f"{path}") from error
    document = read_config(path.parent)
    try:
        config = ModelConfig.from_dict(document.get("architecture"))
        state = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise ZerosegError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return Checkpoint(config, state, document.get("sidecar") or {})


def read_sidecar(path, checkpoint: Checkpoint | None = None) -> dict:
    """The sidecar of a model.pt as a dict (zeroseg.sidecar). Format, scoring and checksum come from the file itself.

    checkpoint: the file's content, where it was read already.
    Raises ZerosegError for a file without a sidecar.
    """
    checkpoint = checkpoint or load_checkpoint(path)
    if not checkpoint.sidecar:
        raise ZerosegError(f"{path}: has weights but no sidecar, which says how to use them; save both")
    centred = checkpoint.config.readout == "prototypes"
    centre = checkpoint.state["readout.centre"].numpy() if centred else None
    scoring = scoring_to_dict(Scoring(centre, checkpoint.config.score_share))
    files = {Path(path).name: sha256(path)}
    return checkpoint.sidecar | {"format": SIDECAR_FORMAT, "scoring": scoring, "files": files}


def load_model(path) -> tuple[ZeroSeg, dict]:
    """The model in evaluation mode with its weights, and its sidecar dict. ZerosegError when the weights do not fit."""
    checkpoint = load_checkpoint(path)
    model = ZeroSeg(checkpoint.config)
    own = model.state_dict()
    given = checkpoint.state
    wrong = [k for k in own.keys() | given.keys() if k not in own or k not in given or own[k].shape != given[k].shape]
    if wrong:
        raise ZerosegError(f"{path}: {len(wrong)} weights do not fit the checkpoint's own config (first: {min(wrong)})")
    for name, value in own.items():
        if value.is_floating_point() != given[name].is_floating_point():
            wanted, got = (str(tensor.dtype).removeprefix("torch.") for tensor in (value, given[name]))
            raise ZerosegError(f"{path}: weight {name}: expected {wanted}, got {got}, whose scale is not in the file")
    model.load_state_dict(given)
    return model.eval(), checkpoint.sidecar
