"""The configuration of a training run as one frozen dataclass, and the named recipes.

A recipe has the numbers; photos, folders and label files come from the command line. [paper] marks values that the
ZeroSeg paper (arXiv 2306.00450) states, [MAE] values that it inherits, [open] values that it does not state. Standard
library only, so that help texts can quote it at once.
"""

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace

from zeroseg.config import PRESETS, ModelConfig
from zeroseg.errors import ZerosegError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# ImageNet-1k class numbers under WordNet 3.0's clothing, headdress, footwear, garment and hairpiece: what people wear.
WORN_CLASSES = (
    399,
    400,
    411,
    433,
    439,
    445,
    451,
    452,
    457,
    459,
    465,
    474,
    496,
    502,
    514,
    515,
    518,
    529,
    552,
    560,
    568,
    578,
    601,
    608,
    610,
    614,
    615,
    617,
    630,
    638,
    639,
    643,
    652,
    655,
    658,
    667,
    689,
    697,
    735,
    770,
    774,
    775,
    785,
    793,
    806,
    808,
    824,
    834,
    841,
    842,
    869,
    887,
    903,
    906,
)


@dataclass(frozen=True)
class ConseConfig:
    """How class probabilities become vectors."""

    depth_decay: float = 0.7  # g: weight of a name per step up WordNet
    strength_context: float = 1.0  # image-level mean logits added before a place's strength is read
    name_context: float = 3.0  # the same, before its name (direction) is read
    class_balance: float = 0.0  # 0 ... 1: how far a name's weight stops growing with its number of classes (118 dogs)
    strength_power: float = 1.0  # exponent of a place's strength; above 1 keeps the sure places and hushes the rest
    photo_balance: float = 0.0  # 0 ... 1: how far the strongest place of each photo is moved towards photo_level
    photo_level: float = 0.5
    worn_weight: float = 2.0  # weight of worn_name in classes of things people wear (ImageNet has no person); 0 = off
    worn_gain: float = 0.0  # > 0: worn_name takes min(1, gain x their probability) of a place, whatever else is there
    probe_share: float = 0.3  # with a probe for worn_name: its part of the evidence, the clothes have the rest
    worn_name: str = "person"
    worn_classes: tuple[int, ...] = WORN_CLASSES


@dataclass(frozen=True)
class TeacherConfig:
    """The settings of a teacher, without the label files."""

    spec: str  # KIND:NAME, see zeroseg.training.teacher
    weights: str | None = None  # timm: folder with NAME.safetensors; None = the hub
    tf_weights: tuple[str, ...] = ("mobilenetv2_100",)  # timm: local weights that came from TensorFlow, that is with
    #                                                     "same" padding and inputs in [-1, 1] where timm's own differ
    probe: str | None = None  # timm: .npz from training/person_probe.py, where conse.worn_name is; needs worn_gain
    reading: str | None = None  # open_clip: the last block for dense maps, zeroseg.dense.readings; None: the best for
    #                             the tower
    helper: str | None = None  # open_clip: in place of a reading, a name or a file of zeroseg.dense.helper
    view_size: int = 224  # px, side of the crops a classifier embeds; a CLIP tower has its own
    dense_short_side: int = 448  # px, short side of the photo a dense map is read from
    windows: bool = False  # open_clip: dense maps from overlapping windows; False: the photo resized to one window
    dense_stride: int = 16  # px between places (the last stage is dilated)
    conse: ConseConfig = field(default_factory=ConseConfig)


@dataclass(frozen=True)
class ViewConfig:
    """What is cached of each photo."""

    grids: tuple[int, ...] = (1, 2, 3, 4)  # [paper] cells per side; () = no views
    dense_grid: int = 0  # places per side of the dense map; 0 = none


@dataclass(frozen=True)
class DiffusionConfig:
    """How dense targets spread over similar patches; see zeroseg.training.diffusion."""

    share: float = 0.0  # a: part of a target that comes from elsewhere at each step; 0 = off
    tau: float = 0.1  # temperature of the features' cosine
    reach: float = 0.3  # distance that costs as much as tau of cosine, in sides of the photo
    steps: int = 10


@dataclass(frozen=True)
class PartsConfig:
    """Helper teachers that improve the dense targets; see zeroseg.training.teachers. All off: the teacher alone."""

    weights: str | None = None  # folder with their files
    walk: bool = False  # DINO's affinity carries the teacher's map; `diffusion` says how
    dino: str | None = None  # timm's name of the ViT whose tokens give the affinity; None: DINOv2 tuned for saliency
    saliency: bool = False  # what does not stand out is background
    detectors: tuple[str, ...] = ()  # nanodet, centernet: boxes of COCO's 80 names
    persons: bool = False  # person masks inside nanodet's boxes
    streets: tuple[
        str, ...
    ] = ()  # photos of streets, by how their names begin ("streets/"); these get Cityscapes' names
    stuff: tuple[str, ...] = ()  # names of the street network that count in every photo, such as "sky"
    short_side: int = 224  # px, short side of the photo as DINO reads it
    dense_grid: int = 12  # cells per side of the teacher's cached map
    box_score: float = 0.2  # boxes below this score are left out
    box_power: float = 1.0  # a box's strength is its score to this power
    box_floor: float = 0.0  # least saliency with which a place in a box counts
    person_score: float = 0.35  # the same, for the boxes in which persons are looked for
    street_strength: float = 0.8  # of the names of streets


