"""The CLIP teacher: the image tower of any open_clip model, and dense maps from a plain ViT tower.

Dense maps follow MaskCLIP (Zhou et al., 2022, arXiv 2112.01071): in the last block every token keeps its own value
instead of what attention would mix in, and then goes through the block's MLP, the final norm and the projection.
"""

import difflib
import textwrap
from pathlib import Path

import torch
from torch import nn

from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.hub import fetching, quiet
from zeroseg.training.recipes import TeacherConfig
from zeroseg.training.teacher import Teacher, file_digest

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


class ClipTower(Teacher):
    """See the module; fields as in Teacher. Embeddings are unit vectors."""

    def __init__(self, config: TeacherConfig, device: str = "cpu"):
        self.spec, self.device = config.spec, device
        arch, _, tag = config.spec.partition(":")[2].partition("/")
        self.model, path = _load(arch, tag, device)
        self.visual = self.model.visual
        size = self.visual.image_size
        self.view_size = int(size[0] if isinstance(size, (tuple, list)) else size)
        self.space = SPACES.get(f"{arch}/{tag}", f"open_clip/{arch}/{path.name if path else tag}")
        self.has_dense = _is_plain_vit(self.visual)
        mean = getattr(self.visual, "image_mean", None) or (0.48145466, 0.4578275, 0.40821073)
        std = getattr(self.visual, "image_std", None) or (0.26862954, 0.26130258, 0.27577711)
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)
        with torch.no_grad():
            self.dim = self.embed(torch.zeros(1, 3, self.view_size, self.view_size)).shape[1]
        self.fingerprint = {"spec": f"open_clip:{arch}/{tag if path is None else file_digest(path)}",
                            "view_size": self.view_size, "dense": "maskclip"}

    @torch.no_grad()
    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """crops (B, 3, view_size, view_size) float32 in [0, 1] -> (B, D) float32 unit rows."""
        features = self.model.encode_image((crops.to(self.device) - self.mean) / self.std)
        return nn.functional.normalize(features.float(), dim=-1).cpu()

    def dense_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(view_size, view_size): the tower's positions fit one size, so the photo is squeezed to a square."""
        if not self.has_dense:
            return super().dense_size(size)
        return self.view_size, self.view_size

    @torch.no_grad()
    def dense(self, images: torch.Tensor) -> torch.Tensor:
        """images (B, 3, view_size, view_size) float32 in [0, 1] -> (B, h, w, D) float32 unit rows."""
        if not self.has_dense:
            return super().dense(images)
        visual, blocks = self.visual, self.visual.transformer.resblocks
        caught = []
        hook = blocks[-1].register_forward_pre_hook(lambda module, args: caught.append(args[0]))
        try:
            visual((images.to(self.device) - self.mean) / self.std)
        finally:
            hook.remove()
        x, block = caught[0], blocks[-1]
        if not getattr(visual.transformer, "batch_first", True):
            x = x.transpose(0, 1)
        x_BLC = x[:, 1:]
        attention = block.attn
        width = x_BLC.shape[2]
        bias = attention.in_proj_bias
        value = nn.functional.linear(block.ln_1(x_BLC), attention.in_proj_weight[2 * width:],
                                     None if bias is None else bias[2 * width:])
        x_BLC = x_BLC + block.ls_1(attention.out_proj(value))
        x_BLC = visual.ln_post(x_BLC + block.ls_2(block.mlp(block.ln_2(x_BLC))))
        if visual.proj is not None:
            x_BLC = x_BLC @ visual.proj
        grid = visual.grid_size
        places = x_BLC.reshape(len(x_BLC), grid[0], grid[1], -1)
        return nn.functional.normalize(places.float(), dim=-1).cpu()


def _load(arch: str, tag: str, device: str) -> tuple[nn.Module, Path | None]:
    """The open_clip model, and the local file its weights came from (None: the hub)."""
    try:
        import open_clip
    except ImportError as error:
        raise missing_extra("open_clip", "train", "An open_clip teacher") from error
    if not arch or not tag:
        raise ZerosegError("teacher: open_clip needs ARCH/TAG or ARCH/FILE, as in open_clip:ViT-L-14/openai")
    known = open_clip.list_models()
    if arch not in known:
        near = difflib.get_close_matches(arch, known, 3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ZerosegError(f"teacher: open_clip has no architecture {arch!r}{hint}")
    path = Path(tag)
    local = path.suffix in FILE_SUFFIXES or path.is_file()
    if local and not path.is_file():
        raise ZerosegError(f"teacher: there is no file {tag}")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not local and tag not in tags:
        raise ZerosegError(f"teacher: open_clip has no weights {tag!r} for {arch}; it has {', '.join(tags) or 'none'}")
    if not local:
        with fetching(f"weights of the teacher {arch}/{tag}", f"a file, as in --teacher open_clip:{arch}/FILE"):
            model = open_clip.create_model(arch, pretrained=tag, device=device)
        return model.eval().requires_grad_(False), None
    try:
        with quiet():
            model = open_clip.create_model(arch, pretrained=tag, device=device)
    except Exception as error:  # noqa: BLE001 torch.load and load_state_dict raise many kinds
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise ZerosegError(f"teacher: {tag} does not hold open_clip's {arch} ({reason})") from error
    return model.eval().requires_grad_(False), path


def _is_plain_vit(visual: nn.Module) -> bool:
    """Whether `dense` knows this tower: open_clip's VisionTransformer with a class token in front and plain blocks."""
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    return (blocks is not None and hasattr(visual, "grid_size") and hasattr(visual, "ln_post")
            and getattr(visual, "attn_pool", None) is None and isinstance(getattr(blocks[-1], "attn", None),
                                                                          nn.MultiheadAttention))
