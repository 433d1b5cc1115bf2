"""An open_clip model from a tag or a file, and its text side.

Weights of a tag come from open_clip's caches, or else from its hub; a file is read directly.
"""

import difflib
import textwrap
import threading
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from zeroseg.dense.spec import RADIO
from zeroseg.errors import UnavailableError, ZerosegError, missing_extra, missing_package
from zeroseg.hub import fetching, quiet

# names under which the text side of the same weights is known
SPACES = {
    "ViT-B-32/openai": "openai/clip-vit-base-patch32",
    "ViT-B-32-quickgelu/openai": "openai/clip-vit-base-patch32",
    "ViT-B-16/openai": "openai/clip-vit-base-patch16",
    "ViT-B-16-quickgelu/openai": "openai/clip-vit-base-patch16",
    "ViT-L-14/openai": "openai/clip-vit-large-patch14",
    "ViT-L-14-quickgelu/openai": "openai/clip-vit-large-patch14",
    "ViT-L-14-336/openai": "openai/clip-vit-large-patch14-336",
}
FILE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's, where none is stated
_BATCH = 256  # prompts
_ARCHIVE_EXTRAS = (b"input_resolution", b"context_length", b"vocab_size")  # buffers besides the weights


def weights_file(weights: str) -> Path | None:
    """The file that `weights` names, or None for a tag; ZerosegError for a file name that does not exist."""
    path = Path(weights)
    if path.is_file():
        return path
    if path.suffix in FILE_SUFFIXES:
        raise ZerosegError(f"there is no file {weights}")
    return None


def space_of(arch: str, weights: str) -> str:
    """The name of the embedding space."""
    path = weights_file(weights)
    library = "" if arch == RADIO else "open_clip/"
    return SPACES.get(f"{arch}/{weights}", f"{library}{arch}/{path.name if path else weights}")