@dataclass(frozen=True)
class CropConfig:
    """The settings of random crops."""

    sizes: tuple[tuple[int, int], ...] = ((224, 224),)  # (H, W) px the network sees; one is drawn per batch or crop
    area: tuple[float, float] = (0.35, 1.0)  # share of the largest box of the drawn shape that fits in the photo
    stretch: float = 1.2  # aspect ratio is jittered by up to this factor
    flip: float = 0.5  # probability
    jitter: float = 0.3  # brightness, contrast and saturation are scaled by 1 - j ... 1 + j


@dataclass(frozen=True)
class LossWeights:
    """Weight of every loss of zeroseg.training.objective.LOSSES; 0 leaves it out."""

    reconstruction: float = 0.0
    multi_scale: float = 0.0
    global_view: float = 0.0
    segment_matching: float = 0.0
    group_variance: float = 0.0
    segment_name: float = 0.0
    place: float = 0.0
    image_name: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    # Student
    preset: str = "base"
    model: dict = field(default_factory=dict)  # fields of ModelConfig that differ from the preset
    stem_pretrained: bool = True  # hybrid encoder: start the stem from ImageNet weights
    freeze_stem: bool = False
    mean: tuple = IMAGENET_MEAN  # per channel, of RGB in [0, 1]; what the network's input is normalised with
    std: tuple = IMAGENET_STD
    # Targets
    teacher: TeacherConfig = field(default_factory=lambda: TeacherConfig("open_clip:ViT-L-14/openai"))
    views: ViewConfig = field(default_factory=ViewConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)
    # Photos
    augment: str = "centre"  # "centre": the centre square at crops.sizes[0] [paper]; "crops": random crops
    crops: CropConfig = field(default_factory=CropConfig)
    stem_views: int = 0  # frozen stem: cache its features of this many crops per photo; 0 = run it in training
    shuffle_shards: int = 16  # photos in shards: how many shards' photos are shuffled together
    repeat_share: float = 0.0  # photos of names that a smaller share of photos have are repeated (rare.py); 0 = none
    val_photos: int = 64  # held out: their losses are logged, the first are drawn
    stem_flips: bool = False  # cached stem features are mirrored at random, with their targets
    # Losses
    losses: LossWeights = field(default_factory=LossWeights)
    view_reduction: str = "mean"  # [open] over the views of multi_scale: mean or sum
    segment_reduction: str = "mean"  # [open] over the segments of segment_matching
    dim_reduction: str = "mean"  # [open] over embedding dimensions
    # Optimisation: AdamW, linear warm-up, half-cycle cosine to min_lr, both per step
    epochs: float = 80  # [paper]
    warmup_epochs: float = 20  # [paper]
    batch: int = 4096  # [paper] photos per step over all processes
    micro_batch: int = 64  # photos per forward pass; gradients of a step are accumulated
    lr: float = 1.5e-4  # [paper]
    lr_per_photos: int = 256  # [open] lr is multiplied by batch / this, as in MAE; 0 = lr as it is
    min_lr: float = 0.0
    betas: tuple = (0.9, 0.95)  # [MAE]
    adam_eps: float = 1e-8  # AdamW's default
    weight_decay: float = 0.05  # [MAE] none on biases, norms and other 1-D parameters
    clip_norm: float = 0.0  # 0 = off [MAE]
    ema_decay: float = 0.0  # 0 = off; else the averaged weights are the result
    keep_best: bool = False  # the result is that of the epoch with the lowest loss on the held-out photos
    precision: str = "auto"  # fp32, bf16 (autocast) or auto: bf16 where it is there on a GPU or measured faster
    compile: bool = False  # torch.compile; slower to begin, other random numbers in the assignment's noise
    recompute: bool = False  # gradient checkpointing: activations of the encoder's blocks are computed twice, not kept
    seed: int = 0
    # What the finished model says about its use
    name: str = "zeroseg"
    short_side: int = 448  # px, of the photo at inference [paper]
    max_long_side: int = 1024  # px
    threshold: float = 0.0  # score below which a segment is background

    def model_config(self) -> ModelConfig:
        """The student's configuration; ZerosegError on an unknown preset or wrong field."""
        if self.preset not in PRESETS:
            raise ZerosegError(f"preset: expected one of {', '.join(PRESETS)}, got {self.preset!r}")
        try:
            return ModelConfig.from_dict(PRESETS[self.preset].to_dict() | self.model)
        except ValueError as error:
            raise ZerosegError(str(error)) from error

    def peak_lr(self) -> float:
        """Learning rate after warm-up."""
        return self.lr * self.batch / self.lr_per_photos if self.lr_per_photos else self.lr

    def to_dict(self) -> dict:
        """JSON-able, the inverse of from_dict."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """ZerosegError on unknown fields."""
        return _from_dict(cls, values, "")

    def set(self, path: str, value) -> "TrainConfig":
        """A copy with one field changed: "lr", "losses.place", "model.head_width"."""
        values = self.to_dict()
        *parents, last = path.split(".")
        place = values
        for name in parents:
            place = place.get(name)
            if not isinstance(place, dict):
                raise ZerosegError(f"{path}: {name} is not a group of settings")
        if place is not values["model"] and last not in place:
            raise ZerosegError(f"{path}: no such setting; there are {', '.join(place)}")
        place[last] = value
        return self.from_dict(values)

    def changed(self, change: str) -> "TrainConfig":
        """A copy with one field changed as --set writes it: "losses.place=2"; the value is JSON, or a plain word."""
        path, equals, text = change.partition("=")
        if not equals:
            raise ZerosegError(f"--set: expected FIELD=VALUE, got {change!r}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        return self.set(path, value)


def _from_dict(cls, values: dict, where: str):
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ZerosegError(f"training config: unknown setting {where}{unknown[0]}; written by another version?")
    result = {}
    for name, value in values.items():
        kind = known[name].type
        if is_dataclass(kind):
            value = _from_dict(kind, value, f"{where}{name}.")
        else:
            value = _checked(f"{where}{name}", _to_tuple(value), kind)
        result[name] = value
    return cls(**result)


def _to_tuple(value):
    return tuple(map(_to_tuple, value)) if isinstance(value, list) else value


def _checked(name: str, value, kind):
    """The value as the field's kind; ZerosegError naming the field."""
    base = getattr(kind, "__origin__", kind)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if base in (int, float, str, bool, tuple, dict) and type(value) is not base:
        raise ZerosegError(f"{name}: expected {base.__name__}, got {value!r}")
    return value


