"""open_clip's ViT-B/32 text tower, if its weights are on this machine. Nothing is ever downloaded here.

The prompt is "a NAME", as for the 1,613 known names (Detic, Zhou et al. 2022). So vectors of both sources can be mixed.
"""

import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from zeroseg.errors import UnavailableError, missing_extra

MODEL = "ViT-B-32-quickgelu"  # OpenAI's weights were trained with QuickGELU; plain ViT-B-32 gives other vectors
HUB_REPOSITORY = "timm/vit_base_patch32_clip_224.openai"
HUB_FILES = ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"]
_BATCH = 256


def tower_vectors(labels: Sequence[str], weights: str | Path | None = None, model_name: str = MODEL) -> np.ndarray:
    """Embed labels with the tower: (n, D) float32 unit rows.

    weights  a checkpoint file; None looks in the Hugging Face cache and in open_clip's own.
    Raises UnavailableError if open_clip or the weights are missing, or if the file is not such a model.
    """
    path = find_weights() if weights is None else Path(weights)
    if not path.is_file():
        raise UnavailableError(f"{path}: no such file; give the ViT-B-32 weights as --text open_clip:FILE")
    model, tokenizer = _load(str(path), model_name)
    return embed_with(model, tokenizer, labels)


def embed_with(model, tokenizer, labels: Sequence[str]) -> np.ndarray:
    """Like tower_vectors, with a loaded open_clip model and its tokenizer: (n, D) float32 unit rows."""
    import torch

    rows = []
    with torch.inference_mode():
        for start in range(0, len(labels), _BATCH):
            tokens = tokenizer([f"a {label}" for label in labels[start : start + _BATCH]])
            rows.append(model.encode_text(tokens).float())
        vectors = torch.cat(rows)
        return torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()


def find_weights() -> Path:
    """The weights file in a cache of this machine. Raises UnavailableError if there is none."""
    looked = []
    try:
        from huggingface_hub import try_to_load_from_cache

        for name in HUB_FILES:
            found = try_to_load_from_cache(HUB_REPOSITORY, name)
            if isinstance(found, str) and os.path.isfile(found):
                return Path(found)
        looked.append(f"the Hugging Face cache ({HUB_REPOSITORY})")
    except ImportError:
        pass
    own = Path.home() / ".cache" / "clip" / "ViT-B-32.pt"
    if own.is_file():
        return own
    looked.append("~/.cache/clip/ViT-B-32.pt")
    raise UnavailableError(
        f"no CLIP ViT-B-32 weights in {' or '.join(looked)}; use --text words, or make a label pack "
        "on a machine that has them: zeroseg words LABELS --text open_clip -o labels.npz"
    )


@lru_cache(maxsize=1)
def _load(path: str, model_name: str):
    try:
        import open_clip
    except ImportError as error:
        raise missing_extra("open_clip", "train", "--text open_clip") from error
    try:
        if _is_torchscript(path):  # the file OpenAI published
            model = open_clip.load_openai_model(path, precision="fp32", device="cpu")
        else:
            model = open_clip.create_model(model_name, pretrained=path, precision="fp32", device="cpu")
    except Exception as error:  # torch, safetensors and open_clip each raise their own errors for a wrong file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise UnavailableError(f"{path}: expected weights of open_clip's {model_name}, but: {reason}") from error
    return model.eval(), open_clip.get_tokenizer(model_name)


def _is_torchscript(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