def load_open_clip(
    arch: str, weights: str, device: str = "cpu", role: str = "model", option: str = "--model"
) -> nn.Module:
    """The open_clip model in evaluation mode, float32, without gradients.

    role and option appear in messages: the purpose of the model, and the option for a file.
    Raises ZerosegError for a wrong name or file, UnavailableError if open_clip or the weights are not available.
    """
    try:
        import open_clip
    except ImportError as error:
        raise missing_extra("open_clip", "train", f"An open_clip {role}") from error
    if not arch or not weights:
        raise ZerosegError(f"{role}: open_clip needs ARCH/TAG or ARCH/FILE, as in open_clip:ViT-L-14/openai")
    known = open_clip.list_models()
    if arch not in known and "tips" in arch.lower():
        raise ZerosegError(
            f"{role}: TIPS has no text tower in open_clip or timm, so it cannot read labels; its image tower can be a "
            "helper of another model, as in --helper tipsv2_vitb14"
        )
    if arch not in known:
        near = difflib.get_close_matches(arch, known, 3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ZerosegError(f"{role}: open_clip has no architecture {arch!r}{hint}")
    try:
        path = weights_file(weights)
    except ZerosegError as error:
        raise ZerosegError(f"{role}: {error}") from None
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if path is None and weights not in tags:
        raise ZerosegError(
            f"{role}: open_clip has no weights {weights!r} for {arch}; it has {', '.join(tags) or 'none'}"
        )
    quick_gelu = needs_quick_gelu(arch, weights)
    if path is None:
        with fetching(f"weights of the {role} {arch}/{weights}", f"a file, as in {option} open_clip:{arch}/FILE"):
            model = open_clip.create_model(arch, pretrained=weights, device=device, force_quick_gelu=quick_gelu)
        return model.eval().requires_grad_(False)
    if not _looks_like_weights(path):
        raise ZerosegError(f"{role}: {weights} contains no weights; expected a file from torch.save or safetensors")
    try:
        with quiet():
            if quick_gelu:
                model = open_clip.create_model(arch, device=device, force_quick_gelu=True)
                model.load_state_dict(_archived_state(path))
            else:
                model = open_clip.create_model(arch, pretrained=str(path), device=device)
    except Exception as error:  # noqa: BLE001 torch.load and load_state_dict raise many kinds
        said = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
        reason = textwrap.shorten(said, 120, placeholder=" ...")
        raise ZerosegError(f"{role}: {weights} does not fit open_clip's {arch} ({reason})") from error
    return model.eval().requires_grad_(False)


def needs_quick_gelu(arch: str, weights: str) -> bool:
    """Whether weights were trained with QuickGELU, x sigmoid(1.702 x), although open_clip's architecture has GELU.

    open_clip knows this for a tag, but only warns. For a file it is known only if the file is OpenAI's TorchScript
    archive. Other files do not say; for these, name ARCH-quickgelu.
    """
    import open_clip

    path = weights_file(weights)
    if path is not None:
        return is_openai_archive(path)
    return bool((open_clip.get_pretrained_cfg(arch, weights) or {}).get("quick_gelu"))


def is_openai_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive of OpenAI's CLIP: a zip with code, and with the model's input sizes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = next((name for name in names if name.endswith("/data.pkl")), None)
            if pickled is None or not any(name.endswith("/constants.pkl") for name in names):
                return False
            content = archive.read(pickled)
    except (OSError, zipfile.BadZipFile):
        return False
    return all(name in content for name in _ARCHIVE_EXTRAS)


def _archived_state(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a TorchScript archive, float32; its code is not run."""
    state = torch.jit.load(path, map_location="cpu").state_dict()
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in state.items()
        if name.encode() not in _ARCHIVE_EXTRAS
    }


def _looks_like_weights(path: Path) -> bool:
    """Whether a file begins as torch.save's (a zip archive or a pickle) or safetensors' (JSON behind its length)."""
    with open(path, "rb") as file:
        head = file.read(9)
    return head.startswith((b"PK", b"\x80")) or head[8:] == b"{"


def normalisation(visual: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per RGB channel of the images that a tower was trained on."""
    if hasattr(visual, "input_conditioner"):  # RADIO's
        return tuple(
            tuple(part.flatten().tolist())
            for part in (visual.input_conditioner.norm_mean, visual.input_conditioner.norm_std)
        )
    return tuple(getattr(visual, "image_mean", None) or MEAN), tuple(getattr(visual, "image_std", None) or STD)


class TextSide:
    """The text tower of a model and its tokenizer, which is loaded at first use."""

    def __init__(self, arch: str, model: nn.Module):
        self.arch, self.model, self._tokenizer, self._lock = arch, model, None, threading.Lock()

    def vectors(self, prompts: list[str]) -> np.ndarray:
        """(n, D) float32 unit rows."""
        import open_clip

        if self._tokenizer is None:
            try:
                with quiet():
                    self._tokenizer = open_clip.get_tokenizer(self.arch)
            except ModuleNotFoundError as error:  # transformers, which reads the tokenizers of SigLIP and SigLIP 2
                raise missing_package(error, f"tokenizer of {self.arch}") from error
            except Exception as error:  # noqa: BLE001 the hub library's and transformers' own kinds
                reason = textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" ...")
                raise UnavailableError(
                    f"{self.arch}: its tokenizer is not on this machine and cannot be downloaded; make a label "
                    f"pack on a machine that has it (zeroseg words) ({reason})"
                ) from error
        tokens = self._tokenizer(prompts)
        order = tokens.argmax(-1).argsort()  # prompts of like length together; the end's token is the largest
        rows = []
        with torch.inference_mode(), self._lock:  # _encode_text changes the model for a moment
            device = next(self.model.parameters()).device
            for some in order.split(_BATCH):
                found = _encode_text(self.model, tokens[some].to(device))
                rows.append(nn.functional.normalize(found.float(), dim=-1).cpu())
        return torch.cat(rows)[order.argsort()].numpy()


def _encode_text(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """model.encode_text(tokens) of tokens (n, 77), without the places after the ends of all prompts where none looks at
    them: in a CLIP with a causal mask, which reads the end's token. Prompts have a dozen tokens, so this is several
    times as fast.
    """
    import open_clip

    causal = type(model) is open_clip.CLIP and model.attn_mask is not None and model.text_pool_type == "argmax"
    if not causal:
        return model.encode_text(tokens)
    length = int(tokens.argmax(-1).max()) + 1
    mask, places = model.attn_mask, model.positional_embedding
    try:
        model.attn_mask = mask[:length, :length]
        model.positional_embedding = nn.Parameter(places[:length], requires_grad=False)
        return model.encode_text(tokens[:, :length])
    finally:
        model.attn_mask, model.positional_embedding = mask, places


_text_sides: dict[tuple[str, str], TextSide] = {}


def load_towers(arch: str, weights: str, option: str = "--model") -> tuple[nn.Module, TextSide]:
    """(image tower, text side); the text side is kept for text_side_of. option: as for load_open_clip."""
    if arch == RADIO:
        from zeroseg.dense.radio import ADAPTOR, RadioText, load_radio

        path = weights_file(weights)
        visual = load_radio(weights if path is None else str(path.resolve()), option)
        side = RadioText(visual.adaptors[ADAPTOR])
    else:
        model = load_open_clip(arch, weights, option=option)
        visual, model.visual = model.visual, None
        side = TextSide(arch, model)
    _text_sides.clear()  # one at a time: a tower may take a gigabyte
    _text_sides[arch, weights] = side
    return visual, side


def text_side_of(arch: str, weights: str) -> TextSide:
    """The text side of the last loaded model, if it is this one; otherwise loaded now."""
    return _text_sides.get((arch, weights)) or load_towers(arch, weights)[1]
