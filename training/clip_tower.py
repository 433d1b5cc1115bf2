"""The CLIP teacher: the image tower of any open_clip model, and dense maps from a plain ViT tower.

Dense maps follow MaskCLIP (Zhou et al., 2022, arXiv 2112.01071): in the last block every token keeps its own value
instead of what attention would mix in, and then goes through the block's MLP, the final norm and the projection.
"""

import torch
from torch import nn

from zeroseg.dense.weights import load_open_clip, normalisation, space_of, weights_file
from zeroseg.training.recipes import TeacherConfig
from zeroseg.training.teacher import Teacher, file_digest


class ClipTower(Teacher):
    """See the module; fields as in Teacher. Embeddings are unit vectors."""

    def __init__(self, config: TeacherConfig, device: str = "cpu"):
        self.spec, self.device = config.spec, device
        arch, _, tag = config.spec.partition(":")[2].partition("/")
        self.model = load_open_clip(arch, tag, device, "teacher", "--teacher")
        path = weights_file(tag)
        self.visual = self.model.visual
        size = self.visual.image_size
        self.view_size = int(size[0] if isinstance(size, (tuple, list)) else size)
        self.space = space_of(arch, tag)
        self.has_dense = _is_plain_vit(self.visual)
        mean, std = normalisation(self.visual)
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


def _is_plain_vit(visual: nn.Module) -> bool:
    """Whether `dense` knows this tower: open_clip's VisionTransformer with a class token in front and plain blocks."""
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    return (blocks is not None and hasattr(visual, "grid_size") and hasattr(visual, "ln_post")
            and getattr(visual, "attn_pool", None) is None and isinstance(getattr(blocks[-1], "attn", None),
                                                                          nn.MultiheadAttention))
