"""The ConSE teacher: one or more ImageNet classifiers from timm, with averaged logits, mapped to a text space.

Each network's head is applied to every cell of its last feature map. The average over the cells equals the network's
own prediction for the photo (the heads are linear after the mean). Dilating the last stage gives the map stride 16.
"""

import difflib
import textwrap
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import nn

from zeroseg.errors import ZerosegError
from zeroseg.files import sha256
from zeroseg.hub import fetching
from zeroseg.training.conse import LabelSpace, Probe, class_vectors, name_vector, read_logits
from zeroseg.training.forward import FrozenForward
from zeroseg.training.recipes import TeacherConfig
from zeroseg.training.row_cache import digest
from zeroseg.training.teacher import Teacher

MULTIPLE = 32  # sides of dense inputs, px: the coarsest stride of the networks
LONGEST = 2.0  # a dense input is at most this many times longer than wide; longer photos are squeezed


class PlaceLogits(nn.Module):
    """A timm classifier with its head at every map cell: (B, 3, H, W) in [0, 1] -> (B, h, w, C) logits."""

    def __init__(self, net: nn.Module, mean, std):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x_BChw = self.net.forward_features((images - self.mean) / self.std)
        x_BhwC = x_BChw.permute(0, 2, 3, 1)
        logits = self.net.forward_head(x_BhwC.reshape(-1, x_BhwC.shape[3], 1, 1))
        return logits.reshape(x_BhwC.shape[0], x_BhwC.shape[1], x_BhwC.shape[2], -1)


class ClassifierEnsemble(Teacher):
    """See the module; fields as in Teacher."""

    has_dense = True

    def __init__(self, config: TeacherConfig, labels: LabelSpace, device: str = "cpu", impl: str = "auto"):
        self.config, self.spec, self.space = config, config.spec, labels.space
        self.names = config.spec.partition(":")[2].split("+")
        self.view_size = config.view_size
        self.device, self.impl = device, impl
        self.vectors = torch.from_numpy(class_vectors(labels, config.conse))
        self.dim = self.vectors.shape[1]
        self.centre = torch.from_numpy(labels.mean())
        self.worn = torch.from_numpy(name_vector(labels, config.conse.worn_name)) if config.conse.worn_gain else None
        self.probe = Probe.load(config.probe, len(self.vectors)) if config.probe and config.conse.worn_gain else None
        self._files = {name: _weights_file(config, name) for name in self.names}
        self._nets = {}  # stride -> networks, built when they are first needed
        self.fingerprint = {
            "spec": config.spec,
            "space": self.space,
            "view_size": config.view_size,
            "weights": [sha256(path) if path else "hub" for path in self._files.values()],
            "tf_weights": sorted(set(config.tf_weights) & set(self.names)),
            "dense": [config.dense_short_side, config.dense_stride, LONGEST],
            "vectors": digest([round(float(v), 5) for v in self.vectors.flatten()]),
            "reading": [
                config.conse.strength_context,
                config.conse.name_context,
                config.conse.strength_power,
                config.conse.photo_balance,
                config.conse.photo_level,
                config.conse.worn_gain,
            ],
        }
        if config.conse.class_balance:
            self.fingerprint["class_balance"] = config.conse.class_balance
        if self.probe is not None:
            self.fingerprint["probe"] = [config.conse.probe_share, sha256(config.probe)]

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """crops (B, 3, view_size, view_size) float32 in [0, 1] -> (B, D) float32."""
        logits = self._logits(crops, 32).mean((1, 2), keepdim=True)
        return self.read(logits)[:, 0, 0]

    def dense_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) in pixels for a photo of size (width, height): short side as configured, multiples of 32."""
        width, height = size
        short, long = min(size), max(size)
        sides = [self.config.dense_short_side, self.config.dense_short_side * min(long / short, LONGEST)]
        short, long = (max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in sides)
        return (short, long) if height <= width else (long, short)

    def dense(self, images: torch.Tensor) -> torch.Tensor:
        """images (B, 3, H, W) float32 in [0, 1], of dense_size -> (B, h, w, D) float32."""
        return self.read(self.logits(images))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The same images -> mean class logits of the networks, (B, h, w, C) float32."""
        return self._logits(images, self.config.dense_stride)

    def read(self, logits: torch.Tensor) -> torch.Tensor:
        """Class logits of map cells (B, h, w, C) -> embeddings (B, h, w, D)."""
        return read_logits(logits, self.vectors, self.config.conse, self.worn, self.probe)

    def prototypes(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(count, D) vectors for a student's readout, the classes' and then the worn name's, and the (D,) centre."""
        rows = self.vectors if self.worn is None else torch.cat([self.vectors, self.worn[None]])
        if count != len(rows):
            raise ZerosegError(
                f"model.prototypes: expected {len(rows)}, the teacher's classes and the name people "
                f"get if worn_gain is set, got {count}"
            )
        return rows, self.centre

    def _logits(self, images: torch.Tensor, stride: int) -> torch.Tensor:
        """Mean logits over the networks, (B, h, w, C), on the first network's places."""
        if stride not in self._nets:
            self._nets[stride] = self._build(stride)
        total = None
        for net in self._nets[stride]:
            (logits,) = net(images)
            if total is None:
                total = logits
                continue
            if logits.shape != total.shape:
                logits = F.interpolate(logits.permute(0, 3, 1, 2), total.shape[1:3], mode="bilinear")
                logits = logits.permute(0, 2, 3, 1)
            total = total + logits
        return total / len(self._nets[stride])

    def _build(self, stride: int) -> list[FrozenForward]:
        return [
            FrozenForward(
                _create(self.config, name, self._files[name], len(self.vectors), stride),
                MULTIPLE,
                self.impl,
                self.device,
            )
            for name in self.names
        ]


def _weights_file(config: TeacherConfig, name: str) -> Path | None:
    """The local weights of a network, None for the hub's; ZerosegError for a name or file that is not there."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ZerosegError(f"teacher: timm has no network {name!r}{hint}")
    if config.weights is None:
        return None
    path = Path(config.weights) / f"{name}.safetensors"
    if not path.is_file():
        raise ZerosegError(
            f"teacher weights: {path} is missing; leave --teacher-weights out to download {name} from the hub"
        )
    return path


def _create(config: TeacherConfig, name: str, path: Path | None, classes: int, stride: int) -> PlaceLogits:
    from_tf = path is not None and name in config.tf_weights
    options = {"num_classes": classes} | ({"pad_type": "same"} if from_tf else {})
    if stride != 32:
        options["output_stride"] = stride
    try:
        net = timm.create_model(name, pretrained=False, **options)
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        raise ZerosegError(f"teacher: {name} gives no map at stride {stride}; is it convolutional?") from error
    if path is None:
        if net.pretrained_cfg["num_classes"] != classes:  # timm would put a new, random classifier in its place
            raise ZerosegError(
                f"teacher: {name} has {net.pretrained_cfg['num_classes']} classes, the class names {classes}"
            )
        with fetching(f"weights of the teacher {name}", f"--teacher-weights with {name}.safetensors"):
            net = timm.create_model(name, pretrained=True, **options)
    else:
        _load(net, path, name)
    data = net.pretrained_cfg
    mean, std = ((0.5,) * 3, (0.5,) * 3) if from_tf else (data["mean"], data["std"])
    return PlaceLogits(net, mean, std)


def _load(net: nn.Module, path: Path, name: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
        net.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise ZerosegError(f"teacher weights: {path} does not fit timm's {name} ({reason})") from error
