"""A ViT without text (DINO, DINOv2, TIPS) whose patch features say which patches belong together (proxy.py).

A helper is one of HELPERS, whose weights timm fetches, or a file with the state dict of a plain ViT: as DINO's and
DINOv2's repositories give it out, or as timm saves it. The file's weights tell the sizes of the network; its images
are normalised as DINO's.
"""

import re
import textwrap
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from zeroseg.dense.plain_vit import PlainTokens, patch_of
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.files import sha256
from zeroseg.hub import fetching

HELPERS = {  # the names of DINO's, DINOv2's and TIPS's repositories -> timm's
    "dino_vits16": "vit_small_patch16_224.dino",
    "dino_vits8": "vit_small_patch8_224.dino",
    "dino_vitb16": "vit_base_patch16_224.dino",
    "dino_vitb8": "vit_base_patch8_224.dino",
    "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_vitb14": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_vitl14": "vit_large_patch14_dinov2.lvd142m",
    "dinov2_vits14_reg": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitb14_reg": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov2_vitl14_reg": "vit_large_patch14_reg4_dinov2.lvd142m",
    "tipsv2_vitb14": "vit_base_patch14_reg1_tipsv2.webli",
    "tipsv2_vitl14": "vit_large_patch14_reg1_tipsv2.webli",
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the images that DINO and DINOv2 were trained on
HEAD_SIZE = 64  # of all of them
_INSIDE = ("teacher", "state_dict", "model")  # under which whole checkpoints keep the weights
_PREFIXES = re.compile(r"^(module\.|backbone\.)+")


class Helper(nn.Module):
    """image (B, 3, H, W), normalised for the tower -> features (B, h w, C) of unit length and their grid (h, w).

    The features are those of the patches after the last block and the final norm.
    """

    def __init__(self, vit: nn.Module, mean=MEAN, std=STD, own_mean=MEAN, own_std=STD):
        """vit: timm's VisionTransformer. mean, std: per RGB channel, with which the tower's images are normalised;
        own_mean, own_std: with which the ViT's are.
        """
        super().__init__()
        # without registers, DINOv2 resizes positions as DINO does
        self.tokens = PlainTokens(vit, "offset" if vit.reg_token is None else "antialiased")
        self.vit, self.patch = vit, patch_of(vit)
        mean, std, own_mean, own_std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std, own_mean, own_std)
        )
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, image: torch.Tensor, free: bool = False) -> tuple[torch.Tensor, tuple[int, int]]:
        """free: whether the image's sides may be symbolic."""
        grid = (image.shape[2] // self.patch, image.shape[3] // self.patch)
        x = self.tokens(image * self.scale + self.shift, grid, free)
        for block in self.vit.blocks:
            x = block(x)
        return F.normalize(self.vit.norm(x)[:, self.vit.num_prefix_tokens :], dim=2), grid


def load_helper(name: str, mean=MEAN, std=STD) -> Helper:
    """The helper of a name of HELPERS or a file; mean and std as for Helper.

    Raises ZerosegError for another name or a file that does not fit, UnavailableError for weights out of reach.
    """
    path = Path(name)
    if path.is_file():
        return Helper(_read(path), mean, std)
    if name not in HELPERS:
        known = ", ".join(HELPERS)
        raise ZerosegError(f"helper: expected one of {known} or a file with the weights of such a ViT, got {name!r}")
    import timm

    with fetching(f"weights of the helper {name}", "a file, as in helper=FILE"):
        vit = timm.create_model(HELPERS[name], pretrained=True, num_classes=0)
    own = vit.pretrained_cfg or {}
    return Helper(vit, mean, std, own.get("mean", MEAN), own.get("std", STD))


def helper_identity(name: str) -> str:
    """What tells two helpers apart: the name, or a file's SHA-256."""
    return sha256(Path(name)) if Path(name).is_file() else name


def _read(path: Path) -> nn.Module:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        return vit_of(state)
    except ModuleNotFoundError as error:
        raise UnavailableError(f"helper {path.name}: needs {error.name}: pip install {error.name}") from error
    except Exception as error:  # noqa: BLE001 torch.load and load_state_dict raise many kinds
        said = str(error) if isinstance(error, ZerosegError | RuntimeError) else f"{type(error).__name__}: {error}"
        reason = textwrap.shorten(said, 160, placeholder=" ...")
        raise ZerosegError(
            f"helper {path.name}: expected the state dict of a plain ViT, as of DINO or DINOv2 ({reason})"
        ) from error


def vit_of(state: dict) -> nn.Module:
    """timm's VisionTransformer with the weights of a state dict, whose shapes tell its sizes."""
    from timm.models.vision_transformer import VisionTransformer

    for name in _INSIDE:
        if isinstance(state.get(name), dict):
            state = state[name]
    state = {_PREFIXES.sub("", name): value.float() for name, value in state.items() if torch.is_tensor(value)}
    state = {re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name): value for name, value in state.items()}  # chunks
    if "register_tokens" in state:
        state["reg_token"] = state.pop("register_tokens")
    state = {name: value for name, value in state.items() if not re.match(r"mask_token|head|fc_norm|dino_head", name)}
    missing = {"patch_embed.proj.weight", "pos_embed", "cls_token", "blocks.0.mlp.fc1.weight"} - set(state)
    if missing:
        raise ZerosegError(f"it has no {', '.join(sorted(missing))}")
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    places = state["pos_embed"].shape[1]
    side = int(places**0.5)
    if side**2 != places:  # the class token has a position: timm adds it to the token
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
        side = int((places - 1) ** 0.5)
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    vit = VisionTransformer(
        img_size=side * patch, patch_size=patch, embed_dim=width, num_heads=max(1, width // HEAD_SIZE),
        depth=1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / width, num_classes=0, global_pool="token",
        init_values=1.0 if "blocks.0.ls1.gamma" in state else None, reg_tokens=registers, no_embed_class=True,
    )  # fmt: skip
    vit.load_state_dict(state)
    return vit
