"""The hybrid encoder's convolutional stem: a timm EfficientNet-family network read at strides 16 and 32.

TensorFlow's "SAME" padding depends on the input's parity. Here sides are multiples of 32, so every strided convolution
sees even sides and the padding is a constant: (k - 2) // 2 before, the rest after. That keeps exported graphs plain.
"""

from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.models.efficientnet import EfficientNet
from torch import nn

from zeroseg.config import ModelConfig
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.model.encoder import grid_positions


class StemFeatures(NamedTuple):
    """fine (B, Cf, H/16, W/16) and coarse (B, Cc, H/32, W/32), the last maps of their strides before the head."""

    fine: torch.Tensor
    coarse: torch.Tensor


class EvenPadConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's SAME padding for even input sides."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.kernel_size[0] - self.stride[0]
        before, after = total // 2, total - total // 2
        return F.conv2d(
            F.pad(x, (before, after, before, after)), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


class ConvStem(nn.Module):
    """The network up to its last block, and (config.stem_head) its 1x1 head and classifier, under timm's names."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        net = _create(config.stem)
        reductions = [(info["reduction"], info["num_chs"]) for info in net.feature_info]
        self.fine_channels = dict(reductions)[16]
        self.coarse_channels = dict(reductions)[32]
        self.fine_block = _last_block(net, 16)
        self.frozen_norms = config.stem_norm_frozen
        self.conv_stem, self.bn1, self.blocks = net.conv_stem, net.bn1, net.blocks
        if config.stem_head:
            self.conv_head, self.bn2, self.classifier = net.conv_head, net.bn2, net.classifier
        else:
            self.conv_head = self.bn2 = self.classifier = None
        _make_padding_static(self)

    def forward(self, image: torch.Tensor) -> StemFeatures:
        """image (B, 3, H, W), H and W multiples of 32."""
        x = self.bn1(self.conv_stem(image))
        fine = x
        for i, stage in enumerate(self.blocks):
            x = stage(x)
            if i == self.fine_block:
                fine = x
        return StemFeatures(fine, x)

    def head_features(self, coarse: torch.Tensor) -> torch.Tensor:
        """The network's own head at every place: (B, Cc, h, w) -> (B, 1280, h, w); `classifier` reads these."""
        return self.bn2(self.conv_head(coarse))

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen_norms:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def load_pretrained(self, name: str, path: str | Path | None = None) -> None:
        """ImageNet weights from a local safetensors file in timm's names, or, without a path, through timm.

        Raises ZerosegError when the file does not hold this network, UnavailableError when timm cannot fetch it.
        """
        state = _fetch(name) if path is None else _read_safetensors(path)
        own = self.state_dict()
        state = {k: v for k, v in state.items() if self.conv_head is not None or k in own}
        # num_batches_tracked is a counter that files may leave out
        missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
        wrong = [k for k in state if k not in own or own[k].shape != state[k].shape]
        if missing or wrong:
            raise ZerosegError(
                f"{path or name}: not the weights of {name}: {len(missing)} tensors missing, {len(wrong)} unknown or "
                f"of another shape (first: {(missing + wrong)[0]})"
            )
        self.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()}, strict=False)


class HybridTokens(nn.Module):
    """Both stem maps -> tokens at stride 16: LayerNorm(Linear(fine) + up2(Linear(coarse)) + positions)."""

    def __init__(self, config: ModelConfig, stem: ConvStem):
        super().__init__()
        self.config = config
        self.fine = nn.Conv2d(stem.fine_channels, config.width, 1)
        self.coarse = nn.Conv2d(stem.coarse_channels, config.width, 1, bias=False)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        for conv in (self.fine, self.coarse):
            nn.init.xavier_uniform_(conv.weight.flatten(1))
        nn.init.zeros_(self.fine.bias)

    def forward(self, features: StemFeatures) -> tuple[torch.Tensor, tuple]:
        """Returns tokens (B, L, C) and the grid (h, w) of the fine map."""
        fine, coarse = features
        upsampled = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        x_BCHW = self.fine(fine) + upsampled
        grid = tuple(fine.shape[2:])
        x_BLC = x_BCHW.flatten(2).transpose(1, 2)
        return self.norm(x_BLC + grid_positions(self.config, grid, x_BLC.shape[2], x_BLC.device)), grid


def _create(name: str) -> EfficientNet:
    try:
        net = timm.create_model(name, num_classes=1000, pretrained=False)
    except RuntimeError as error:
        raise ZerosegError(f"stem: timm has no model called {name!r}") from error
    if not isinstance(net, EfficientNet) or getattr(net, "conv_head", None) is None:
        raise ZerosegError(f"stem: expected a network of timm's EfficientNet family, got {name!r}")
    return net


def _last_block(net: EfficientNet, reduction: int) -> int:
    modules = [info["module"] for info in net.feature_info if info["reduction"] == reduction]
    return int(modules[-1].split(".")[1])


def _make_padding_static(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            if child.stride != (2, 2) or child.dilation != (1, 1):
                raise ZerosegError(f"stem: expected SAME padding on stride-2 convolutions only, {name} is another kind")
            bias = child.bias is not None
            static = EvenPadConv2d(
                child.in_channels, child.out_channels, child.kernel_size, 2, groups=child.groups, bias=bias
            )
            static.load_state_dict(child.state_dict())
            setattr(module, name, static)
        else:
            _make_padding_static(child)


def _read_safetensors(path: str | Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise ZerosegError(f"{path}: cannot be read as a safetensors file ({error})") from error


def _fetch(name: str) -> dict:
    try:
        return timm.create_model(name, num_classes=1000, pretrained=True).state_dict()
    except Exception as error:  # hub, network and cache problems have no common type
        why = type(error).__name__
        raise UnavailableError(f"{name}: pretrained weights cannot be downloaded ({why}); give a local file") from error
