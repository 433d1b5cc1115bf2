"""Write a model folder, and upload it to the Hub."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from zeroseg.artifact import read_artifact, verify_file
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.files import json_text, make_folder, sha256, whole_file, write_text
from zeroseg.hub import quiet
from zeroseg.pretrained.download import hub_errors, require_hub
from zeroseg.pretrained.folder import CARD, CONFIG, FORMAT, LIBRARY, NETWORK, WEIGHTS, read_config
from zeroseg.sidecar import Sidecar

FILES = (CONFIG, NETWORK, WEIGHTS, CARD)
CARD_TEXT = """---
{front}
---

# {name}

Open-vocabulary segmentation by zeroseg: name what you look for, get masks.

```python
from zeroseg import Segmenter

segmenter = Segmenter.from_pretrained("owner/name").set_labels(["cat", "sofa"])
segmenter.segment("photo.jpg").overlay().save("overlay.png")
```

| | |
|---|---|
{table}
"""


@dataclass(frozen=True)
class CardFields:
    """Fields of the card's front matter that the model does not know. license, datasets, metrics: the Hub's names."""

    license: str = "unknown"
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("mean_iou",)
    tags: tuple[str, ...] = ()


def write_folder(folder: Path, files: list[Path], card: CardFields | None = None) -> None:
    """Write a model folder from an .onnx file, a .pt file, or both of the same model.

    An existing README.md is kept. Raises ZerosegError if the folder holds anything but a zeroseg model, or if the files
    are from different models; UnavailableError without huggingface_hub or safetensors.
    """
    require_hub("A model folder")
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_ours(folder))):
        raise ZerosegError(f"{folder}: already exists and is not a zeroseg model; choose another folder")
    artifacts = {("torch" if file.suffix in (".pt", ".safetensors") else "onnx"): read_artifact(file) for file in files}
    if not files or len(artifacts) != len(files) or any(f.suffix in (".engine", ".rtx") for f in files):
        raise ZerosegError(f"expected a .onnx, a .pt, or one of each, got {', '.join(map(str, files)) or 'none'}")
    sidecars = [artifact.sidecar for artifact in artifacts.values()]
    if len(sidecars) == 2 and not _same(*sidecars):
        raise ZerosegError(
            f"{files[0]} and {files[1]}: are different models (names, sizes, spaces or thresholds differ)"
        )
    make_folder(folder, "folder")
    sums, architecture = {}, None
    if "onnx" in artifacts:
        with whole_file(folder / NETWORK) as partial:
            shutil.copyfile(artifacts["onnx"].path, partial)
        sums[NETWORK] = sha256(folder / NETWORK)
    if "torch" in artifacts:
        architecture = _write_weights(artifacts["torch"].path, folder / WEIGHTS)
        sums[WEIGHTS] = sha256(folder / WEIGHTS)
    sidecar = sidecars[0].to_dict() | {"files": sums}
    config = {"library_name": LIBRARY, "format": FORMAT, "architecture": architecture, "sidecar": sidecar}
    write_text(folder / CONFIG, json_text(config, indent=1) + "\n")
    if not (folder / CARD).exists():
        write_text(folder / CARD, card_text(sidecars[0], list(sums), card or CardFields()))


def _is_ours(folder: Path) -> bool:
    try:
        return bool(read_config(folder))
    except ZerosegError:
        return False


def _same(one: Sidecar, other: Sidecar) -> bool:
    import numpy as np

    plain = ("name", "embedding_space", "embedding_dim", "segments", "stride", "threshold", "input")
    centres = [sidecar.scoring.centre for sidecar in (one, other)]
    centres_equal = all(c is None for c in centres) or all(c is not None for c in centres) and np.array_equal(*centres)
    return centres_equal and all(getattr(one, key) == getattr(other, key) for key in plain)


def _write_weights(checkpoint_file: Path, path: Path) -> dict:
    """Write weights as safetensors, in float16 if that loses nothing; return the architecture."""
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise missing_extra("safetensors", "hub", "A model folder") from error
    from zeroseg.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(checkpoint_file)
    state = {name: value.contiguous().clone() for name, value in checkpoint.state.items()}
    floats = [value for value in state.values() if value.is_floating_point()]
    if all(value.half().float().equal(value) for value in floats):
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    with whole_file(path, suffix=".safetensors") as partial:
        save_file(state, partial, metadata={"format": "pt"})
    return checkpoint.config.to_dict()


def card_text(sidecar: Sidecar, files: list[str], card: CardFields) -> str:
    """A README.md with the Hub's front matter."""
    data = require_hub("A model card").ModelCardData(
        license=card.license,
        library_name=LIBRARY,
        pipeline_tag="image-segmentation",
        tags=["zeroseg", "open-vocabulary", "zero-shot", *card.tags],
        datasets=list(card.datasets) or None,
        metrics=list(card.metrics) or None,
    )
    facts = {
        "text space": sidecar.embedding_space,
        "segments": sidecar.segments,
        "short side of a photo, px": sidecar.input.short_side,
        "threshold": round(sidecar.threshold, 4),
        "files": ", ".join(files),
        **{key: value for key, value in sidecar.card.items() if isinstance(value, (str, int, float))},
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return CARD_TEXT.format(front=data.to_yaml(), name=sidecar.name, table=table)


def push_folder(folder: Path, name: str, revision: str | None = None, private: bool = False) -> str:
    """Upload a model folder to the Hub as owner/name, which is created if needed; return the commit's URL.

    revision: the branch, None for main; private: make a new repository private. The login is huggingface_hub's. Raises
    ZerosegError if the folder is damaged or no model folder, or if the Hub refuses the name; UnavailableError if the
    Hub cannot be reached.
    """
    hub = require_hub("zeroseg push")
    config = read_config(folder)
    for file in config["sidecar"]["files"]:
        verify_file(read_artifact(folder, "torch" if file == WEIGHTS else "onnxruntime"))
    if not (folder / CARD).is_file():
        raise ZerosegError(f"{folder}: has no {CARD}, the model card; write one, or save the model again")
    api = hub.HfApi()
    with hub_errors(name, revision, "the folder"), quiet():
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        return api.upload_folder(
            repo_id=name,
            folder_path=folder,
            revision=revision,
            allow_patterns=list(FILES),
            commit_message="Upload by zeroseg",
        ).commit_url