_PAPER = TrainConfig(losses=LossWeights(reconstruction=1.0, multi_scale=1.0, segment_matching=1.0))

_DENSE = TrainConfig(
    preset="tiny",
    freeze_stem=True,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    teacher=TeacherConfig(
        "timm:tf_efficientnet_lite2+tf_efficientnet_lite0+mobilenetv2_100",
        dense_short_side=352,
        dense_stride=32,
        conse=ConseConfig(strength_power=1.5, photo_balance=0.3, worn_gain=2.0),
    ),
    views=ViewConfig(grids=(), dense_grid=20),
    diffusion=DiffusionConfig(share=0.97),
    augment="crops",
    crops=CropConfig(sizes=((256, 256), (256, 320), (320, 256)), area=(0.4, 1.0)),
    stem_views=2,
    losses=LossWeights(group_variance=1.0, segment_name=1.0, place=1.0, image_name=0.1),
    epochs=6,
    warmup_epochs=0.3,
    batch=32,
    micro_batch=32,
    lr=6e-4,
    lr_per_photos=0,
    betas=(0.9, 0.99),
    clip_norm=1.0,
    ema_decay=0.997,
    short_side=320,
    max_long_side=640,
    name="tiny",
)

_IMAGENET = replace(
    _DENSE,
    teacher=replace(_DENSE.teacher, spec="timm:tf_efficientnet_lite2+tf_efficientnet_lite0", dense_short_side=256),
    views=ViewConfig(grids=(), dense_grid=24),
    parts=PartsConfig(walk=True, saliency=True, short_side=196),
    crops=CropConfig(sizes=((256, 256), (224, 288), (288, 224)), area=(0.4, 1.0)),
    stem_flips=True,
    val_photos=32,
    keep_best=True,
    lr=7e-4,
    ema_decay=0.97,
    short_side=288,
    name="tiny-imagenet",
)

_EVERYDAY = replace(
    _IMAGENET,
    parts=replace(
        _IMAGENET.parts,
        detectors=("nanodet", "centernet"),
        box_power=0.6,
        box_floor=0.1,
        persons=True,
        streets=("streets/",),
        stuff=("sky", "tree", "grass"),
        street_strength=0.6,
    ),
    repeat_share=0.05,
    model={"prototypes": 1090, "prototype_classifier": True},
    lr=6e-4,
    name="tiny",
)

# CLIP's own patches as targets, spread by a DINO that saw no labels. Nothing of it was tuned: no CLIP weights were at
# hand. A frozen stem, so that a photo costs little more than its decoding.
_CLIP = replace(
    _DENSE,
    teacher=TeacherConfig("open_clip:ViT-B-16/openai", dense_short_side=336, windows=True),
    model={"readout": "projector", "stem_head": False, "embedding_space": "openai/clip-vit-base-patch16"},
    views=ViewConfig(grids=(), dense_grid=16),
    parts=PartsConfig(walk=True, dino="vit_small_patch14_dinov2.lvd142m", dense_grid=16),
    stem_views=0,
    epochs=8,
    batch=256,
    micro_batch=256,
    lr=1e-3,
    val_photos=256,
    keep_best=True,
    name="tiny-clip",
)

RECIPES = {"paper": _PAPER, "dense": _DENSE, "imagenet": _IMAGENET, "everyday": _EVERYDAY, "clip": _CLIP}
