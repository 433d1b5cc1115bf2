"""Which places of a photo belong together: by a DINOv2 fine-tuned for saliency, which also says what stands out, or by
any self-supervised ViT of timm.

Affinity: the mean cosine of the tokens of three layers, each centred over the photo, less the squared distance,

    S_ij = softmax_j((mean_l cos(f_li, f_lj) - 1) / tau - |p_i - p_j|^2 / reach^2)

as in zeroseg.training.diffusion, with other features. Only the largest entries of each row are kept.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.files import sha256
from zeroseg.hub import fetching
from zeroseg.training.recipes import IMAGENET_MEAN, IMAGENET_STD, DiffusionConfig
from zeroseg.training.teachers.onnx_network import OnnxNetwork
from zeroseg.training.teachers.part import Part, as_bytes

FILE = "dinov2s_saliency.onnx"
DEFAULT_VIT = "vit_small_patch14_dinov2.lvd142m"
PATCH = 14  # px
LAYERS = ("tokens_6", "tokens_9", "tokens_12")
MOST_PATCHES = 46  # per side: what the network's position table was measured with
LONGEST = 2.0  # the long side is read at most this many times as long as the short one
KEPT = 32  # entries of a row of the affinity that are kept
SALIENCY_GRID = 48  # cells per side of the cached saliency, over the whole photo


class Dino(Part):
    """Arrays: index (L, KEPT) uint16 and weight (L, KEPT) float16, rows sum to 1, of the first h * w places, row by
    row; grid (2,) uint8, (h, w); saliency (SALIENCY_GRID, SALIENCY_GRID) uint8, 255 = stands out.
    """

    name = "dino"

    def __init__(self, folder, short_side: int, walk: DiffusionConfig):
        """folder with FILE; short_side px of the photo as it is read, a multiple of 14."""
        self.network = OnnxNetwork(f"{folder}/{FILE}")
        self.short_side, self.walk = short_side, walk
        short = max(1, round(short_side / PATCH))
        places = short * min(MOST_PATCHES, round(LONGEST * short))
        self.arrays = {
            "index": ((places, KEPT), "uint16"),
            "weight": ((places, KEPT), "float16"),
            "grid": ((2,), "uint8"),
            "saliency": ((SALIENCY_GRID, SALIENCY_GRID), "uint8"),
        }
        self.fingerprint = {
            "file": sha256(self.network.path),
            "short_side": short_side,
            "affinity": [walk.tau, walk.reach, KEPT],
        }

    def compute(self, image: Image.Image, photo_name: str, found) -> dict[str, np.ndarray]:
        grid = patch_grid(image.size, self.short_side)
        pixels = image.resize((grid[1] * PATCH, grid[0] * PATCH), Image.Resampling.BICUBIC)
        values = (np.asarray(pixels, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
        out = self.network(image=values.astype(np.float32).transpose(2, 0, 1)[None])
        tokens = [torch.from_numpy(out[layer][0, 1:]) for layer in LAYERS]
        whole = _rows(self.arrays, tokens, grid, self.walk)
        saliency = F.adaptive_avg_pool2d(torch.from_numpy(out["saliency"]), (SALIENCY_GRID, SALIENCY_GRID))
        whole["saliency"] = as_bytes(saliency[0, 0].numpy())
        return whole


class TimmDino(Part):
    """The affinity of a ViT of timm, such as vit_small_patch14_dinov2.lvd142m or vit_base_patch8_224.dino.

    Arrays: index, weight and grid as in Dino, of the tokens after a half, three quarters and all of its blocks (6, 9
    and 12 of 12), each normalised by the network's last norm.
    """

    name = "dino"

    def __init__(self, model: str, folder, short_side: int, walk: DiffusionConfig, device: str = "cpu"):
        """model  timm's name. folder  with MODEL.safetensors, or None: the hub. short_side  px, as Dino."""
        self.network, self.model_name = load_vit(model, folder), model
        self.patch = int(self.network.patch_embed.patch_size[0])
        self.short_side, self.walk, self.device = short_side, walk, device
        self.network.to(device)
        pretrained = self.network.pretrained_cfg or {}
        self.mean, self.std = (pretrained.get(k) or v for k, v in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)))
        short = max(1, round(short_side / self.patch))
        places = short * min(MOST_PATCHES, round(LONGEST * short))
        self.arrays = {
            "index": ((places, KEPT), "uint16"),
            "weight": ((places, KEPT), "float16"),
            "grid": ((2,), "uint8"),
        }
        file = None if folder is None else Path(folder) / f"{model}.safetensors"
        self.fingerprint = {
            "timm": sha256(file) if file is not None and file.is_file() else model,
            "short_side": short_side,
            "affinity": [walk.tau, walk.reach, KEPT],
        }

    @torch.no_grad()
    def compute(self, image: Image.Image, photo_name: str, found) -> dict[str, np.ndarray]:
        grid = patch_grid(image.size, self.short_side, self.patch)
        pixels = image.resize((grid[1] * self.patch, grid[0] * self.patch), Image.Resampling.BICUBIC)
        values = ((np.asarray(pixels, np.float32) / 255 - self.mean) / self.std).astype(np.float32)
        tensor = torch.from_numpy(values.transpose(2, 0, 1)[None]).to(self.device)
        tokens = self.network.forward_intermediates(
            tensor,
            indices=middle_blocks(len(self.network.blocks)),
            norm=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return _rows(self.arrays, [layer[0].float().cpu() for layer in tokens], grid, self.walk)


def load_vit(model: str, folder=None, weights: bool = True):
    """A ViT of timm for images of any size, in evaluation mode, with folder/MODEL.safetensors or the hub's weights.

    weights  False: random ones. ZerosegError for a name or file that is wrong.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise missing_extra("timm", "train", f"The helper teacher {model}") from error
    if not timm.is_model(model):
        raise ZerosegError(f"parts.dino: timm has no model {model!r}")
    file = None if folder is None else Path(folder) / f"{model}.safetensors"
    local = weights and file is not None and file.is_file()
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0, dynamic_img_size=True)
    except TypeError as error:  # of an option that plain ViTs have
        raise ZerosegError(f"parts.dino: {model} is no plain ViT; take one such as {DEFAULT_VIT}") from error
    if not hasattr(network, "blocks") or not hasattr(network, "forward_intermediates"):
        raise ZerosegError(f"parts.dino: {model} is no plain ViT; take one such as {DEFAULT_VIT}")
    if weights and not local:
        with fetching(f"weights of {model}", f"--helper-weights DIR with {model}.safetensors"):
            network = timm.create_model(model, pretrained=True, num_classes=0, dynamic_img_size=True)
    if local:
        from safetensors.torch import load_file

        try:
            network.load_state_dict(load_file(file))
        except Exception as error:  # noqa: BLE001 safetensors and load_state_dict raise many kinds
            raise ZerosegError(f"teachers: {file} does not fit timm's {model} ({type(error).__name__})") from error
    return network.eval().requires_grad_(False)


def middle_blocks(count: int) -> list[int]:
    """The blocks after which tokens are taken, from 0, each once: those at a half, three quarters and all."""
    return sorted({max(1, count * share // 4) - 1 for share in (2, 3, 4)})


def _rows(arrays: dict, tokens: list[torch.Tensor], grid: tuple[int, int], walk: DiffusionConfig) -> dict:
    """index, weight and grid, the arrays that every DINO gives, filled with zeros up to their shapes."""
    index, weight = keep_largest(affinity(tokens, grid, walk), KEPT)
    whole = {name: np.zeros(shape, dtype) for name, (shape, dtype) in arrays.items()}
    whole["index"][: len(index), : index.shape[1]] = index.numpy()
    whole["weight"][: len(index), : index.shape[1]] = weight.numpy()
    whole["grid"][:] = grid
    return whole


def patch_grid(size: tuple[int, int], short_side: int, patch: int = PATCH) -> tuple[int, int]:
    """(h, w) patches of a photo of size (width, height): the aspect up to LONGEST, MOST_PATCHES a side at most."""
    width, height = size
    short = max(1, round(short_side / patch))
    long = min(MOST_PATCHES, round(short * min(LONGEST, max(size) / min(size))))
    return (short, max(short, long)) if height <= width else (max(short, long), short)


def affinity(tokens: list[torch.Tensor], grid: tuple[int, int], config: DiffusionConfig) -> torch.Tensor:
    """Features of several layers, each (L, C) float32, of the places of a grid (h, w), row by row -> (L, L) float32,
    rows sum to 1."""
    similarity = 0.0
    for f_LC in tokens:
        f_LC = F.normalize(f_LC - f_LC.mean(dim=0), dim=1)
        similarity = similarity + f_LC @ f_LC.T / len(tokens)
    rows, columns = (torch.arange(grid[0]) + 0.5) / grid[0], (torch.arange(grid[1]) + 0.5) / grid[1]
    place_L2 = torch.cartesian_prod(rows, columns)
    distance_LL = torch.cdist(place_L2, place_L2).square() / config.reach**2
    return ((similarity - 1) / config.tau - distance_LL).softmax(dim=-1)


def keep_largest(affinity_LL: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The count largest entries of each row as (index (L, k) int64, weight (L, k) float32), rows sum to 1 again."""
    weight, index = affinity_LL.topk(min(count, affinity_LL.shape[1]), dim=1)
    return index, weight / weight.sum(dim=1, keepdim=True)


def spread_out(index: np.ndarray, weight: np.ndarray, places: int) -> torch.Tensor:
    """Inverse of keep_largest for cached rows: the (places, places) float32 matrix, rows sum to 1."""
    matrix = torch.zeros(places, places)
    weight = torch.from_numpy(weight[:places].astype(np.float32))
    matrix.scatter_add_(1, torch.from_numpy(index[:places].astype(np.int64)), weight)
    return matrix / matrix.sum(dim=1, keepdim=True)


def walk(affinity_LL: torch.Tensor, values_LD: torch.Tensor, config: DiffusionConfig) -> torch.Tensor:
    """The walk with restart of zeroseg.training.diffusion over one photo: values (L, D) float32 -> the same shape."""
    walked = values_LD
    for _ in range(config.steps):
        walked = config.share * (affinity_LL @ walked) + (1 - config.share) * values_LD
    return walked
